"""AdamW for stacked parameters, with a learning rate and a step count per group."""

from collections.abc import Sequence

import torch
from torch import nn


class GroupedAdamW:
    """`torch.optim.AdamW` applied to each group of a stack independently.

    Torch keeps one learning rate and one step count per tensor, so the training of a group would
    depend on the other groups of its stack. Here the optimizer updates views: each group's slice
    of each parameter (the first axis is the group) is a parameter of its own, and a group can
    skip steps.

    Args:
        parameters: Stacked parameters, updated in place.
        learning_rates: One per group.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], learning_rates: Sequence[float]) -> None:
        self.parameters = list(parameters)
        self.slices = [
            [nn.Parameter(parameter.detach()[group]) for parameter in self.parameters]
            for group in range(len(learning_rates))
        ]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": slices, "lr": rate}
                for slices, rate in zip(self.slices, learning_rates, strict=True)
            ],
            fused=True,
        )

    def zero_grad(self) -> None:
        """Clear the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self, active: Sequence[bool]) -> None:
        """Update the active groups; the parameters and moments of the others do not change."""
        for group, (slices, update) in enumerate(zip(self.slices, active, strict=True)):
            for parameter, part in zip(self.parameters, slices, strict=True):
                gradient = parameter.grad
                part.grad = gradient[group] if update and gradient is not None else None
        self.optimizer.step()
