"""The twelve leads among a record's signals, by name, and what their samples mean in mV."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, Integer

from enecg.signal import LEADS
from pipeline.waveforms.wfdb_header import FORMATS, HeaderError, Signals

_MV_PER_UNIT = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "v": 1e3}
_NEVER = np.iinfo(np.int64).min
"""Stands for the missing sample of a format that has none."""


class LacksLeadsError(Exception):
    """The leads out of the twelve that a header does not have."""


@dataclass(frozen=True, eq=False)
class Twelve:
    """Where the twelve leads stand among a record's signals, and what their samples mean.

    `gain` (steps per unit) and `zero` (the step at 0), of shape (12, 1), are float32 where that is
    wide enough, else float64. `missing` are the values of missing samples.
    """

    place: list[int]
    gain: Float[np.ndarray, "12 1"]
    zero: Float[np.ndarray, "12 1"]
    mv_per_unit: Float64[np.ndarray, "12 1"]
    missing: Int64[np.ndarray, " 12"]

    def millivolts(self, digital: Integer[np.ndarray, "12 time"]) -> Float32[np.ndarray, "12 time"]:
        """(digital - zero) / gain in mV, as if in float64 and then rounded; NaN where missing."""
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
def find_twelve(signals: Signals, units_per_mv: float | None) -> Twelve:
    """The twelve leads among signals. Raises LacksLeadsError, or HeaderError for their units."""
    lacking = [lead for lead in LEADS if lead.lower() not in signals.place]
    if lacking:
        raise LacksLeadsError(", ".join(lacking))
    place = [signals.place[lead.lower()] for lead in LEADS]
    unknown = sorted({signals.units[n] for n in place} - _MV_PER_UNIT.keys())
    if unknown:
        raise HeaderError(f"gives signals in {', '.join(unknown)[:100]}, not in mV or uV")
    if units_per_mv is None:
        scales = [(signals.gains[n], signals.baselines[n], signals.units[n]) for n in place]
    else:
        scales = [(units_per_mv, 0, "mv")] * len(place)
    gain, zero = (np.array([one[n] for one in scales], np.float64)[:, None] for n in (0, 1))
    mv_per_unit = np.array([_MV_PER_UNIT[unit] for _, _, unit in scales])[:, None]
    missing = [FORMATS[signals.formats[n]].missing for n in place]
    kind = np.float32 if _single_is_exact(scales) else np.float64
    return Twelve(
        place=place,
        gain=gain.astype(kind),
        zero=zero.astype(kind),
        mv_per_unit=mv_per_unit,
        missing=np.array([_NEVER if one is None else one for one in missing], np.int64),
    )


def _single_is_exact(scales: list[tuple[float, int, str]]) -> bool:
    """Whether 16-bit samples can be divided in float32 to the same bits.

    A quotient of two float32 rounded to float64 and then to float32 is the quotient rounded once,
    for 53 >= 2 * 24 + 2 (Figueroa, SIGNUM Newsletter 30(3), 1995). So both have to be float32
    exactly, and the quotient neither too small nor too great for one.
    """
    return all(
        _MV_PER_UNIT[unit] == 1
        and abs(zero) < 2**23
        and 1e-30 < abs(gain) < 1e30
        and float(np.float32(gain)) == gain
        for gain, zero, unit in scales
    )
