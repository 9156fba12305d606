"""The mixture-of-experts gate of EnECG (arXiv 2511.22935).

`W = MoE(LeadsSample(X))` with weights that sum to 1 over the experts, and `y = sum_i W_i y_i`.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enecg.heads import FFN, Standardize


class Gate(nn.Module):
    """Predicts a weight for every expert, per record and task, from the sampled leads.

    Before training, all experts have the same weight.

    Args:
        features: Number of input features.
        outputs: Number of weight sets of each task: 1, or one per output of the task.
        experts: Number of experts.
        hidden: Units of each hidden layer.
        dropout: Dropout probability after each hidden layer.
        depth: Number of hidden layers.
        top_k: Number of experts with a nonzero weight per record; 0 selects all.
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
        # The attribute's spelling is part of the keys in saved runs.
        self.standardise = Standardize(features)
        self.ffn = nn.ModuleDict(
            {
                task: FFN(features, hidden, sets * experts, dropout, depth)
                for task, sets in outputs.items()
            }
        )
        for ffn in self.ffn.values():
            assert isinstance(ffn, FFN)
            nn.init.zeros_(ffn.prediction.weight)
            nn.init.zeros_(ffn.prediction.bias)

    def forward(
        self, leads: Float[Tensor, "batch feature"]
    ) -> dict[str, Float[Tensor, "batch output expert"]]:
        """Compute the expert weights of every task; they sum to 1 over the experts."""
        features = self.standardise(leads)
        return {
            task: expert_weights(ffn(features).unflatten(-1, (-1, self.experts)), self.top_k)
            for task, ffn in self.ffn.items()
        }


def expert_weights(
    logits: Float[Tensor, "*batch expert"], top_k: int = 0
) -> Float[Tensor, "*batch expert"]:
    """Compute the softmax over the experts.

    Args:
        logits: A logit per expert.
        top_k: Number of experts to keep, the others get weight 0; 0 keeps all.

    Returns:
        Weights that sum to 1.
    """
    if 0 < top_k < logits.shape[-1]:
        kept = logits.topk(top_k, dim=-1).indices
        dropped = torch.ones_like(logits, dtype=torch.bool).scatter(-1, kept, False)
        logits = logits.masked_fill(dropped, float("-inf"))
    return logits.softmax(-1)


def mix(
    weights: Float[Tensor, "*batch output_or_1 expert"],
    predictions: Float[Tensor, "expert *batch output"],
) -> Float[Tensor, "*batch output"]:
    """Compute the weighted mean of the experts' predictions, `sum_i W_i y_i`.

    Args:
        weights: One set of weights per record, or one per output, which is then renormalized so
            that class probabilities sum to 1.
        predictions: Standardized values (regression) or class probabilities.

    Returns:
        The mixed predictions, in the units of `predictions`.
    """
    mixed = (weights * predictions.movedim(0, -1)).sum(-1)
    if weights.shape[-2] > 1:
        mixed = mixed / mixed.sum(-1, keepdim=True).clamp_min(1e-12)
    return mixed
