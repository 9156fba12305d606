"""AdamW for stacked parameters: a rate and a count of steps of its own for each group."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

BETAS = (0.9, 0.999)
EPSILON = 1e-8
WEIGHT_DECAY = 0.01
"""As `torch.optim.AdamW` has them (Loshchilov and Hutter, arXiv 1711.05101)."""


class GroupedAdamW:
    """`torch.optim.AdamW` of every group by itself; groups can sit a step out, as if it were not.

    torch's own has one rate and one count of steps for a whole tensor, so that a group's training
    would depend on which others are in the stack. The first axis of every parameter is the group.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], rates: Float[Tensor, " group"]) -> None:
        self.parameters = list(parameters)
        self.rates = rates
        self.steps = torch.zeros_like(rates)
        self.mean = [torch.zeros_like(one) for one in self.parameters]
        self.square = [torch.zeros_like(one) for one in self.parameters]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for one in self.parameters:
            one.grad = None

    @torch.no_grad()
    def step(self, active: Bool[Tensor, " group"]) -> None:
        """Move the active groups by their gradients; the others stay as they are."""
        self.steps += active
        taken = self.steps.clamp_min(1)
        size = active * self.rates / (1 - BETAS[0] ** taken)
        root = (1 - BETAS[1] ** taken).rsqrt()
        kept = 1 - active * self.rates * WEIGHT_DECAY
        for one, mean, square in zip(self.parameters, self.mean, self.square, strict=True):
            if one.grad is None:
                continue

            def of_group(value: Tensor, like: Tensor = one) -> Tensor:
                return value.view(-1, *[1] * (like.dim() - 1))

            mean.lerp_(one.grad, of_group(active * (1 - BETAS[0])))
            square.lerp_(one.grad.square(), of_group(active * (1 - BETAS[1])))
            spread = square.sqrt().mul_(of_group(root)).add_(EPSILON)
            one.mul_(of_group(kept)).sub_(mean.div(spread).mul_(of_group(size)))
