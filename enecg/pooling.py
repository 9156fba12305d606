"""How an expert's states become one vector a record. The choice is part of the expert's spec.

States are (record, series, token, feature): a series is a lead, or a segment of the record, and
tokens follow each other in time. A mean over tokens alone loses rhythm, one over leads loses axis.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from enecg.errors import UserError

States = Float[Tensor, "record series token feature"]
Pooled = Float[Tensor, "record pooled"]


def mean(states: States) -> Pooled:
    """The mean over series and tokens: F features."""
    return states.mean((1, 2))


def mean_std(states: States) -> Pooled:
    """Mean and standard deviation over tokens, both averaged over series: 2F features."""
    return torch.cat([states.mean((1, 2)), states.std(2, unbiased=False).mean(1)], dim=-1)


def per_series(states: States) -> Pooled:
    """The mean over tokens of each series, one after the other: S x F features."""
    return states.mean(2).flatten(1)


def per_series_mean_std(states: States) -> Pooled:
    """Mean and standard deviation over tokens of each series: 2 x S x F features."""
    return torch.cat([states.mean(2), states.std(2, unbiased=False)], dim=-1).flatten(1)


SEGMENTS = 4


def segments(states: States) -> Pooled:
    """The mean over series and over each of four parts of the time: 4F features."""
    parts = states.mean(1).tensor_split(SEGMENTS, dim=1)
    return torch.cat([part.mean(1) for part in parts], dim=-1)


POOLINGS: dict[str, tuple[Callable[[States], Pooled], Callable[[int, int], int]]] = {
    "mean": (mean, lambda series, size: size),
    "mean-std": (mean_std, lambda series, size: 2 * size),
    "per-series": (per_series, lambda series, size: series * size),
    "per-series-mean-std": (per_series_mean_std, lambda series, size: 2 * series * size),
    "segments": (segments, lambda series, size: SEGMENTS * size),
}
"""By name: the pooling, and its number of features from the series and the size of a state."""


def pool(name: str, states: States) -> Pooled:
    """States pooled by name."""
    return POOLINGS[name][0](states)


def pooled_size(name: str, series: int, size: int) -> int:
    """How many features a pooling gives. Raises UserError for a name that is no pooling."""
    if name not in POOLINGS:
        raise UserError(f"There is no pooling {name!r}; there are {', '.join(POOLINGS)}.")
    return POOLINGS[name][1](series, size)
