"""MOMENT's instance normalization with gradients through its statistics."""

import torch
from jaxtyping import Float
from momentfm.models.layers.revin import RevIN
from torch import Tensor


class DifferentiableRevIN(RevIN):  # type: ignore[misc]
    """momentfm's RevIN without detaching the mean and the deviation; it computes the same values.

    With detached statistics, gradients to the input would not be those of the function that the
    model computes, and attributions would not sum to the change in its output. The gradient through
    the deviation of a constant series, which is infinite, is 0 here.
    """

    def _get_statistics(
        self,
        x: Float[Tensor, "batch channel time"],
        mask: Float[Tensor, "batch time"] | None = None,
    ) -> None:
        if mask is None:
            mask = torch.ones((x.shape[0], x.shape[-1]), device=x.device)
        observed = mask.unsqueeze(1).repeat(1, x.shape[1], 1).bool()
        values = torch.where(observed, x, torch.nan)
        self.mean = torch.nanmean(values, dim=-1, keepdim=True)
        variance = (values - self.mean).square().nanmean(dim=-1, keepdim=True)
        constant = variance == 0
        deviation = torch.where(constant, 1.0, variance).sqrt()
        self.stdev = torch.where(constant, 0.0, deviation) + self.eps
