"""Noise of the leads, and their weights in the delineation."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32


@dataclass(frozen=True)
class Noise:
    """Noise of the independent leads.

    Attributes:
        level: Median absolute second difference of each lead in mV.
        weight: Weight of each lead in the delineation: 1, or less for noisy leads.
    """

    level: Float32[np.ndarray, "record lead"]
    weight: Float32[np.ndarray, "record lead"]


def measure_noise(
    leads: Float32[np.ndarray, "record lead time"], clean: Float32[np.ndarray, "record lead time"]
) -> Noise:
    """Measure the noise of the leads.

    Args:
        leads: Independent leads in mV.
        clean: The same leads, filtered.

    Returns:
        The noise.
    """
    # Every fourth difference is enough.
    before, center, after = leads[..., 0:-2:4], leads[..., 1:-1:4], leads[..., 2::4]
    second = np.abs(after - 2 * center + before)
    slope = _median(np.abs(clean[..., 1::4] - clean[..., :-1:4]))
    usual = np.sort(slope, axis=1)[:, slope.shape[1] // 2 - 1, None]
    excess = slope / np.maximum(2.5 * usual, 1e-9)
    weight = 1 / np.maximum(1, excess) ** 2
    return Noise(_median(second), weight.astype(np.float32))


def _median(values: Float32[np.ndarray, "record lead time"]) -> Float32[np.ndarray, "record lead"]:
    # For float32, this is faster than np.median.
    ordered = np.sort(values, axis=-1)
    median: np.ndarray = ordered[..., ordered.shape[-1] // 2]
    return median
