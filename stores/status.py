"""Values of the `status` array."""

import numpy as np
from jaxtyping import Bool, UInt8

ABSENT = 0
WHOLE = 1
FIRST_REASON = 2
"""Values from here on are reasons for a failure, in the order of the store's `flags`."""


def pending_rows(
    status: UInt8[np.ndarray, " record"], *, retry_failed: bool
) -> Bool[np.ndarray, " record"]:
    """Return a mask of the rows to compute: the absent and, if requested, the failed ones."""
    mask: np.ndarray = (status != WHOLE) if retry_failed else (status == ABSENT)
    return mask
