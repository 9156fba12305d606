"""The trainable part on top of a frozen expert: one FFN per task, adapted by LoRA.

`y_i = FFN_i(M_i(X))` of EnECG (arXiv 2511.22935): the FFN's hidden layers keep their drawn weights
and learn a low-rank update (`W0 + BA`), its last layer is trained outright. These are the modules
that are saved and loaded; many of them at once are trained by `stacked.py`.
"""

import torch
from jaxtyping import Float
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

HIDDEN_LAYERS = r"(.*\.)?(hidden|more\.\d+)"
"""What LoRA adapts, as peft takes it."""


class Standardize(nn.Module):
    """Brings features to mean 0 and variance 1 by statistics of the training records."""

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))

    def fit(self, embedding: Float[Tensor, "record feature"]) -> None:
        """Take the statistics of these records, and of no others."""
        values = embedding.float()
        self.mean = values.mean(0)
        deviation = values.std(0, unbiased=False)
        # A feature that never varies says nothing: it becomes 0, not 0/0.
        self.scale = torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation))

    def forward(
        self, embedding: Float[Tensor, "*batch feature"]
    ) -> Float[Tensor, "*batch feature"]:
        """The standardised features, float32."""
        return (embedding.float() - self.mean) / self.scale


class FFN(nn.Module):
    """Hidden layers and a prediction: `prediction(gelu(hidden(x)))` where `depth` is 1.

    With `depth` 0 it is one linear layer.
    """

    def __init__(
        self, features: int, hidden: int, outputs: int, dropout: float, depth: int = 1
    ) -> None:
        super().__init__()
        if depth:
            self.hidden = nn.Linear(features, hidden)
        self.more = nn.ModuleList([nn.Linear(hidden, hidden) for _ in range(depth - 1)])
        self.dropout = nn.Dropout(dropout)
        self.prediction = nn.Linear(hidden if depth else features, outputs)
        self.depth = depth

    def forward(self, features: Float[Tensor, "batch feature"]) -> Float[Tensor, "batch output"]:
        """Predictions: standard units of a regression, or logits of the classes."""
        states = features
        for layer in [self.hidden, *self.more] if self.depth else []:
            states = self.dropout(nn.functional.gelu(layer(states)))
        result: Tensor = self.prediction(states)
        return result


class TaskHeads(nn.Module):
    """One FFN per task over the same standardised features of one expert.

    `outputs` gives each task's number of outputs: 1 for a regression, else its classes. `shared`:
    all tasks have the same hidden layer, the very same module.
    """

    def __init__(
        self,
        features: int,
        outputs: dict[str, int],
        *,
        hidden: int,
        dropout: float,
        depth: int = 1,
        shared: bool = False,
    ) -> None:
        super().__init__()
        self.shared = shared
        self.standardise = Standardize(features)
        self.ffn = nn.ModuleDict(
            {task: FFN(features, hidden, size, dropout, depth) for task, size in outputs.items()}
        )
        if shared:
            first = next(iter(self.ffn.values()))
            for ffn in self.ffn.values():
                ffn.hidden = first.hidden

    def adapt(self, *, rank: int, alpha: float, dropout: float) -> None:
        """Give every task's FFN an adapter of its own, as `with_lora` does."""
        for task, ffn in self.ffn.items():
            self.ffn[task] = with_lora(ffn, rank=rank, alpha=alpha, dropout=dropout)

    def forward(
        self, embedding: Float[Tensor, "batch feature"]
    ) -> dict[str, Float[Tensor, "batch output"]]:
        """Every task's predictions."""
        features = self.standardise(embedding)
        return {task: ffn(features) for task, ffn in self.ffn.items()}


def with_lora(module: nn.Module, *, rank: int, alpha: float, dropout: float) -> PeftModel:
    """A module whose `hidden` layers learn by LoRA and whose `prediction` layers learn outright.

    All else is frozen. The result's adapter is saved by peft's own format.
    """
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=HIDDEN_LAYERS,
        modules_to_save=["prediction"],
    )
    return get_peft_model(module, config)
