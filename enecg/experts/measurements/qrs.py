"""Onset and offset of the QRS complex of average beats."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int
from scipy.ndimage import convolve1d, maximum_filter1d

from enecg.experts.measurements.average_beat import BEFORE
from enecg.experts.measurements.masks import between, first_true, last_true

_EARLIEST, _LATEST = 90, 110
"""Limits of onset and offset, in samples before and after the fiducial point."""
_FIRST_ACTIVE, _LAST_ACTIVE = 0.3, 0.12
"""Velocity above which samples always belong to the complex, relative to the highest velocity, in
the searches for the onset and for the offset."""
_ONSET_LEVEL, _OFFSET_LEVEL = 0.06, 0.08
"""Velocity at the onset and at the offset, as a fraction of the range from the velocity before the
complex to the highest velocity."""
_LEAD_FLOOR = 0.3
"""Lower bound of the steepest slope of a lead, relative to the steepest slope of all leads, in the
search for the offset."""
_QUIET = 5
"""Samples for which the velocity must remain below the threshold: 10 ms."""


@dataclass(frozen=True)
class QrsComplex:
    """Position of the QRS complex in the window of the average beats, in samples at 500 Hz.

    Attributes:
        onset: First sample of the complex.
        offset: Last sample of the complex, the J point.
        velocity: Spatial velocity, the smoothed Euclidean norm of the weighted slopes of the leads,
            in mV/s.
    """

    onset: Int[np.ndarray, " record"]
    offset: Int[np.ndarray, " record"]
    velocity: Float32[np.ndarray, "record window"]


def find_qrs(
    leads: Float32[np.ndarray, "record lead window"],
    weight: Float32[np.ndarray, "record lead"],
) -> QrsComplex:
    """Find the QRS complex by its spatial velocity.

    For the offset, the slopes of each lead are divided by the lead's steepest one, because the last
    part of a QRS complex with bundle branch block is slow, and visible in few leads.

    Args:
        leads: Average beats in mV.
        weight: Weight of each lead, lower for noisy leads.

    Returns:
        The complex; arbitrary for records without beats.
    """
    records, _, length = leads.shape
    slope = np.zeros_like(leads)
    slope[..., 2:-2] = (leads[..., 4:] - leads[..., :-4]) * 125.0
    slope *= weight[..., None]
    velocity = _spatial_velocity(slope)
    peak = velocity[:, BEFORE - 50 : BEFORE + 60].max(1)
    quiet = np.sort(velocity[:, BEFORE - 100 : BEFORE - 30], axis=1)
    base = quiet[:, :35].mean(1)
    before = np.sort(velocity[:, BEFORE - 110 : BEFORE - 45], axis=1)[:, 48]
    onset_level = np.maximum(
        base + _ONSET_LEVEL * (peak - base), np.minimum(1.3 * before, base + 0.2 * (peak - base))
    )
    center = np.full(records, BEFORE)
    inside = between(center - 50, center + 60, length)
    first = first_true(inside & (velocity > _FIRST_ACTIVE * peak[:, None]), center)
    steepest = np.where(inside[:, None], np.abs(slope), 0).max(-1, keepdims=True)
    scale = np.maximum(steepest, _LEAD_FLOOR * steepest.max(1, keepdims=True))
    relative = _spatial_velocity(slope / np.maximum(scale, 1e-9))
    peak = np.where(inside, relative, 0).max(1)
    base = np.sort(relative[:, BEFORE - 100 : BEFORE - 30], axis=1)[:, :35].mean(1)
    offset_level = base + _OFFSET_LEVEL * (peak - base)
    last = last_true(inside & (relative > _LAST_ACTIVE * peak[:, None]), center)
    low = maximum_filter1d(velocity, _QUIET, axis=1, origin=_QUIET // 2) <= onset_level[:, None]
    earliest = center - _EARLIEST
    onset = last_true(low & between(earliest, first + 1, length), earliest)
    low = maximum_filter1d(relative, _QUIET, axis=1, origin=-(_QUIET // 2)) < offset_level[:, None]
    latest = center + _LATEST
    quietest = np.where(between(last, latest, length), relative, np.inf).argmin(1)
    offset = first_true(low & between(last, latest, length), quietest)
    return QrsComplex(
        onset=(onset - 2).clip(earliest, center - 4),
        offset=(offset + 1).clip(center + 6, latest),
        velocity=velocity,
    )


def _spatial_velocity(
    slope: Float32[np.ndarray, "record lead window"],
) -> Float32[np.ndarray, "record window"]:
    window = np.hanning(7)[1:-1].astype(np.float32)
    norm = np.sqrt((slope**2).sum(1))
    velocity: np.ndarray = convolve1d(norm, window / window.sum(), axis=-1, mode="nearest")
    return velocity
