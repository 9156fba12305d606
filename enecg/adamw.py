"""AdamW for a list of tensors.

On its first use, `torch.optim.AdamW` imports `torch._dynamo`. The import takes more than a second,
about the time of training on a few hundred records. The functional form does not import it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw

BETAS = (0.9, 0.999)
EPSILON = 1e-8
WEIGHT_DECAY = 1e-2
"""Defaults of `torch.optim.AdamW`."""


class AdamWParameter:
    """A tensor to optimize and its state.

    Args:
        value: The tensor, contiguous; it may be a view. `update` changes it in place.

    Attributes:
        mean: Moving average of the gradient.
        square: Moving average of the squared gradient.
        step: Number of updates.
    """

    def __init__(self, value: Tensor) -> None:
        assert value.is_contiguous()  # the fused kernel ignores strides
        self.value = value.detach()
        self.mean = torch.zeros_like(self.value)
        self.square = torch.zeros_like(self.value)
        self.step = torch.zeros((), dtype=torch.float32, device=value.device)


def update(
    parameters: Sequence[AdamWParameter], gradients: Sequence[Tensor], learning_rate: float
) -> None:
    """Update parameters by one step of AdamW, with one call of the fused kernel.

    Args:
        parameters: The parameters, updated in place.
        gradients: Gradient of each parameter.
        learning_rate: Learning rate.
    """
    with torch.no_grad():
        adamw(
            [parameter.value for parameter in parameters],
            [gradient.contiguous() for gradient in gradients],
            [parameter.mean for parameter in parameters],
            [parameter.square for parameter in parameters],
            [],
            [parameter.step for parameter in parameters],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=learning_rate,
            weight_decay=WEIGHT_DECAY,
            eps=EPSILON,
            maximize=False,
        )
