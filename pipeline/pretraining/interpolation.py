"""Linear interpolation of masked samples, a baseline without training."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor


def interpolation_errors(
    series: Float[Tensor, "batch lead time"], mask: Bool[Tensor, "batch lead time"]
) -> Float[Tensor, " masked"]:
    """Compute the squared error of interpolating between the nearest unmasked samples of a lead.

    Args:
        series: Standardized leads, on the CPU.
        mask: True for masked samples.

    Returns:
        Squared errors, float64. Before the first and after the last unmasked sample, its value is
        the prediction. A lead without an unmasked sample is predicted as 0.
    """
    values, masked = series.double().numpy(), mask.numpy()
    steps = np.arange(values.shape[-1])
    predicted = np.zeros_like(values)
    for lead in np.ndindex(values.shape[:-1]):
        known = ~masked[lead]
        if known.any():
            predicted[lead] = np.interp(steps, steps[known], values[lead][known])
    return torch.from_numpy(((predicted - values)[masked]) ** 2)
