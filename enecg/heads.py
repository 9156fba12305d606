"""Heads on frozen experts: one FFN per task, adapted by LoRA, and optional closed-form paths.

In `y_i = FFN_i(M_i(X))` of EnECG (arXiv 2511.22935), the hidden layers of the FFN keep their
initial weights `W0`, and only a low-rank update `BA` is trained (`W0 + BA`); see `lora.py`. The
output layer is trained without LoRA. `stacked.py` trains many FFNs in one pass.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enecg.laplace_kernel import KernelPath
from enecg.quantile_bins import QuantileBins, encoded_size

LINEAR_DEVIATIONS = 3.0
"""Absolute value above which `compress_outliers` compresses standardized features."""


def compress_outliers(features: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Compress outliers of standardized features logarithmically, in place.

    An absolute value ``LINEAR_DEVIATIONS + x`` with positive x becomes ``LINEAR_DEVIATIONS +
    log(1 + x)``. This map is monotone and has a continuous derivative. Without it, a few outliers,
    such as the amplitudes of a noisy record, determine the coefficients of linear layers.

    Args:
        features: Standardized features, float; modified in place.

    Returns:
        The same tensor.
    """
    outlying = features.detach().abs() > LINEAR_DEVIATIONS
    tail = features[outlying]
    excess = tail.abs() - LINEAR_DEVIATIONS
    features[outlying] = (LINEAR_DEVIATIONS + excess.log1p()).copysign(tail)
    return features


class Standardize(nn.Module):
    """Standardizes features with the mean and standard deviation of the training records.

    Args:
        features: Number of features.
        compress: Whether to apply `compress_outliers` to the standardized features.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int, *, compress: bool = False) -> None:
        super().__init__()
        self.compress = compress
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))

    def fit(self, embedding: Float[Tensor, "record feature"]) -> None:
        """Set `mean` and `scale` to the mean and population standard deviation of each feature."""
        values = embedding.float()
        self.mean = values.mean(0)
        deviation = values.std(0, unbiased=False)
        # The scale of a constant feature is 1, because dividing by a deviation of 0 would give NaN.
        self.scale = torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation))

    def forward(
        self, embedding: Float[Tensor, "*batch feature"]
    ) -> Float[Tensor, "*batch feature"]:
        """Return the standardized features as float32."""
        standardized = (embedding.float() - self.mean) / self.scale
        return compress_outliers(standardized) if self.compress else standardized


class FFN(nn.Module):
    """A feed-forward network: `prediction(gelu(hidden(x)))` with `depth` 1.

    Args:
        features: Number of input features.
        hidden: Units of each hidden layer.
        outputs: Number of outputs.
        dropout: Dropout probability after each hidden layer.
        depth: Number of hidden layers; with 0, the network is a single linear layer.
        linear_features: Number of input features of the linear path, a linear layer whose result is
            added to that of the output layer; 0 for no linear path. The linear path is fitted
            first, in closed form. The other layers are then trained to improve the sum.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        outputs: int,
        dropout: float,
        depth: int = 1,
        *,
        linear_features: int = 0,
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(linear_features, outputs) if linear_features else None
        if depth:
            self.hidden: nn.Module = nn.Linear(features, hidden)
        self.more = nn.ModuleList([nn.Linear(hidden, hidden) for _ in range(depth - 1)])
        self.dropout = nn.Dropout(dropout)
        self.prediction = nn.Linear(hidden if depth else features, outputs)
        self.depth = depth

    @property
    def hidden_layers(self) -> list[nn.Module]:
        """The hidden layers in order: `torch.nn.Linear`, `LoraLinear` or peft's layers."""
        return [self.hidden, *self.more] if self.depth else []

    def forward(
        self,
        features: Float[Tensor, "batch feature"],
        encoded: Float[Tensor, "batch encoded"] | None = None,
    ) -> Float[Tensor, "batch output"]:
        """Compute standardized values (regression), or logits of classes or labels.

        Args:
            features: Standardized features.
            encoded: Input of the linear path. Default: the features.

        Returns:
            The outputs.
        """
        states = features
        for layer in self.hidden_layers:
            states = self.dropout(nn.functional.gelu(layer(states)))
        result: Tensor = self.prediction(states)
        if self.linear is not None:
            result = result + self.linear(features if encoded is None else encoded)
        return result


class TaskHeads(nn.Module):
    """One FFN per task on the standardized embedding of one expert.

    Args:
        features: Size of the embedding.
        outputs: Number of outputs by task: 1 for a regression, else the number of classes or
            labels.
        hidden: Units of each hidden layer.
        dropout: Dropout probability after each hidden layer.
        depth: Number of hidden layers.
        shared: Whether the FFNs of all tasks share one first hidden layer.
        linear: Whether each FFN has a linear path; see `FFN`.
        bins: Number of bins per feature in the encoding of the input of linear paths; 0 for no
            encoding. See `QuantileBins`.
        landmarks: Number of landmarks of the kernel path, whose outputs are added to those of the
            FFNs; 0 for no kernel path. See `KernelPath`.
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
        linear: bool = False,
        bins: int = 0,
        landmarks: int = 0,
    ) -> None:
        super().__init__()
        self.shared = shared
        # British spelling, kept because the state-dict keys of saved runs contain it.
        self.standardise = Standardize(features, compress=True)
        self.encode = QuantileBins(features, bins) if bins else None
        linear_features = encoded_size(features, bins) if linear else 0
        self.ffn = nn.ModuleDict(
            {
                task: FFN(features, hidden, size, dropout, depth, linear_features=linear_features)
                for task, size in outputs.items()
            }
        )
        self.kernel = KernelPath(features, landmarks, outputs) if landmarks else None
        if shared:
            first = next(iter(self.ffn.values()))
            for ffn in self.ffn.values():
                ffn.hidden = first.hidden

    def forward(
        self, embedding: Float[Tensor, "batch feature"]
    ) -> dict[str, Float[Tensor, "batch output"]]:
        """Compute every task's outputs; see `FFN.forward`."""
        features = self.standardise(embedding)
        encoded = features if self.encode is None else self.encode(features)
        outputs = {task: ffn(features, encoded) for task, ffn in self.ffn.items()}
        if self.kernel is None:
            return outputs
        kernel = self.kernel(features)
        return {task: output + kernel[task] for task, output in outputs.items()}
