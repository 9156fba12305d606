"""Record ids: int64, or text if the data set's own ids are text.

In memory, text ids are a fixed-width NumPy array (dtype ``U``). On disk, they have the Zarr data
type `string` and the codec `vlen-utf8`, which store ids of any length; both are registered in
zarr-extensions. (zarr-python's `fixed_length_utf32` has no Zarr v3 specification and causes a
warning.)
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped
from numcodecs.vlen import VLenUTF8

from stores.errors import StoreError

RecordIds = Shaped[np.ndarray, " record"]
"""Ids of shape (N,), dtype int64 or ``U``."""
UNWRITTEN: dict[str, Any] = {"int64": -1, "string": ""}
"""Fill value of rows without an id, by Zarr data type."""


class InvalidIds(StoreError, ValueError):
    """An id is too large for int64."""


def as_ids(values: Any) -> RecordIds:
    """Convert a list, a table column or a Zarr array to record ids.

    Args:
        values: Integers or text.

    Returns:
        An array of dtype int64 or ``U``.

    Raises:
        InvalidIds: An unsigned 64-bit integer is 2**63 or larger.
        TypeError: The values are neither integers nor text.
    """
    array = np.asarray(values)
    if array.dtype.kind == "U":
        return array
    if array.dtype.kind in "iu" or (array.dtype.kind == "f" and not array.size):
        if array.dtype.kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
            raise InvalidIds(
                f"The id {array.max()} is 2**63 or larger; use smaller integers, or text."
            )
        return array.astype(np.int64, copy=False)
    # pandas returns text as Python objects, and zarr-python as NumPy's `StringDType`.
    items = array.tolist()
    if not all(isinstance(item, str) for item in items):
        raise TypeError(f"Record ids must be integers or text, not {array.dtype}.")
    return np.array(items, str)


def is_text(ids: RecordIds) -> bool:
    """Return whether ids are text."""
    return ids.dtype.kind == "U"


def zarr_data_type(ids: RecordIds) -> str:
    """Return the Zarr data type that stores these ids."""
    return "string" if is_text(ids) else "int64"


def is_unwritten(ids: RecordIds) -> Bool[np.ndarray, " record"]:
    """Return a mask of the elements that are the fill value, not an id."""
    mask: np.ndarray = ids == UNWRITTEN[zarr_data_type(ids)]
    return mask


def pad_ids(ids: RecordIds, rows: int) -> RecordIds:
    """Append the fill value to ids.

    Args:
        ids: The ids.
        rows: Length of the result.

    Returns:
        The padded ids.
    """
    padding = np.full(rows - len(ids), UNWRITTEN[zarr_data_type(ids)], ids.dtype)
    return np.concatenate([ids, padding])


def encode_chunk(ids: RecordIds) -> bytes:
    """Encode a chunk of ids like Zarr, but without the checksum."""
    if is_text(ids):
        return bytes(VLenUTF8().encode(ids.astype(object)))
    return ids.astype("<i8").tobytes()
