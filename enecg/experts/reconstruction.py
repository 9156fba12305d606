"""Self-supervised pretraining by reconstruction of masked samples.

As for imputation in the Time-Series-Library, masked samples are 0 in the model's input, and the
loss is the mean squared error of these samples.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from enecg.experts.settings import ExpertSetting


@dataclass(frozen=True)
class Reconstruction:
    """Functions and sizes for the pretraining of an expert's model.

    Attributes:
        sizes: Sizes of the model that a user may choose, which are the arguments of `make`. Those
            that are also settings of the expert are written into the checkpoint.
        prepare: Converts the input of `Expert.embed` to the input of the model, in which each lead
            has mean 0 and variance 1: shape (batch, lead, time).
        make: `make(**sizes)` builds the model with weights drawn from torch's global generator.
            Its state dict has the keys of the expert's checkpoints.
        reconstruct: `reconstruct(model, series)` returns the model's reconstruction of leads with
            masked samples; both have the shape (batch, lead, time).
    """

    sizes: tuple[ExpertSetting, ...]
    prepare: Callable[[Tensor], Tensor]
    make: Callable[..., nn.Module]
    reconstruct: Callable[[Any, Tensor], Tensor]


def draw_mask(
    shape: tuple[int, int, int],
    ratio: tuple[float, float],
    length: int,
    generator: torch.Generator,
) -> Bool[Tensor, "batch lead time"]:
    """Draw the samples to mask.

    Args:
        shape: Records, leads and samples per lead.
        ratio: Range from which the expected masked fraction of each record is drawn uniformly.
        length: Consecutive samples of a lead that are masked together.
        generator: Source of the random numbers, on the CPU.

    Returns:
        True for masked samples.
    """
    batch, leads, time = shape
    low, high = ratio
    fraction = low + (high - low) * torch.rand(batch, 1, 1, generator=generator)
    cells = torch.rand(batch, leads, ceil(time / length), generator=generator) < fraction
    return cells.repeat_interleave(length, dim=-1)[..., :time]


def squared_errors(
    model: nn.Module,
    reconstruction: Reconstruction,
    series: Float[Tensor, "batch lead time"],
    mask: Bool[Tensor, "batch lead time"],
) -> Float[Tensor, " masked"]:
    """Compute the squared error of each masked sample.

    Args:
        model: The model, as built by `reconstruction.make`.
        reconstruction: The functions of the model.
        series: Standardized leads.
        mask: True for masked samples.

    Returns:
        Squared errors. Their mean is about 1 if the model predicts each lead's mean, which is 0.
    """
    predicted = reconstruction.reconstruct(model, series.masked_fill(mask, 0.0))
    return (predicted - series)[mask].square()
