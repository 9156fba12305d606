"""Pooling of an expert's hidden states into one vector per record.

The name of the pooling is part of the expert's spec. States have the axes (record, series, token,
feature); S is the number of series and F the number of features. A series is a lead or a segment of
the record, and its tokens are consecutive in time. Averaging over tokens discards the rhythm;
averaging over leads discards the electrical axis.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from enecg.pooled_sizes import SEGMENTS

States = Float[Tensor, "record series token feature"]
Pooled = Float[Tensor, "record pooled"]


def mean(states: States) -> Pooled:
    """Average over series and tokens; returns F features."""
    return states.mean((1, 2))


def mean_std(states: States) -> Pooled:
    """Compute mean and SD over the tokens of each series, and average both over all series.

    Args:
        states: Hidden states.

    Returns:
        2F features.
    """
    return torch.cat([states.mean((1, 2)), states.std(2, unbiased=False).mean(1)], dim=-1)


def per_series(states: States) -> Pooled:
    """Average over the tokens of each series; returns S x F features."""
    return states.mean(2).flatten(1)


def per_series_mean_std(states: States) -> Pooled:
    """Compute mean and SD over the tokens of each series; returns S x 2F features."""
    return torch.cat([states.mean(2), states.std(2, unbiased=False)], dim=-1).flatten(1)


def segments(states: States) -> Pooled:
    """Average over series and over each quarter of the tokens; returns 4F features."""
    parts = states.mean(1).tensor_split(SEGMENTS, dim=1)
    return torch.cat([part.mean(1) for part in parts], dim=-1)


POOLINGS: dict[str, Callable[[States], Pooled]] = {
    "mean": mean,
    "mean-std": mean_std,
    "per-series": per_series,
    "per-series-mean-std": per_series_mean_std,
    "segments": segments,
}
"""Poolings by name; see `pooled_sizes.POOLED_SIZES` for the number of pooled features."""


def pool(name: str, states: States) -> Pooled:
    """Pool the states of an expert.

    Args:
        name: A key of `POOLINGS`.
        states: States of a batch of records.

    Returns:
        One vector of `pooled_size` features per record.
    """
    return POOLINGS[name](states)
