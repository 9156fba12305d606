"""Piecewise-linear encoding of features, so that a linear layer can fit additive functions.

The encoding is that of Gorishniy et al., "On Embeddings for Numerical Features in Tabular Deep
Learning" (arXiv 2203.05556), with two differences: it contains the feature itself, and positions in
the first and last bin are limited to the range 0 to 1 like all others. With this encoding, a linear
layer computes a sum of continuous piecewise-linear functions, one per feature. Their knots are
quantiles of the training records.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

BINS = 8
"""Number of bins per feature."""

MAX_RECORDS = 10_000
"""Maximum number of records from which quantiles are computed. Of more records, an evenly spaced
subset is used."""

MAX_MULTIPLICATIONS = 5e10
"""Maximum number of multiplications for the Gram matrix of encoded features; see `can_encode`."""


class QuantileBins(nn.Module):
    """Encodes each feature as its value and its position in each of several bins.

    The position in a bin is 0 below the bin, 1 above it and linear in between. The position in a
    bin without width, which features with few distinct values have, is 0.

    Args:
        features: Number of features.
        bins: Number of bins per feature.
    """

    edges: Tensor

    def __init__(self, features: int, bins: int = BINS) -> None:
        super().__init__()
        self.register_buffer("edges", torch.zeros(bins + 1, features))

    def fit(self, features: Float[Tensor, "record feature"]) -> None:
        """Set the edges of the bins to quantiles of these records.

        Args:
            features: Standardized features of the training records.
        """
        sample = features[:: -(-len(features) // MAX_RECORDS)]
        ordered = sample.sort(0).values
        ranks = torch.linspace(0, len(ordered) - 1, len(self.edges), device=features.device)
        low = ranks.floor().long()
        high = (low + 1).clamp_max(len(ordered) - 1)
        self.edges = ordered[low].lerp(ordered[high], (ranks - low).unsqueeze(1).to(ordered))

    def forward(self, features: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch encoded"]:
        """Encode features.

        Args:
            features: Standardized features.

        Returns:
            The features, followed by the positions of all features in the first bin, those in the
            second bin, and so on: ``(bins + 1) * feature`` values per record.
        """
        low, width = self.edges[:-1], self.edges.diff(dim=0)
        # A bin without width must not divide by 0: 0 / inf is 0.
        width = torch.where(width > 0, width, torch.inf)
        # In place: the encoding is large.
        positions = (features.unsqueeze(-2) - low).div_(width).clamp_(0, 1)
        return torch.cat([features, positions.flatten(-2)], -1)


def encoded_size(features: int, bins: int = BINS) -> int:
    """Return the number of values per record after the encoding of `QuantileBins`.

    Args:
        features: Number of features before the encoding.
        bins: Number of bins per feature.
    """
    return (bins + 1) * features


def can_encode(records: int, features: int) -> bool:
    """Return whether ridge regressions on encoded features take at most about half a minute.

    Args:
        records: Number of records.
        features: Number of features before the encoding.
    """
    size = encoded_size(features)
    return records * size * min(records, size) <= MAX_MULTIPLICATIONS
