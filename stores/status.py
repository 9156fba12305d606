"""What the status of a row says: whether it is there, and if not, why."""

import numpy as np
from jaxtyping import Bool, UInt8

ABSENT = 0
WHOLE = 1
FIRST_REASON = 2
"""Status values from here on are reasons, in the order of a store's `flags`."""


def absent(status: UInt8[np.ndarray, " record"], *, or_failed: bool) -> Bool[np.ndarray, " record"]:
    """Which rows are still to be had: the absent ones, and if asked the failed ones too."""
    mask: np.ndarray = (status != WHOLE) if or_failed else (status == ABSENT)
    return mask
