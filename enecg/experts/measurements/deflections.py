"""Q, R, S and R' of each lead of average beats."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64

from enecg.ecg_format import SAMPLE_RATE_HZ
from enecg.experts.measurements.average_beat import BEFORE
from enecg.experts.measurements.beat_waves import BeatWaves
from enecg.experts.measurements.masks import between

_START, _STOP = BEFORE - 92, BEFORE + 112
"""First and last (exclusive) sample of the part of an average beat that contains every QRS complex;
see the limits of `find_qrs`."""

_RELATIVE_FLOOR = 0.04
"""Height of the smallest deflection, relative to the lead's largest."""


@dataclass(frozen=True)
class Deflections:
    """The deflections of the QRS complex in each lead: heights in mV, with sign; 0 if absent.

    A deflection is a part of the complex between two crossings of the level before the QRS onset.
    A complex without R (QS) counts as S.

    Attributes:
        q: Negative deflection before R.
        r: First positive deflection.
        s: First negative deflection after R.
        r_prime: Second positive deflection.
        r_peak_ms: Time from the QRS onset to the highest sample, in ms.
        area: Signed area between QRS onset and offset, in mV ms.
        range: Difference in mV of the highest value, or 0 if it is negative, and the lowest value,
            or 0 if it is positive.
    """

    q: Float32[np.ndarray, "record lead"]
    r: Float32[np.ndarray, "record lead"]
    s: Float32[np.ndarray, "record lead"]
    r_prime: Float32[np.ndarray, "record lead"]
    r_peak_ms: Float64[np.ndarray, "record lead"]
    area: Float32[np.ndarray, "record lead"]
    range: Float32[np.ndarray, "record lead"]


def find_deflections(waves: BeatWaves) -> Deflections:
    """Find the deflections of the QRS complex.

    Args:
        waves: The waves of average beats.

    Returns:
        The deflections in all twelve leads.
    """
    length = waves.leads.shape[-1]
    inside = between(waves.qrs.onset, waves.qrs.offset + 1, length)[:, None, _START:_STOP]
    leads = np.where(inside, waves.leads[..., _START:_STOP], 0)
    floor = _RELATIVE_FLOOR * np.abs(leads).max(-1, keepdims=True)
    run, begins_negative = _number_runs(leads, floor)
    # Runs are numbered from 1. Without a Q wave, R is the first run.
    first_r = 1 + begins_negative

    def extreme(number: np.ndarray) -> Float32[np.ndarray, "record lead"]:
        chosen = np.where(run == number[..., None], leads, 0)
        high, low = chosen.max(-1), chosen.min(-1)
        value: np.ndarray = np.where(high > -low, high, low)
        return value

    q = np.where(begins_negative, extreme(np.ones_like(first_r)), 0)
    r, s, r_prime = (extreme(first_r + step) for step in range(3))
    is_qs = begins_negative & (r == 0)
    peak = np.where(inside, leads, -np.inf).argmax(-1) + _START - waves.qrs.onset[:, None]
    return Deflections(
        q=np.where(is_qs, 0, q),
        r=r,
        s=np.where(is_qs, q, s),
        r_prime=r_prime,
        r_peak_ms=peak * (1000 / SAMPLE_RATE_HZ),
        area=leads.sum(-1) * np.float32(1000 / SAMPLE_RATE_HZ),
        range=leads.max(-1) - leads.min(-1),
    )


def _number_runs(
    leads: Float32[np.ndarray, "record lead time"], floor: Float32[np.ndarray, "record lead 1"]
) -> tuple[np.ndarray, Bool[np.ndarray, "record lead"]]:
    """Number the runs of samples of equal sign, ignoring samples below the floor.

    Args:
        leads: Samples.
        floor: Absolute value that the samples of a run exceed.

    Returns:
        Number of the run of each sample, 0 below the floor, and whether the first run is negative.
    """
    sign = np.where(np.abs(leads) > floor, np.sign(leads), 0).astype(np.int8)
    index = np.where(sign != 0, np.arange(leads.shape[-1], dtype=np.int16), 0)
    filled = np.take_along_axis(sign, np.maximum.accumulate(index, axis=-1), axis=-1)
    change = np.diff(filled, axis=-1, prepend=np.int8(0)) != 0
    run = np.cumsum(change, axis=-1, dtype=np.int16)
    first = np.take_along_axis(filled, (run > 0).argmax(-1)[..., None], axis=-1)[..., 0]
    # Samples below the floor belong to no run, but do not end the run around them.
    return np.where(sign != 0, run, 0), first < 0
