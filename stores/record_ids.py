"""Record ids: int64, or text for a data set whose own ids are text.

In memory, text ids are a fixed-width numpy array (dtype ``U``). On disk they have Zarr's data type
`string` with the codec `vlen-utf8`, which both are in zarr-extensions and limit no id's length.
(zarr-python's `fixed_length_utf32` has no Zarr v3 specification and causes a warning.)
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped
from numcodecs.vlen import VLenUTF8

RecordIds = Shaped[np.ndarray, " record"]
"""Ids of shape (N,), dtype int64 or ``U``."""
UNWRITTEN: dict[str, Any] = {"int64": -1, "string": ""}
"""Fill value of rows without an id, by Zarr data type."""


def as_ids(values: Any) -> RecordIds:
    """Convert a list, a table column or a Zarr array to record ids.

    Returns:
        An array of dtype int64 or ``U``.

    Raises:
        TypeError: The values are neither integers nor text.
    """
    array = np.asarray(values)
    if array.dtype.kind == "U":
        return array
    if array.dtype.kind in "iu" or (array.dtype.kind == "f" and not array.size):
        return array.astype(np.int64)
    # pandas returns text as objects, zarr-python as numpy's variable-width strings.
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
    """Return a mask of the positions without an id."""
    mask: np.ndarray = ids == UNWRITTEN[zarr_data_type(ids)]
    return mask


def pad_ids(ids: RecordIds, rows: int) -> RecordIds:
    """Append positions without an id, up to a total of `rows`."""
    blank = np.full(rows - len(ids), UNWRITTEN[zarr_data_type(ids)], ids.dtype)
    return np.concatenate([ids, blank])


def encode_chunk(ids: RecordIds) -> bytes:
    """Encode a chunk of ids as Zarr does, without the checksum."""
    if is_text(ids):
        return bytes(VLenUTF8().encode(ids.astype(object)))
    return ids.astype("<i8").tobytes()
