"""The mixture-of-experts gate of EnECG (arXiv 2511.22935).

`W = MoE(LeadsSample(X))` with weights that sum to 1 over the experts, and `y = sum_i W_i y_i`.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enecg.heads import FFN, Standardize
from enecg.spectrum import hann_window, log_spectrum
from enecg.tasks import Kind

Mixture = Literal["probabilities", "logits"]
"""What the gate averages for classes and labels: the experts' probabilities, or their logits."""

MIN_PROBABILITY = 1e-7
"""Lower bound of probabilities before their logarithm is taken."""

LARGEST_LOGIT_DIFFERENCE = 80.0
"""Limit of the logit differences between experts that top-k keeps; exp(-80) is a normal float32."""


class Gate(nn.Module):
    """Predicts the experts' weights for each record and task from the sampled leads.

    An untrained gate weights all selected experts equally.

    Args:
        features: Number of input features, after `log_spectrum` if `spectrum` is true.
        outputs: For each task, the number of weight vectors to predict: 1, or one per output of the
            task.
        experts: Number of experts.
        hidden: Units of each hidden layer.
        dropout: Dropout probability after each hidden layer.
        depth: Number of hidden layers.
        top_k: Number of nonzero weights per weight vector; 0 selects all experts.
        spectrum: Whether to transform the sampled leads to their log spectrum.
    """

    window: Tensor

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
        spectrum: bool = False,
    ) -> None:
        super().__init__()
        self.spectrum = spectrum
        if spectrum:
            # A buffer, so that the state dict shows whether the gate transforms its input.
            self.register_buffer("window", hann_window())
        self.experts = experts
        self.top_k = top_k
        # British spelling, kept because the state-dict keys of saved runs contain it.
        self.standardise = Standardize(features, compress=True)
        self.ffn = nn.ModuleDict(
            {
                task: FFN(features, hidden, vectors * experts, dropout, depth)
                for task, vectors in outputs.items()
            }
        )
        for ffn in self.ffn.values():
            assert isinstance(ffn, FFN)
            nn.init.zeros_(ffn.prediction.weight)
            nn.init.zeros_(ffn.prediction.bias)

    def forward(
        self, leads: Float[Tensor, "batch feature"]
    ) -> dict[str, Float[Tensor, "batch output expert"]]:
        """Compute the expert weights of every task, which sum to 1 over the experts."""
        lead_features = self.standardise(
            log_spectrum(leads, self.window) if self.spectrum else leads
        )
        return {
            task: expert_weights(ffn(lead_features).unflatten(-1, (-1, self.experts)), self.top_k)
            for task, ffn in self.ffn.items()
        }


def expert_weights(
    logits: Float[Tensor, "*batch expert"], top_k: int = 0
) -> Float[Tensor, "*batch expert"]:
    """Compute the softmax over the experts.

    Args:
        logits: One logit per expert.
        top_k: Number of experts to keep; the others get weight 0. 0 keeps all experts.

    Returns:
        Weights that sum to 1.
    """
    if 0 < top_k < logits.shape[-1]:
        kept = logits.topk(top_k, dim=-1).indices
        dropped = torch.ones_like(logits, dtype=torch.bool).scatter(-1, kept, False)
        # The weight of a kept expert must not underflow to 0.
        logits = logits.clamp_min(logits.amax(-1, keepdim=True) - LARGEST_LOGIT_DIFFERENCE)
        logits = logits.masked_fill(dropped, float("-inf"))
    return logits.softmax(-1)


def mix(
    weights: Float[Tensor, "*batch output_or_1 expert"],
    predictions: Float[Tensor, "expert *batch output"],
    *,
    kind: Kind = "multiclass",
    mixture: Mixture = "probabilities",
) -> Float[Tensor, "*batch output"]:
    """Compute the weighted mean of the experts' predictions, `sum_i W_i y_i`.

    Args:
        weights: Expert weights, one vector per record or one per record and output.
        predictions: Standardized values (regression) or probabilities of classes or labels.
        kind: Kind of the task.
        mixture: What is averaged for classes and labels; a regression averages values.

    Returns:
        The mixed predictions: standardized values or probabilities. With one weight vector per
        output, class probabilities are renormalized to sum to 1; those of the labels of a
        multilabel task are not.
    """
    by_expert = predictions.movedim(0, -1)
    if mixture == "logits" and kind != "regression":
        if kind == "multilabel":
            return (weights * by_expert.logit(MIN_PROBABILITY)).sum(-1).sigmoid()
        return (weights * by_expert.clamp_min(MIN_PROBABILITY).log()).sum(-1).softmax(-1)
    mixed = (weights * by_expert).sum(-1)
    if weights.shape[-2] > 1 and kind != "multilabel":
        mixed = mixed / mixed.sum(-1, keepdim=True).clamp_min(1e-12)
    return mixed
