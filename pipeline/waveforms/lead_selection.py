"""Select the twelve leads among a record's signals and convert their samples to mV."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, Integer

from enecg.signal import LEADS
from pipeline.waveforms.wfdb_header import FORMATS, HeaderError, Signals

_MV_PER_UNIT = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "v": 1e3}
_NO_MISSING_VALUE = np.iinfo(np.int64).min


class MissingLeadsError(Exception):
    """A header without all twelve leads; the message lists the missing ones."""


@dataclass(frozen=True, eq=False)
class LeadSelection:
    """The twelve leads among a record's signals and the scale of their samples.

    Attributes:
        rows: Signal number of each lead, in the order of `LEADS`.
        gain: ADC units per physical unit; float32 if that is exact (see `_float32_is_exact`), else
            float64.
        zero: ADC value at 0 V, in the dtype of `gain`.
        mv_per_unit: Millivolts per physical unit.
        missing: Digital value that marks a missing sample.
    """

    rows: list[int]
    gain: Float[np.ndarray, "12 1"]
    zero: Float[np.ndarray, "12 1"]
    mv_per_unit: Float64[np.ndarray, "12 1"]
    missing: Int64[np.ndarray, " 12"]

    def to_millivolts(
        self, digital: Integer[np.ndarray, "12 time"]
    ) -> Float32[np.ndarray, "12 time"]:
        """Return ``(digital - zero) / gain`` in mV with NaN for missing samples.

        The result is bit-identical to a computation in float64 that is rounded at the end.
        """
        if self.gain.dtype == np.float32 and digital.dtype == np.int16:
            mv = digital.astype(np.float32)
            mv -= self.zero
            mv /= self.gain
        else:
            with np.errstate(over="ignore", under="ignore"):
                wide = (digital - self.zero.astype(np.float64)) / self.gain.astype(np.float64)
                mv = (wide * self.mv_per_unit).astype(np.float32)
        for lead in (digital.min(1) <= self.missing).nonzero()[0]:
            mv[lead, digital[lead] == self.missing[lead]] = np.nan
        return mv


@lru_cache(maxsize=32)
def select_leads(signals: Signals, units_per_mv: float | None) -> LeadSelection:
    """Select the twelve leads by name, in any case.

    Args:
        signals: Signals of a header.
        units_per_mv: Replaces the header's gains, offsets and units unless None.

    Returns:
        The rows and scales of the leads.

    Raises:
        MissingLeadsError: A lead is missing.
        HeaderError: The unit of a lead is not a voltage.
    """
    missing_leads = [lead for lead in LEADS if lead.lower() not in signals.index]
    if missing_leads:
        raise MissingLeadsError(", ".join(missing_leads))
    rows = [signals.index[lead.lower()] for lead in LEADS]
    unknown = sorted({signals.units[row] for row in rows} - _MV_PER_UNIT.keys())
    if unknown:
        raise HeaderError(f"signal unit is {', '.join(unknown)[:100]}, not V, mV or uV")
    if units_per_mv is None:
        scales = [(signals.gains[row], signals.baselines[row], signals.units[row]) for row in rows]
    else:
        scales = [(units_per_mv, 0, "mv")] * len(rows)
    gains, zeros, units = zip(*scales, strict=True)
    missing = [FORMATS[signals.formats[row]].missing for row in rows]
    dtype = np.float32 if _float32_is_exact(scales) else np.float64
    return LeadSelection(
        rows=rows,
        gain=_column(gains).astype(dtype),
        zero=_column(zeros).astype(dtype),
        mv_per_unit=_column([_MV_PER_UNIT[unit] for unit in units]),
        missing=np.array([_NO_MISSING_VALUE if v is None else v for v in missing], np.int64),
    )


def _column(values: Sequence[float]) -> Float64[np.ndarray, "12 1"]:
    return np.array(values, np.float64)[:, None]


def _float32_is_exact(scales: list[tuple[float, int, str]]) -> bool:
    """Return whether 16-bit samples can be divided in float32 with the bits of float64.

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
