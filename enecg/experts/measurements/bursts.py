"""Distinction of bursts of muscle noise from ectopic beats."""

import numpy as np
from jaxtyping import Bool, Float32, Int

from enecg.experts.measurements.averaging import average_beats

_REACH = 50
"""Samples on each side of a peak: 100 ms."""
_MIN_ROUGHNESS = 0.3
"""Roughness below which a peak is always smooth. QRS complexes have 0.02 to 0.2, and noise about 1,
after the low-pass filter at 100 Hz."""
_RATIO = 4.0
"""Largest roughness of a beat relative to that of the record's usual beats, which have the same
background noise."""


def is_smooth(
    clean: Float32[np.ndarray, "record lead time"],
    record: Int[np.ndarray, " peak"],
    position: Int[np.ndarray, " peak"],
    usual: Bool[np.ndarray, " peak"],
) -> Bool[np.ndarray, " peak"]:
    """Return whether each peak is about as smooth as the record's usual beats.

    Roughness is the energy of the second difference relative to that of the first.

    Args:
        clean: Filtered leads at 500 Hz.
        record: Row of each peak's record, in ascending order.
        position: Position of each peak in samples.
        usual: Mask of the peaks that match their record's beat template.

    Returns:
        A mask of the smooth peaks.
    """
    padded = np.pad(clean, ((0, 0), (0, 0), (_REACH, _REACH)), mode="edge")
    cuts = np.lib.stride_tricks.sliding_window_view(padded, 2 * _REACH + 1, axis=-1)
    windows = cuts[record, :, position]
    first, second = ((np.diff(windows, n=order) ** 2).sum((1, 2)) for order in (1, 2))
    roughness = (second / np.maximum(first, 1e-12)).astype(np.float32)
    typical = average_beats(roughness[usual, None], record[usual], len(clean))[:, 0]
    smooth: np.ndarray = roughness < np.maximum(_MIN_ROUGHNESS, _RATIO * typical[record])
    return smooth
