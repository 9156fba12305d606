"""Onset and offset of the QRS complex of average beats."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int
from scipy.ndimage import convolve1d, maximum_filter1d

from enecg.experts.measurements.average_beat import BEFORE
from enecg.experts.measurements.masks import between, first_true, last_true

_EARLIEST, _LATEST = 90, 110
"""Limits of onset and offset, in samples before and after the fiducial point."""
_QUIET = 5
"""Samples for which the velocity must remain below the threshold: 10 ms."""


@dataclass(frozen=True)
class QrsComplex:
    """Position of the QRS complex in the window of the average beats, in samples at 500 Hz.

    Attributes:
        onset: First sample of the complex.
        offset: Last sample of the complex, the J point.
        velocity: Spatial velocity, the Euclidean norm of the leads' slopes in mV/s.
    """

    onset: Int[np.ndarray, " record"]
    offset: Int[np.ndarray, " record"]
    velocity: Float32[np.ndarray, "record window"]


def find_qrs(
    leads: Float32[np.ndarray, "record lead window"],
    weight: Float32[np.ndarray, "record lead"],
) -> QrsComplex:
    """Find the QRS complex by its spatial velocity.

    Args:
        leads: Average beats in mV.
        weight: Weight of each lead, lower for noisy leads.

    Returns:
        The complex; arbitrary for records without beats.
    """
    records, _, length = leads.shape
    slope = np.zeros_like(leads)
    slope[..., 2:-2] = (leads[..., 4:] - leads[..., :-4]) * 125.0
    velocity = np.sqrt(((slope * weight[..., None]) ** 2).sum(1))
    window = np.hanning(7)[1:-1].astype(np.float32)
    velocity = convolve1d(velocity, window / window.sum(), axis=-1, mode="nearest")
    lowest, highest = BEFORE - 50, BEFORE + 60
    peak = velocity[:, lowest:highest].max(1)
    quiet = np.sort(velocity[:, BEFORE - 100 : BEFORE - 30], axis=1)
    base = quiet[:, :35].mean(1)
    before = np.sort(velocity[:, BEFORE - 110 : BEFORE - 45], axis=1)[:, 48]
    onset_level = np.maximum(
        base + 0.06 * (peak - base), np.minimum(1.3 * before, base + 0.2 * (peak - base))
    )
    offset_level = base + 0.07 * (peak - base)
    active = np.zeros(velocity.shape, bool)
    active[:, lowest:highest] = velocity[:, lowest:highest] > 0.3 * peak[:, None]
    center = np.full(records, BEFORE)
    first, last = first_true(active, center), last_true(active, center)
    low = maximum_filter1d(velocity, _QUIET, axis=1, origin=_QUIET // 2) <= onset_level[:, None]
    earliest = center - _EARLIEST
    onset = last_true(low & between(earliest, first + 1, length), earliest)
    low = maximum_filter1d(velocity, _QUIET, axis=1, origin=-(_QUIET // 2)) < offset_level[:, None]
    latest = center + _LATEST
    quietest = np.where(between(last, latest, length), velocity, np.inf).argmin(1)
    offset = first_true(low & between(last, latest, length), quietest)
    return QrsComplex(
        onset=(onset - 2).clip(earliest, center - 4),
        offset=(offset + 1).clip(center + 6, latest),
        velocity=velocity,
    )
