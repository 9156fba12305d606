"""Onset, peak and end of the T wave of average beats."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int

from enecg.ecg_format import SAMPLE_RATE_HZ
from enecg.experts.measurements.components import first_component
from enecg.experts.measurements.masks import between, last_true, mean_between
from enecg.experts.measurements.qrs import QrsComplex

_FIRST = 30
"""Samples between the J point and the start of the search: 60 ms."""
_DESCENT, _TRAPEZIUM = 80, 60
"""Numbers of samples after the peak that are searched for the steepest descent, and after the
steepest descent that are searched for the end: 160 and 120 ms."""
_ASCENT = 90
"""Maximum number of samples between the onset and the steepest ascent: 180 ms."""
_TIMES_S = (0.12, 0.20, 0.40, 0.48, 0.56)
_WEIGHTS = (0.4, 1.0, 1.0, 0.5, 0.2)
"""Weights of the amplitude at `_TIMES_S` after the QRS onset, interpolated in between. The times
apply to an RR interval of 1 s, and are proportional to its square root. Late amplitudes have low
weights, because they may belong to a U wave or to the next P wave."""
_SECOND_PHASE = 0.4
"""Smallest height of the last phase of a T wave with several phases, relative to the largest."""


@dataclass(frozen=True)
class TWave:
    """Position of the T wave in the window of the average beats, in samples at 500 Hz.

    Attributes:
        onset: Onset of the wave, which ends the ST segment.
        peak: Extremum of the last phase.
        end: End of the wave.
        found: Whether the search range is at least 60 ms, and the end lies after the peak.
        second: Second singular value of the wave relative to the first, a measure of complexity.
    """

    onset: Int[np.ndarray, " record"]
    peak: Int[np.ndarray, " record"]
    end: Int[np.ndarray, " record"]
    found: Bool[np.ndarray, " record"]
    second: Float32[np.ndarray, " record"]


def find_t_wave(
    leads: Float32[np.ndarray, "record lead window"],
    qrs: QrsComplex,
    next_s: Float64[np.ndarray, " record"],
) -> TWave:
    """Find the T wave in the first principal component of the leads after the QRS complex.

    The end is 6 ms after the mean of two estimates: by the tangent at the steepest descent, and by
    the largest trapezium (Vázquez-Seisdedos et al., BioMedical Engineering OnLine 10:43, 2011). The
    onset is the mean of the same estimates, mirrored in time.

    Args:
        leads: Average beats in mV, relative to the level before the QRS complex, and multiplied by
            the weight of each lead.
        qrs: The QRS complex.
        next_s: Interval to the next beat in s.

    Returns:
        The T wave; arbitrary where it was not found.
    """
    records, _, length = leads.shape
    rows = np.arange(records)
    start = qrs.offset + _FIRST
    longest_s = np.minimum(0.68, 0.64 * np.sqrt(next_s))
    # Exclude the next P wave.
    longest_s = np.minimum(longest_s, np.maximum(0.85 * next_s - 0.12, 0.6 * next_s))
    stop = qrs.onset + (longest_s * SAMPLE_RATE_HZ).astype(int) + 20
    stop = np.minimum(np.maximum(stop, start + 40), length - 3)
    inside = between(start, stop, length)
    level = mean_between(leads, stop - 10, stop)
    component = first_component(leads - level, between(start - 20, stop, length), 11)
    signal = component.signal
    time_s = (np.arange(length) - qrs.onset[:, None]) / SAMPLE_RATE_HZ
    weight = np.interp(time_s / np.sqrt(next_s)[:, None], _TIMES_S, _WEIGHTS)
    size = np.where(inside, np.abs(signal) * weight, -1)
    slope = np.gradient(signal, axis=1)
    turning = np.zeros_like(inside)
    turning[:, 1:] = slope[:, 1:] * slope[:, :-1] <= 0
    large = turning & (size >= _SECOND_PHASE * size.max(1, keepdims=True))
    peak = last_true(large, size.argmax(1))
    upright = signal * np.where(signal[rows, peak] < 0, -1, 1)[:, None].astype(np.float32)
    slope = np.gradient(upright, axis=1)
    descent = between(peak, np.minimum(peak + _DESCENT, stop - 4), length)
    steepest = np.where(descent, slope, np.inf).argmin(1)
    steepest = np.where(descent.any(1), steepest, peak)
    limit = np.minimum(steepest + _TRAPEZIUM, stop - 1)
    time = np.arange(length)
    height = upright[rows, steepest]
    area = (height[:, None] - upright) * (2 * limit[:, None] - time - steepest[:, None])
    trapezium = np.where(between(steepest, limit + 1, length), area, -np.inf).argmax(1)
    fall = np.maximum(-slope[rows, steepest], 1e-9)
    tangent = (steepest + height / fall).clip(steepest, limit)
    end = np.minimum(np.rint(0.5 * (trapezium + tangent)).astype(int) + 3, length - 1)
    return TWave(
        onset=_find_onset(leads, qrs, peak, end),
        peak=peak,
        end=end,
        found=(stop - start >= 30) & (end > peak),
        second=component.second,
    )


def _find_onset(
    leads: Float32[np.ndarray, "record lead window"],
    qrs: QrsComplex,
    peak: Int[np.ndarray, " record"],
    end: Int[np.ndarray, " record"],
) -> Int[np.ndarray, " record"]:
    """Find the onset before the steepest ascent to the peak."""
    rows, length = np.arange(len(leads)), leads.shape[-1]
    start = np.maximum(np.minimum(qrs.offset + _FIRST, peak - 10), 0)
    level = mean_between(leads, start, start + 5)
    signal = first_component(leads - level, between(start, end, length), 11).signal
    upright = signal * np.where(signal[rows, peak] < 0, -1, 1)[:, None]
    slope = np.gradient(upright, axis=1)
    ascent = between(start, peak + 1, length)
    steepest = np.where(ascent, slope, -np.inf).argmax(1)
    limit = np.maximum(start, steepest - _ASCENT)
    height = upright[rows, steepest]
    rise = np.maximum(slope[rows, steepest], 1e-9)
    tangent = (steepest - (height - upright[rows, limit]) / rise).clip(limit, steepest)
    area = (height[:, None] - upright) * (
        steepest[:, None] + np.arange(length) - 2 * limit[:, None]
    )
    trapezium = np.where(between(limit, steepest + 1, length), area, -np.inf).argmax(1)
    onset: np.ndarray = np.rint(0.5 * (tangent + trapezium)).astype(int)
    return onset
