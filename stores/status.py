"""Values of the `status` array."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, UInt8

ABSENT = 0
"""The embedding of the row has not been computed."""

WHOLE = 1
"""The row contains an embedding."""

FIRST_REASON = 2
"""Lowest status of a failed row; a status is an index into `EmbeddingStore.flags`."""


def flag_of(status: int, flags: Sequence[str]) -> str:
    """Return the flag of a status; ``status_N`` for a status N without a flag."""
    return flags[status] if status < len(flags) else f"status_{status}"


def pending_rows(
    status: UInt8[np.ndarray, " record"], *, retry_failed: bool
) -> Bool[np.ndarray, " record"]:
    """Return a mask of the rows to compute.

    Args:
        status: Status of each row.
        retry_failed: Whether to include failed rows.

    Returns:
        Mask of the absent rows and, with `retry_failed`, the failed rows.
    """
    mask: np.ndarray = (status != WHOLE) if retry_failed else (status == ABSENT)
    return mask
