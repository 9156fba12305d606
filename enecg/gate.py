"""The mixture-of-experts gate: `W = MoE(LeadsSample(X))`, W summing to 1 over the experts, and
`y = sum_i W_i y_i` (EnECG, arXiv 2511.22935).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enecg.heads import FFN, Standardize


class Gate(nn.Module):
    """A weight for every expert, per task and record, from the sampled leads.

    `outputs`: by task, how many sets of weights: 1, or one for each of the task's outputs.
    `top_k`: only so many experts are heard, 0 for all.
    """

    def __init__(
        self,
        features: int,
        outputs: dict[str, int],
        experts: int,
        *,
        hidden: int,
        dropout: float,
        depth: int = 1,
        top_k: int = 0,
    ) -> None:
        super().__init__()
        self.experts = experts
        self.top_k = top_k
        self.standardise = Standardize(features)
        self.ffn = nn.ModuleDict(
            {
                task: FFN(features, hidden, sets * experts, dropout, depth)
                for task, sets in outputs.items()
            }
        )
        for ffn in self.ffn.values():
            assert isinstance(ffn, FFN)
            # It starts as the plain mean of the experts.
            nn.init.zeros_(ffn.prediction.weight)
            nn.init.zeros_(ffn.prediction.bias)

    def forward(
        self, leads: Float[Tensor, "batch feature"]
    ) -> dict[str, Float[Tensor, "batch output expert"]]:
        """Weights over the experts for every task; they sum to 1."""
        features = self.standardise(leads)
        return {
            task: expert_weights(ffn(features).unflatten(-1, (-1, self.experts)), self.top_k)
            for task, ffn in self.ffn.items()
        }


def expert_weights(
    logits: Float[Tensor, "*batch expert"], top_k: int = 0
) -> Float[Tensor, "*batch expert"]:
    """Softmax over the experts, or over the `top_k` of them; the others get 0."""
    if 0 < top_k < logits.shape[-1]:
        heard = logits.topk(top_k, dim=-1).indices
        unheard = torch.ones_like(logits, dtype=torch.bool).scatter(-1, heard, False)
        logits = logits.masked_fill(unheard, float("-inf"))
    return logits.softmax(-1)


def mix(
    weights: Float[Tensor, "*batch output_or_1 expert"],
    predictions: Float[Tensor, "expert *batch output"],
) -> Float[Tensor, "*batch output"]:
    """`sum_i W_i y_i`: regressions in standard units, classes as probabilities.

    Where each class has weights of its own, the classes' sums are made to add up to 1 again.
    """
    mixed = (weights * predictions.movedim(0, -1)).sum(-1)
    if weights.shape[-2] > 1:
        mixed = mixed / mixed.sum(-1, keepdim=True).clamp_min(1e-12)
    return mixed
