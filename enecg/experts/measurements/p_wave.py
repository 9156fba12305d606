"""Onset, peak and offset of the P wave of average beats."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int
from scipy.ndimage import uniform_filter1d

from enecg.ecg_format import SAMPLE_RATE_HZ
from enecg.experts.measurements.average_beat import BEFORE, AverageBeat
from enecg.experts.measurements.averaging import average_beats
from enecg.experts.measurements.components import first_component
from enecg.experts.measurements.masks import between, first_true, last_true, mean_between
from enecg.experts.measurements.qrs import QrsComplex

_EDGE = 0.18
"""Fraction of the peak's height at which the wave starts and ends."""
_HALF_WIDTH = 45
"""Samples on each side of the peak that are searched for onset and offset: 90 ms."""
_NEAR = 30
"""Samples on each side of the peak in which single beats are compared with the average: 60 ms."""
_SMOOTHING = 9
_MIN_CONSISTENCY = 0.88
"""Smallest consistency of a P wave. Of the records used for tuning, all but one of those with
P waves have at least 0.92."""


@dataclass(frozen=True)
class PWave:
    """Position of the P wave in the window of the average beats, in samples at 500 Hz.

    Attributes:
        onset: First sample.
        peak: Largest deflection.
        offset: Last sample.
        height: Height of the peak in the first principal component of the weighted leads, in mV.
        consistency: Typical correlation of single beats with the average around the peak.
        found: Whether there is a P wave: the same deflection before every QRS complex.
    """

    onset: Int[np.ndarray, " record"]
    peak: Int[np.ndarray, " record"]
    offset: Int[np.ndarray, " record"]
    height: Float32[np.ndarray, " record"]
    consistency: Float32[np.ndarray, " record"]
    found: Bool[np.ndarray, " record"]


def find_p_wave(
    leads: Float32[np.ndarray, "record lead window"],
    average: AverageBeat,
    qrs: QrsComplex,
    t_end: Int[np.ndarray, " record"],
) -> PWave:
    """Find the P wave between the previous T wave and the QRS complex.

    Args:
        leads: Average beats in mV, multiplied by the weight of each lead.
        average: The averaged beats.
        qrs: The QRS complex.
        t_end: End of the T wave; a lower bound if the T wave extends beyond the window.

    Returns:
        The P wave; arbitrary where it was not found.
    """
    records, _, length = leads.shape
    previous_s = average.previous_s
    rows = np.arange(records)
    earliest = BEFORE - (np.minimum(0.36, 0.55 * previous_s) * SAMPLE_RATE_HZ).astype(int)
    previous_t_end = t_end - (previous_s * SAMPLE_RATE_HZ).astype(int) + 4
    start = np.maximum(np.maximum(earliest, previous_t_end), 4)
    stop = qrs.onset - 4
    possible = stop - start > 25
    start = np.minimum(start, stop - 25)
    inside = between(start, stop, length)
    first, last = (mean_between(leads, at, at + 3) for at in (start, stop - 3))
    fraction = (np.arange(length) - start[:, None]) / (stop - start)[:, None]
    line = first + (last - first) * fraction[:, None].astype(np.float32)
    component = first_component(leads - line, inside, 9)
    ordered = np.sort(np.where(inside, component.signal, np.inf), axis=1)
    signal = component.signal - 0.5 * ordered[rows, (stop - start) // 2][:, None]
    weight = np.interp(fraction, (0, 0.25, 0.9, 1), (0.4, 1, 1, 0.5))
    peak = np.where(inside, np.abs(signal) * weight, -1).argmax(1)
    upright = signal * np.where(signal[rows, peak] < 0, -1, 1)[:, None].astype(np.float32)
    height = upright[rows, peak]
    low = upright <= _EDGE * height[:, None]
    lowest = np.maximum(start, peak - _HALF_WIDTH)
    highest = np.minimum(stop - 1, peak + _HALF_WIDTH)
    onset = last_true(low & between(lowest, peak, length), lowest)
    offset = first_true(low & between(peak, highest, length), highest)
    consistency = _consistency(average, peak)
    return PWave(
        onset=onset - 2,
        peak=peak,
        offset=offset,
        height=height,
        consistency=consistency,
        found=possible & (consistency > _MIN_CONSISTENCY) & (height > 0.02),
    )


def _consistency(
    average: AverageBeat, peak: Int[np.ndarray, " record"]
) -> Float32[np.ndarray, " record"]:
    """Return the typical correlation of a record's beats with their average, around the peak.

    Fibrillatory waves differ from beat to beat, so their correlation is low.
    """
    records = len(peak)
    width = 2 * _NEAR + 1
    start = (peak - _NEAR).clip(0, average.leads.shape[-1] - width)
    reference = _cut_around(average.leads, np.arange(records), start)[average.record]
    beats = _cut_around(average.windows, np.arange(len(average.record)), start[average.record])
    product = (beats * reference).sum((1, 2))
    scale = np.sqrt((beats**2).sum((1, 2)) * (reference**2).sum((1, 2)))
    correlation = (product / np.maximum(scale, 1e-9)).astype(np.float32)
    return average_beats(correlation[:, None], average.record, records)[:, 0]


def _cut_around(
    leads: Float32[np.ndarray, "row lead window"],
    row: Int[np.ndarray, " row"],
    start: Int[np.ndarray, " row"],
) -> Float32[np.ndarray, "row lead cut"]:
    """Cut a part out of each row, smooth it, and remove its mean and linear trend."""
    width = 2 * _NEAR + 1
    cut = np.lib.stride_tricks.sliding_window_view(leads, width, axis=-1)[row, :, start]
    cut = uniform_filter1d(cut, _SMOOTHING, axis=-1, mode="nearest")
    time = np.linspace(-1, 1, width, dtype=np.float32)
    slope = (cut * time).sum(-1, keepdims=True) / (time**2).sum()
    detrended: np.ndarray = cut - cut.mean(-1, keepdims=True) - slope * time
    return detrended
