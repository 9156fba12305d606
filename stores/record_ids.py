"""What names a record: an int64, or text where the data set's own ids are text.

In memory both are numpy arrays, text of numpy's fixed width (`U`). On disk text is Zarr's data type
`string` by the codec `vlen-utf8`, both of them in zarr-extensions: no id is too long for a store
that is there, and other implementations of Zarr read it. (numpy's own fixed width, zarr-python's
`fixed_length_utf32`, has no specification in Zarr v3, and zarr-python warns of it.)
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped
from numcodecs.vlen import VLenUTF8

RecordIds = Shaped[np.ndarray, " record"]
"""(N,) int64, or text (`U`)."""

UNWRITTEN: dict[str, Any] = {"int64": -1, "string": ""}
"""What stands where no id was written yet, by Zarr's data type."""


def as_ids(values: Any) -> RecordIds:
    """Ids out of a list, a column of a table or a Zarr array, as they are in memory everywhere.

    Raises TypeError where they are neither whole numbers nor text.
    """
    found = np.asarray(values)
    if found.dtype.kind == "U":
        return found
    if found.dtype.kind in "iu" or (found.dtype.kind == "f" and not found.size):
        return found.astype(np.int64)
    # Objects, as pandas gives them, and numpy's text of any width, as zarr-python does.
    listed = found.tolist()
    if not all(isinstance(one, str) for one in listed):
        raise TypeError(f"Ids are whole numbers or text, not {found.dtype}.")
    return np.array(listed, str)


def is_text(ids: RecordIds) -> bool:
    """Whether ids are text."""
    return ids.dtype.kind == "U"


def zarr_data_type(ids: RecordIds) -> str:
    """The Zarr data type that keeps these ids."""
    return "string" if is_text(ids) else "int64"


def is_unwritten(ids: RecordIds) -> Bool[np.ndarray, " record"]:
    """Which places have no id yet."""
    mask: np.ndarray = ids == UNWRITTEN[zarr_data_type(ids)]
    return mask


def pad_ids(ids: RecordIds, rows: int) -> RecordIds:
    """Ids, followed by places without one."""
    blank = np.full(rows - len(ids), UNWRITTEN[zarr_data_type(ids)], ids.dtype)
    return np.concatenate([ids, blank])


def encode_chunk(ids: RecordIds) -> bytes:
    """A chunk's bytes, before its checksum."""
    if is_text(ids):
        return bytes(VLenUTF8().encode(ids.astype(object)))
    return ids.astype("<i8").tobytes()
