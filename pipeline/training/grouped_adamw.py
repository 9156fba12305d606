"""AdamW for stacked parameters: a rate and a count of steps of its own for each group."""

from collections.abc import Sequence

import torch
from torch import nn


class GroupedAdamW:
    """`torch.optim.AdamW` of every group by itself; groups can sit a step out, as if it were not.

    For a whole tensor torch has one rate and one count of steps, so that a group's training would
    depend on which others are in the stack. So it is given every group's part of each parameter,
    whose first axis is the group, as a parameter of its own.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], rates: Sequence[float]) -> None:
        self.parameters = list(parameters)
        self.parts = [
            [nn.Parameter(one.detach()[group]) for one in self.parameters]
            for group in range(len(rates))
        ]
        groups = [
            {"params": part, "lr": rate} for part, rate in zip(self.parts, rates, strict=True)
        ]
        self.optimiser = torch.optim.AdamW(groups, fused=True)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for one in self.parameters:
            one.grad = None

    def step(self, active: Sequence[bool]) -> None:
        """Move the active groups by their gradients; the others stay as they are."""
        for group, (parts, moves) in enumerate(zip(self.parts, active, strict=True)):
            for one, part in zip(self.parameters, parts, strict=True):
                part.grad = one.grad[group] if moves and one.grad is not None else None
        self.optimiser.step()
