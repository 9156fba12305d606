"""The mixture-of-experts gate: `W = MoE(LeadsSample(X))`, W summing to 1 over the experts, and
`y = sum_i W_i y_i` (EnECG, arXiv 2511.22935).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enecg.heads import FFN, Standardise


class Gate(nn.Module):
    """A weight for every expert, per task and record, from the sampled leads."""

    def __init__(
        self, features: int, tasks: tuple[str, ...], experts: int, *, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.standardise = Standardise(features)
        self.ffn = nn.ModuleDict({task: FFN(features, hidden, experts, dropout) for task in tasks})
        for ffn in self.ffn.values():
            assert isinstance(ffn, FFN)
            # It starts as the plain mean of the experts.
            nn.init.zeros_(ffn.prediction.weight)
            nn.init.zeros_(ffn.prediction.bias)

    def forward(
        self, leads: Float[Tensor, "batch feature"]
    ) -> dict[str, Float[Tensor, "batch expert"]]:
        """Weights over the experts for every task; each row sums to 1."""
        features = self.standardise(leads)
        return {task: ffn(features).softmax(-1) for task, ffn in self.ffn.items()}


def mix(
    weights: Float[Tensor, "batch expert"], predictions: Float[Tensor, "expert batch output"]
) -> Float[Tensor, "batch output"]:
    """`sum_i W_i y_i`: regressions in standard units, classes as probabilities."""
    return torch.einsum("be,ebo->bo", weights, predictions)
