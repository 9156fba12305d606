"""The first principal component of leads within a range of samples."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32
from scipy.ndimage import uniform_filter1d


@dataclass(frozen=True)
class Component:
    """First principal component of a batch.

    Attributes:
        signal: The leads projected onto the component and smoothed, over the whole window.
        second: Second singular value, relative to the first.
    """

    signal: Float32[np.ndarray, "record time"]
    second: Float32[np.ndarray, " record"]


def first_component(
    leads: Float32[np.ndarray, "record lead time"],
    mask: Bool[np.ndarray, "record time"],
    smoothing: int,
) -> Component:
    """Compute the first principal component, without subtracting the mean.

    Args:
        leads: Leads, relative to a baseline.
        mask: Samples that determine the component.
        smoothing: Width of the moving average that smooths the signal, in samples.

    Returns:
        The component. Its sign is arbitrary.
    """
    inside = np.where(mask[:, None], leads, 0).astype(np.float64)
    values, vectors = np.linalg.eigh(np.matmul(inside, inside.transpose(0, 2, 1)))
    values = np.sqrt(np.maximum(values, 0))
    signal = np.matmul(vectors[:, None, :, -1], leads.astype(np.float64))[:, 0]
    smooth = uniform_filter1d(signal, smoothing, axis=1, mode="nearest")
    second = values[:, -2] / np.maximum(values[:, -1], 1e-9)
    return Component(smooth.astype(np.float32), second.astype(np.float32))
