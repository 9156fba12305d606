"""AdamW for stacked parameters with one learning rate and one step count per group."""

from collections.abc import Sequence

import torch
from torch import nn


class GroupedAdamW:
    """`torch.optim.AdamW` applied independently to each group of stacked parameters.

    The first axis of a stacked parameter is the group. `torch.optim.AdamW` has one step count per
    tensor, so the groups could not take different numbers of steps. Therefore each group's slice,
    a view of the parameter, is optimized as a separate parameter.

    Args:
        parameters: Stacked parameters, updated in place.
        learning_rates: Learning rate of each group.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], learning_rates: Sequence[float]) -> None:
        self.parameters = list(parameters)
        self.slices = [
            [nn.Parameter(parameter.detach()[group]) for parameter in self.parameters]
            for group in range(len(learning_rates))
        ]
        # One call of the fused kernel per learning rate, rather than one per group.
        by_rate: dict[float, list[nn.Parameter]] = {}
        for slices, rate in zip(self.slices, learning_rates, strict=True):
            by_rate.setdefault(rate, []).extend(slices)
        self.optimizer = torch.optim.AdamW(
            [{"params": slices, "lr": rate} for rate, slices in by_rate.items()], fused=True
        )

    def zero_grad(self) -> None:
        """Clear the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self, active: Sequence[bool]) -> None:
        """Update the active groups; parameters and optimizer state of the others do not change."""
        for group, (slices, update) in enumerate(zip(self.slices, active, strict=True)):
            for parameter, view in zip(self.parameters, slices, strict=True):
                gradient = parameter.grad
                view.grad = gradient[group] if update and gradient is not None else None
        self.optimizer.step()
