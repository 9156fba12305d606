"""Onset of the T wave of average beats, which ends the ST segment."""

import numpy as np
from jaxtyping import Int

from enecg.experts.measurements.analysis import Analysis
from enecg.experts.measurements.components import first_component
from enecg.experts.measurements.masks import between, mean_between

_AFTER_J = 30
"""Samples between the J point and the earliest onset: 60 ms."""
_ASCENT = 90
"""Longest distance of the onset from the steepest ascent in samples: 180 ms."""


def find_t_onset(analysis: Analysis) -> Int[np.ndarray, " record"]:
    """Find the T onset with the method of the T end, mirrored in time.

    It is the mean of the tangent at the steepest ascent and the largest trapezium, in the first
    principal component of the leads after the J point.

    Args:
        analysis: The waves of average beats.

    Returns:
        The onset in the window of the average beats, in samples at 500 Hz; arbitrary where there is
        no T wave.
    """
    qrs, t = analysis.waves.qrs, analysis.waves.t
    leads = analysis.average.leads * analysis.noise.weight[..., None]
    rows, length = np.arange(len(leads)), leads.shape[-1]
    time = np.arange(length)
    start = np.maximum(np.minimum(qrs.offset + _AFTER_J, t.peak - 10), 0)
    level = mean_between(leads, start, start + 5)
    signal = first_component(leads - level, between(start, t.end, length), 11).signal
    upright = signal * np.where(signal[rows, t.peak] < 0, -1, 1)[:, None]
    slope = np.gradient(upright, axis=1)
    ascent = between(start, t.peak + 1, length)
    steepest = np.where(ascent, slope, -np.inf).argmax(1)
    limit = np.maximum(start, steepest - _ASCENT)
    height = upright[rows, steepest]
    rise = np.maximum(slope[rows, steepest], 1e-9)
    tangent = (steepest - (height - upright[rows, limit]) / rise).clip(limit, steepest)
    area = (height[:, None] - upright) * (steepest[:, None] + time - 2 * limit[:, None])
    trapezium = np.where(between(limit, steepest + 1, length), area, -np.inf).argmax(1)
    onset: np.ndarray = np.rint(0.5 * (tangent + trapezium)).astype(int)
    return onset
