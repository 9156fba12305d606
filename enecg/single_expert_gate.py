"""Gate of a run with one expert, whose weight is 1 for every record."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class SingleExpertGate(nn.Module):
    """Replacement for `enecg.gate.Gate` for a run with one expert.

    Args:
        tasks: Names of the tasks.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)

    def forward(
        self, leads: Float[Tensor, "batch feature"]
    ) -> dict[str, Float[Tensor, "batch output expert"]]:
        """Return a weight of 1 for each record and task."""
        ones = torch.ones((len(leads), 1, 1), device=leads.device)
        return dict.fromkeys(self.tasks, ones)
