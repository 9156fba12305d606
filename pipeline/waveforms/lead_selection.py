"""Select the twelve leads among a record's signals and convert their samples to mV."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, Integer

from enecg.ecg_format import LEADS
from pipeline.waveforms.limb_leads import Derivation, derive_limb_leads
from pipeline.waveforms.wfdb_header import FORMATS, HeaderError, Signals

_MV_PER_UNIT = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "v": 1e3}
_NO_MISSING_VALUE = np.iinfo(np.int64).min

# In "lead-i" the minus sign is a hyphen; in "lead -avr" it inverts the lead.
_LEAD = re.compile(
    r"(?:(?:lead|ecg|ekg)(?:(?:[_:.-]\s*|\s*)(?=[a-z])|\s+(?=[-\u2212])))?"
    r"([-\u2212]?)(i{1,3}|av[rlf]|v[1-6])"
)
_SPELLINGS = {lead.lower(): lead for lead in LEADS}


class MissingLeadsError(Exception):
    """A record lacks some of the twelve leads.

    Args:
        message: The problem, as a clause without the name of the file.
        remedy: Alternative to excluding the record, as a clause without the name of the file.

    Attributes:
        remedy: The remedy.
    """

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, eq=False)
class LeadSelection:
    """The signals of a record that are leads, and the scale of their samples.

    Each array has one row per selected signal. The first signal of each recorded lead comes first,
    in the order of `LEADS`; further signals of the same leads come last.

    Attributes:
        rows: Index of each signal in the header.
        leads: Lead of each signal.
        recorded: Number of distinct recorded leads.
        gain: ADC units per physical unit, multiplied by -1 for an inverted lead; float32 if that is
            exact (see `_float32_is_exact`), else float64.
        zero: ADC value at 0 V, in the dtype of `gain`.
        mv_per_unit: Millivolts per physical unit.
        missing: Digital value of a missing sample; `_NO_MISSING_VALUE` if the format has none.
        derivations: Derivations of the leads that are not recorded.
    """

    rows: tuple[int, ...]
    leads: tuple[str, ...]
    recorded: int
    gain: Float[np.ndarray, "signal 1"]
    zero: Float[np.ndarray, "signal 1"]
    mv_per_unit: Float64[np.ndarray, "signal 1"]
    missing: Int64[np.ndarray, " signal"]
    derivations: tuple[Derivation, ...]

    def to_millivolts(
        self, digital: Integer[np.ndarray, "signal time"]
    ) -> Float32[np.ndarray, "signal time"]:
        """Return ``(digital - zero) / gain`` in mV with NaN for missing samples.

        The result has the same bits as a computation in float64 that is rounded at the end.
        """
        if self.gain.dtype == np.float32 and digital.dtype == np.int16:
            mv = digital.astype(np.float32)
            if self.zero.any():
                mv -= self.zero
            mv /= self.gain
        else:
            with np.errstate(over="ignore", under="ignore"):
                wide = (digital - self.zero.astype(np.float64)) / self.gain.astype(np.float64)
                mv = (wide * self.mv_per_unit).astype(np.float32)
        for lead in (digital.min(1) <= self.missing).nonzero()[0]:
            mv[lead, digital[lead] == self.missing[lead]] = np.nan
        return mv

    def find_contradictions(self, mv: Float32[np.ndarray, "signal time"]) -> tuple[str, ...]:
        """Return the leads for which several signals have different samples."""
        return tuple(
            lead
            for signal, lead in enumerate(self.leads[self.recorded :], self.recorded)
            if not np.array_equal(mv[signal], mv[self.leads.index(lead)], equal_nan=True)
        )

    def to_twelve(self, mv: Float32[np.ndarray, "signal time"]) -> Float32[np.ndarray, "12 time"]:
        """Return the twelve leads, including derived leads, in the order of `LEADS`."""
        if not self.derivations:
            return mv[: self.recorded]
        twelve = np.empty((len(LEADS), mv.shape[1]), np.float32)
        for signal, lead in enumerate(self.leads[: self.recorded]):
            twelve[LEADS.index(lead)] = mv[signal]
        for lead, sources, weights in self.derivations:
            first, second = (mv[self.leads.index(source)].astype(np.float64) for source in sources)
            twelve[LEADS.index(lead)] = weights[0] * first + weights[1] * second
        return twelve


@lru_cache(maxsize=32)
def select_leads(
    signals: Signals, units_per_mv: float | None, derive_leads: bool = False
) -> LeadSelection:
    """Select the signals of the twelve leads by name (see `parse_lead`).

    Args:
        signals: Signals of a record.
        units_per_mv: ADC units per mV of all leads, with 0 V at ADC value 0. None uses the gains,
            baselines and units of the header.
        derive_leads: Whether missing limb leads are computed from two recorded limb leads.

    Returns:
        The selected signals, with the scales of their samples.

    Raises:
        MissingLeadsError: A lead is missing and not derived.
        HeaderError: The format, gain or unit of a lead is invalid.
    """
    signals_of: dict[str, list[tuple[int, int]]] = {}
    for row, name in enumerate(signals.names):
        lead, sign = parse_lead(name)
        signals_of.setdefault(lead, []).append((row, sign))
    recorded = [lead for lead in LEADS if lead in signals_of]
    derivations = derive_limb_leads(recorded)
    missing_leads = [lead for lead in LEADS if lead not in signals_of]
    derivable = {derivation.lead for derivation in derivations}.issuperset(missing_leads)
    if missing_leads and not (derivable and derive_leads):
        names = ", ".join(name[:20] or "(no name)" for name in signals.names[:24])
        correct = "correct the lead names" if any(signals.names) else "add the lead names"
        raise MissingLeadsError(
            f"missing leads: {', '.join(missing_leads)}; "
            + (f"the signals are {names}" if any(signals.names) else "the signals have no names")
            + (", ..." if len(signals) > 24 else ""),
            "derive them with --derive-leads" if derivable else correct,
        )
    chosen = [(lead, *signals_of[lead][0]) for lead in recorded]
    chosen += [(lead, *signal) for lead in recorded for signal in signals_of[lead][1:]]
    leads, rows, signs = zip(*chosen, strict=True)
    for error in filter(None, (signals.errors[row] for row in rows)):
        raise HeaderError(*error)
    unknown = sorted({signals.units[row] for row in rows} - _MV_PER_UNIT.keys())
    if unknown and units_per_mv is None:
        raise HeaderError(
            f"signal unit is {', '.join(unknown)[:100]}, not V, mV or uV",
            "correct the unit in the header",
        )
    if units_per_mv is None:
        scales = [(signals.gains[row], signals.baselines[row], signals.units[row]) for row in rows]
    else:
        scales = [(units_per_mv, 0, "mv")] * len(rows)
    gains, zeros, units = zip(*scales, strict=True)
    missing = [FORMATS[signals.formats[row]].missing for row in rows]
    dtype = np.float32 if _float32_is_exact(scales) else np.float64
    return LeadSelection(
        rows=rows,
        leads=leads,
        recorded=len(recorded),
        gain=(_column(gains) * _column(signs)).astype(dtype),
        zero=_column(zeros).astype(dtype),
        mv_per_unit=_column([_MV_PER_UNIT[unit] for unit in units]),
        missing=np.array([_NO_MISSING_VALUE if v is None else v for v in missing], np.int64),
        derivations=derivations,
    )


def parse_lead(name: str) -> tuple[str, int]:
    """Return the lead named by a signal, and -1 if the lead is inverted, else 1.

    Case, ``Lead``, ``ECG`` or ``EKG`` before the lead, and a comment after ``#`` are ignored. A
    minus sign means an inverted lead, such as Cabrera's ``-aVR``.

    Args:
        name: Name of a signal.

    Returns:
        The lead as in `LEADS`, or the unchanged name if it does not name a lead; and the sign.
    """
    match = _LEAD.fullmatch(name.partition("#")[0].strip().lower())
    return (name, 1) if match is None else (_SPELLINGS[match[2]], -1 if match[1] else 1)


def _column(values: Sequence[float]) -> Float64[np.ndarray, "signal 1"]:
    return np.array(values, np.float64)[:, None]


def _float32_is_exact(scales: list[tuple[float, int, str]]) -> bool:
    """Return whether float32 division of 16-bit samples gives the same bits as float64 division.

    Rounding a quotient of two float32 numbers to float64 and then to float32 equals rounding it
    once, because 53 >= 2 * 24 + 2 (Figueroa, SIGNUM Newsletter 30(3), 1995). Both operands must
    therefore be exact in float32, and the quotient must neither overflow nor underflow.
    """
    return all(
        _MV_PER_UNIT[unit] == 1
        and abs(zero) < 2**23
        and 1e-30 < abs(gain) < 1e30
        and float(np.float32(gain)) == gain
        for gain, zero, unit in scales
    )
