"""Number of pooled features of each pooling; the poolings are functions in `enecg.pooling`."""

from collections.abc import Callable

from enecg.errors import UserError

SEGMENTS = 4
"""Number of consecutive parts in the pooling `segments`."""

POOLED_SIZES: dict[str, Callable[[int, int], int]] = {
    "mean": lambda series, size: size,
    "mean-std": lambda series, size: 2 * size,
    "per-series": lambda series, size: series * size,
    "per-series-mean-std": lambda series, size: 2 * series * size,
    "segments": lambda series, size: SEGMENTS * size,
}
"""Number of pooled features by pooling, as a function of the numbers of series and of features per
token."""


def pooled_size(name: str, series: int, size: int) -> int:
    """Return the number of features of a pooled vector.

    Args:
        name: A key of `POOLED_SIZES`.
        series: Number of series per record.
        size: Features per token.

    Returns:
        The length of the vector that `pooling.pool` returns per record.

    Raises:
        UserError: The pooling does not exist.
    """
    if name not in POOLED_SIZES:
        raise UserError(f"Unknown pooling {name!r}; available: {', '.join(POOLED_SIZES)}.")
    return POOLED_SIZES[name](series, size)
