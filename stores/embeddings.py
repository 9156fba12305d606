"""One store: the embeddings that one expert made of one data set's records.

A plain Zarr v3 group (the layout is told in `docs/store-format.md`), openable with zarr, xarray
or dask alone. Rows are only ever appended, one row a record; a row is there when its status says
so, and its status is written after its data.
"""

import errno
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import zarr
from jaxtyping import Bool, Float, Int, UInt8

from stores.errors import StoreError, damaged
from stores.location import locked

ABSENT = 0
WHOLE = 1
FIRST_REASON = 2
"""Status values from here on are reasons, in the order of `flags`."""

UNWRITTEN_ID = -1


@dataclass(frozen=True)
class EmbeddingStore:
    """A store that is open. Made by `opening.create` and `opening.open_store`."""

    path: Path
    group: zarr.Group

    @property
    def provenance(self) -> dict[str, Any]:
        """What defines the store: expert, weights, preprocessing, data set, dtype."""
        provenance = self.group.attrs["provenance"]
        assert isinstance(provenance, dict)
        return provenance

    @property
    def identity(self) -> str:
        """The digest of the provenance, which is also the last part of the path."""
        return self.path.name

    @cached_property
    def record_id(self) -> Int[np.ndarray, " record"]:
        """(N,) int64: row i of every array is this record."""
        ids: np.ndarray = self.array("record_id")[:]  # type: ignore[assignment]
        # Rows whose ids a killed process did not come to write are not there yet.
        holes = np.flatnonzero(ids == UNWRITTEN_ID)
        return ids[: holes[0]] if len(holes) else ids

    @property
    def features(self) -> int:
        """Features per record."""
        return int(self.array("embedding").shape[1])

    @property
    def shard_rows(self) -> int:
        """Rows in a shard, the unit of writing."""
        shards = self.array("embedding").shards
        assert shards is not None
        return int(shards[0])

    @property
    def shards(self) -> int:
        """How many shards the rows make."""
        return -(-len(self.record_id) // self.shard_rows)

    @property
    def flags(self) -> tuple[str, ...]:
        """The words for statuses 0, 1, 2, ...: CF's `flag_meanings`."""
        return tuple(str(self.array("status").attrs["flag_meanings"]).split())

    def status(self, shard: int | None = None) -> UInt8[np.ndarray, " row"]:
        """The status of all rows or of a shard's: 0 absent, 1 whole, 2 and up one of `flags`."""
        rows = slice(0, len(self.record_id)) if shard is None else self.rows_of(shard)
        status: np.ndarray = self.array("status")[rows]  # type: ignore[assignment]
        return status

    def rows_of(self, shard: int) -> slice:
        """The rows of a shard."""
        first = shard * self.shard_rows
        return slice(first, min(first + self.shard_rows, len(self.record_id)))

    def read_shard(self, shard: int) -> Float[np.ndarray, "row feature"]:
        """A whole shard as stored; NaN where a row is absent."""
        try:
            rows: np.ndarray = self.array("embedding")[self.rows_of(shard)]  # type: ignore[assignment]
        except ValueError as error:
            raise damaged(self.path, f"shard {shard} does not match its checksum") from error
        return rows

    def write_shard(
        self,
        shard: int,
        embedding: Float[np.ndarray, "row feature"],
        status: UInt8[np.ndarray, " row"],
    ) -> None:
        """Write a whole shard, its data first and its status after; both are on the disk then.

        Rows that somebody else has made whole meanwhile, and this writer has not, stay.
        Raises StoreError where the disk is full or may not be written.
        """
        rows = self.rows_of(shard)
        if not np.isfinite(embedding[status == WHOLE]).all():
            raise ValueError(f"Shard {shard} of {self.path} has a whole row that is not finite.")
        try:
            with locked(self.path):
                theirs = (self.status(shard) == WHOLE) & (status != WHOLE)
                if theirs.any():
                    embedding = np.where(theirs[:, None], self.read_shard(shard), embedding)
                    status = np.where(theirs, np.uint8(WHOLE), status)
                self.array("embedding")[rows] = embedding
                self.array("status")[rows] = status
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
                raise
            raise StoreError(
                f"{self.path} cannot be written ({error.strerror}); what was whole stays whole, "
                "so make room or get the right to write, and run the same command again."
            ) from error

    def read(self, rows: Int[np.ndarray, " pick"]) -> Float[np.ndarray, "pick feature"]:
        """Whole rows in any order, as stored: each shard they lie in is read once.

        Raises StoreError where one of them is not there after all: the store is damaged.
        """
        embedding = self.array("embedding")
        result = np.empty((len(rows), self.features), dtype=embedding.dtype)
        shard_of = rows // self.shard_rows
        for shard in np.unique(shard_of):
            here = shard_of == shard
            first, last = rows[here].min(), rows[here].max() + 1
            try:
                result[here] = embedding[first:last][rows[here] - first]  # type: ignore[index]
            except ValueError as error:
                raise damaged(self.path, f"shard {shard} does not match its checksum") from error
            if not np.isfinite(result[here]).all():
                raise damaged(self.path, f"shard {shard} lacks rows that should be whole")
        return result

    def to_dask(self) -> dask.array.Array:
        """The embeddings as a lazy dask array, a chunk a shard."""
        lazy: dask.array.Array = dask.array.from_zarr(
            self.array("embedding"), chunks=(self.shard_rows, self.features)
        )
        return lazy

    def rows_by_id(self, record_id: Int[np.ndarray, " pick"]) -> Int[np.ndarray, " pick"]:
        """The row of each record id, or -1 where the store does not know it."""
        order = np.argsort(self.record_id, kind="stable")
        known = self.record_id[order]
        place = np.searchsorted(known, record_id).clip(max=max(len(known) - 1, 0))
        if not len(known):
            return np.full(len(record_id), -1)
        return np.where(known[place] == record_id, order[place], -1)

    def array(self, name: str) -> zarr.Array[Any]:
        """One of the Zarr arrays: `embedding`, `status` or `record_id`."""
        array = self.group[name]
        assert isinstance(array, zarr.Array)
        return array


def absent(status: UInt8[np.ndarray, " record"], *, or_failed: bool) -> Bool[np.ndarray, " record"]:
    """Which rows are still to be had: the absent ones, and if asked the failed ones too."""
    mask: np.ndarray = (status != WHOLE) if or_failed else (status == ABSENT)
    return mask
