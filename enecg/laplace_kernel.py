"""Kernel functions of features, which can represent interactions between features.

The Laplace kernel of two records is ``exp(-distance)``, with a weighted sum of absolute differences
of their features as the distance. Weights are larger for features that explain more of the labels;
with equal weights, the few features that determine a label would hardly matter among hundreds.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enecg.quantile_bins import QuantileBins

MAX_RECORDS = 2048
"""Maximum number of records for kernel regressions, which decompose a records x records matrix."""

MAX_DIFFERENCES = 1e9
"""Maximum number of absolute differences of features in a kernel matrix; see `can_use_kernel`."""

CHUNK_VALUES = 60_000
"""Maximum number of differences in memory at a time, unless one record has more. They fit into the
cache of a CPU."""

BLOCK_RECORDS = 64
"""Records per block of a symmetric kernel matrix."""

MIN_SHARE = 0.05
"""Added to the share of the labels' variance that a feature explains. If no feature explains more
than noise does, all features have similar weights."""


def laplace_kernels(
    features: Float[Tensor, "record feature"],
    landmarks: Float[Tensor, "landmark feature"],
    rates: Float[Tensor, "kernel feature"],
) -> Float[Tensor, "kernel record landmark"]:
    """Compute Laplace kernels between records and landmarks.

    Args:
        features: Standardized features of the records.
        landmarks: Standardized features of the landmarks, which are records too.
        rates: Weight of each feature's absolute difference, for each kernel.

    Returns:
        Kernel values, in (0, 1].
    """
    size = max(1, CHUNK_VALUES // landmarks.numel())
    # Compute the differences once for all kernels, because they take longer than the product.
    distances = [(part.unsqueeze(1) - landmarks).abs_() @ rates.T for part in features.split(size)]
    return torch.cat(distances).neg().exp().movedim(-1, 0)


def laplace_matrices(
    features: Float[Tensor, "record feature"], rates: Float[Tensor, "kernel feature"]
) -> Float[Tensor, "kernel record record"]:
    """Compute Laplace kernels between all pairs of records.

    Args:
        features: Standardized features of the records.
        rates: Weight of each feature's absolute difference, for each kernel.

    Returns:
        Symmetric matrices of kernel values, in (0, 1].
    """
    matrices = features.new_empty((len(rates), len(features), len(features)))
    for start in range(0, len(features), BLOCK_RECORDS):
        rows = slice(start, start + BLOCK_RECORDS)
        values = laplace_kernels(features[rows], features[start:], rates)
        matrices[:, rows, start:] = values
        matrices[:, start:, rows] = values.mT
    return matrices


def feature_rates(
    features: Float[Tensor, "record feature"],
    targets: Float[Tensor, "record output"],
    encoder: QuantileBins,
) -> Float[Tensor, " feature"]:
    """Compute the weights of features in the kernel of a task.

    A weight is proportional to ``MIN_SHARE + max(0, share - chance)``: the share of the targets'
    variance that lies between the bins of the feature, and the share expected by chance.

    Args:
        features: Standardized features of the training records.
        targets: Encoded values, or indicators of classes or labels.
        encoder: Bins of the features.

    Returns:
        The weights, which sum to 1.
    """
    centered = (targets - targets.mean(0)).to(features)
    total = centered.square().sum().clamp_min(torch.finfo(features.dtype).tiny)
    # The records in a bin are those above its lower edge minus those above its upper edge.
    above = (features.unsqueeze(1) >= encoder.edges[1:-1]).to(features)
    above = nn.functional.pad(above, (0, 0, 1, 1))
    above[:, 0] = 1
    counts = -above.sum(0).diff(dim=0)
    sums = torch.einsum("rbf,ro->bfo", above, centered).diff(dim=0)
    between = (sums.square().sum(-1) / counts.clamp_min(1)).sum(0)
    chance = ((counts > 0).sum(0) - 1) / max(1, len(features) - 1)
    weights = (between / total - chance).clamp_min(0) + MIN_SHARE
    return weights / weights.sum()


def can_use_kernel(records: int, features: int) -> bool:
    """Return whether kernel regressions take at most about ten seconds per task and repeat.

    Args:
        records: Number of records.
        features: Number of features.
    """
    return records <= MAX_RECORDS and records**2 * features <= MAX_DIFFERENCES


class KernelPath(nn.Module):
    """Weighted sums of the kernel values of a record and each landmark, with one kernel per task.

    Args:
        features: Number of features.
        landmarks: Number of landmarks.
        outputs: Number of outputs by task.
    """

    landmarks: Tensor

    def __init__(self, features: int, landmarks: int, outputs: dict[str, int]) -> None:
        super().__init__()
        self.register_buffer("landmarks", torch.zeros(landmarks, features))
        self.rates, self.weight = nn.ParameterDict(), nn.ParameterDict()
        for task, size in outputs.items():
            self.rates[task] = nn.Parameter(torch.zeros(features), requires_grad=False)
            self.weight[task] = nn.Parameter(torch.zeros(size, landmarks), requires_grad=False)

    def forward(
        self, features: Float[Tensor, "batch feature"]
    ) -> dict[str, Float[Tensor, "batch output"]]:
        """Compute the outputs of all tasks.

        Args:
            features: Standardized features of records.

        Returns:
            The outputs by task.
        """
        rates = torch.stack([self.rates[task] for task in self.weight])
        kernels = laplace_kernels(features, self.landmarks, rates)
        return {
            task: kernel @ weight.T
            for kernel, (task, weight) in zip(kernels, self.weight.items(), strict=True)
        }
