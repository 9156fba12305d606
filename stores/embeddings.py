"""One store: the embeddings that one expert made of one data set's records.

A plain Zarr v3 group (the layout is told in `docs/store-format.md`), openable with zarr, xarray
or dask alone. Rows are only ever appended, one row a record; a row is there when its status says
so, and its status is written after its data.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import zarr
from jaxtyping import Float, Int, UInt8

from stores.errors import StoreError, VersionConflict, damaged_store_error, translate_errors
from stores.lease import Ticket
from stores.location import FencedWriter, Location
from stores.record_ids import RecordIds, as_ids, is_unwritten
from stores.shards import ShardLayout, WrongChecksum, append_checksum, finite_rows
from stores.status import ABSENT, FIRST_REASON, WHOLE

if TYPE_CHECKING:
    # Seconds to import, and only who asks for them needs them.
    import dask.array
    import xarray

ATTEMPTS = 5
"""How often a shard that a stale writer changes again and again is merged and put anew."""


@dataclass(frozen=True)
class EmbeddingStore:
    """A store that is open. Made by `opening.create` and `opening.open_store`.

    `ticket`: by what right it is written to; None where it is only read.
    """

    location: Location
    group: zarr.Group
    ticket: Ticket | None = None

    @property
    def provenance(self) -> dict[str, Any]:
        """What defines the store: expert, weights, preprocessing, data set, dtype."""
        provenance = self.group.attrs["provenance"]
        assert isinstance(provenance, dict)
        return provenance

    @property
    def identity(self) -> str:
        """The digest of the provenance, which is also the last part of the location."""
        return self.location.name

    @cached_property
    def record_id(self) -> RecordIds:
        """(N,) int64 or text: row i of every array is this record."""
        ids = as_ids(self._read("record_id", slice(None)))
        # Rows whose ids a killed process did not come to write are not there yet.
        holes = np.flatnonzero(is_unwritten(ids))
        # Nor is a row that another array had not got when the store was opened, as it was growing.
        shortest = min(array.shape[0] for array in self._arrays.values())
        return ids[: min([shortest, *holes[:1]])]

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
        rows = slice(0, len(self.record_id)) if shard is None else self.shard_slice(shard)
        return self._read("status", rows)

    def shard_slice(self, shard: int) -> slice:
        """The rows of a shard."""
        first = shard * self.shard_rows
        return slice(first, min(first + self.shard_rows, len(self.record_id)))

    def read_shard(self, shard: int, pick: slice = slice(None)) -> Float[np.ndarray, "row feature"]:
        """A shard as stored, or some of its rows; NaN where a row is absent."""
        span = self.shard_slice(shard)
        rows = np.arange(span.stop - span.start)[pick]
        out = np.empty((len(rows), self.features), self.layout.dtype)
        self._read_rows(shard, rows, out, np.arange(len(rows)))
        return out

    def write_shard(
        self,
        shard: int,
        embedding: Float[np.ndarray, "row feature"],
        status: UInt8[np.ndarray, " row"],
    ) -> None:
        """Write a whole shard, its data first and its status after; both are on the disk then.

        Rows that somebody else has made whole meanwhile, and this writer has not, stay.
        Raises StoreError where the disk is full or may not be written, LeaseLost where the right
        to write has gone to somebody else.
        """
        if self.ticket is None:
            raise ValueError(f"{self.location} is open for reading only.")
        if (~finite_rows(embedding) & (status == WHOLE)).any():
            raise ValueError(f"A whole row of shard {shard} of {self.location} is not finite.")
        with translate_errors(self.location):
            for _ in range(ATTEMPTS):
                self.ticket.check()
                try:
                    # Data first, so that a status never speaks of what is not there.
                    self.put_data(shard, embedding)
                    self.put_status(shard, status)
                    return
                except VersionConflict:
                    embedding, status = self._merged(shard, embedding, status)
        raise StoreError(
            f"Shard {shard} of {self.location} is changed by another writer again and again; find "
            "out who writes there (`enecg store show`), and run the same command again."
        )

    def put_data(self, shard: int, embedding: Float[np.ndarray, "row feature"]) -> None:
        """Write a shard's data alone. For all but mending there is `write_shard`."""
        self.writer.put(self.shard_key("embedding", shard), self.layout.encode(embedding))

    def put_status(self, shard: int, status: UInt8[np.ndarray, " row"]) -> None:
        """Write a shard's status alone. For all but mending there is `write_shard`."""
        padded = np.full(self.shard_rows, ABSENT, np.uint8)
        padded[: len(status)] = status
        self.writer.put(self.shard_key("status", shard), append_checksum(padded))

    def track_shard(self, shard: int) -> None:
        """Note what a shard holds, to be read and then written over by this writer alone."""
        for name in ("embedding", "status"):
            self.writer.track_version(self.shard_key(name, shard))

    def shard_key(self, name: str, shard: int) -> str:
        """Where a shard's `embedding` or `status` lies in the store's place."""
        end = f"{shard}/0" if name == "embedding" else f"{shard}"
        return f"{self.location.key}/{name}/c/{end}"

    def _merged(
        self,
        shard: int,
        embedding: Float[np.ndarray, "row feature"],
        status: UInt8[np.ndarray, " row"],
    ) -> tuple[Float[np.ndarray, "row feature"], UInt8[np.ndarray, " row"]]:
        """What is there now, and what this writer adds to it.

        A row whose data is finite is whole, whatever its status: data goes before status, so the
        other writer may be between the two. Thus no put takes a row away, and whichever status
        comes last claims only rows that are there.
        """
        self.track_shard(shard)
        theirs, their_status = self.read_shard(shard), self.status(shard)
        keep = finite_rows(theirs) & (status != WHOLE)
        embedding = np.where(keep[:, None], theirs, embedding)
        failed = (status == ABSENT) & (their_status >= FIRST_REASON)
        status = np.where(failed, their_status, status)
        return embedding, np.where(keep, np.uint8(WHOLE), status)

    def read(
        self,
        rows: Int[np.ndarray, " pick"],
        dtype: np.dtype | str | None = None,
        out: Float[np.ndarray, "pick feature"] | None = None,
    ) -> Float[np.ndarray, "pick feature"]:
        """Whole rows in any order, each chunk that they lie in read once, shards side by side.

        As stored, or in another dtype, or into an array that is there.
        Raises StoreError where one of them is not there after all: the store is damaged.
        """
        if out is None:
            out = np.empty((len(rows), self.features), dtype or self.layout.dtype)
        order = np.argsort(rows, kind="stable")
        shard_of = rows[order] // self.shard_rows
        begins = np.flatnonzero(np.diff(shard_of, prepend=-1))

        def one(begin: int, end: int) -> None:
            where = order[begin:end]
            shard = int(shard_of[begin])
            self._read_rows(shard, rows[where] - shard * self.shard_rows, out, where)
            # Rows are whole or all NaN: one feature tells.
            if np.isnan(out[where, 0]).any():
                raise damaged_store_error(
                    self.location, f"shard {shard} lacks rows that should be whole"
                )

        with ThreadPoolExecutor(self.location.root.read_threads) as pool:
            for _ in pool.map(one, begins.tolist(), (*begins[1:].tolist(), len(rows))):
                pass
        return out

    def _read_rows(
        self,
        shard: int,
        rows: Int[np.ndarray, " pick"],
        out: Float[np.ndarray, "all feature"],
        where: Int[np.ndarray, " pick"],
    ) -> None:
        with translate_errors(self.location):
            for _ in range(ATTEMPTS):
                try:
                    return self.layout.read(
                        Location(self.location.root, self.shard_key("embedding", shard)),
                        rows,
                        out,
                        where,
                    )
                except WrongChecksum as error:
                    what = f"shard {shard} does not match its checksum"
                    raise damaged_store_error(self.location, what) from error
                except VersionConflict:
                    continue
        raise StoreError(f"{self.location} is being written too fast to be read; try again.")

    @cached_property
    def layout(self) -> ShardLayout:
        """How the embeddings lie in their shards."""
        return ShardLayout.from_array(self.array("embedding"))

    @property
    def writer(self) -> FencedWriter:
        """What the store is written by."""
        return cast(FencedWriter, self.group.store)

    def to_dask(self) -> "dask.array.Array":
        """The embeddings as a lazy dask array, a chunk a shard."""
        import dask.array

        lazy: dask.array.Array = dask.array.from_zarr(
            self.array("embedding"), chunks=(self.shard_rows, self.features)
        )
        return lazy

    def to_xarray(self) -> "xarray.Dataset":
        """The embeddings (lazy), the status and the record ids, with named dimensions."""
        import xarray

        return xarray.Dataset(
            {
                "embedding": (("record", "feature"), self.to_dask()),
                "status": ("record", self.status(), dict(self.array("status").attrs)),
            },
            coords={"record_id": ("record", self.record_id)},
            attrs={"provenance": self.provenance},
        )

    @cached_property
    def _sorted_ids(self) -> tuple[Int[np.ndarray, " record"], RecordIds]:
        order = np.argsort(self.record_id, kind="stable")
        return order, self.record_id[order]

    def rows_by_id(self, record_id: RecordIds) -> Int[np.ndarray, " record"]:
        """The row of each record id, or -1 where the store does not know it."""
        order, known = self._sorted_ids
        if not len(known):
            return np.full(len(record_id), -1)
        place = np.searchsorted(known, record_id).clip(max=len(known) - 1)
        return np.where(known[place] == record_id, order[place], -1)

    def array(self, name: str) -> zarr.Array[Any]:
        """One of the Zarr arrays: `embedding`, `status` or `record_id`."""
        return self._arrays[name]

    @cached_property
    def _arrays(self) -> dict[str, zarr.Array[Any]]:
        return dict(self.group.arrays())

    def _read(self, name: str, rows: slice) -> np.ndarray:
        with translate_errors(self.location):
            try:
                values: np.ndarray = self.array(name)[rows]  # type: ignore[assignment]
            except ValueError as error:
                raise damaged_store_error(
                    self.location, f"{name}{_told(rows)} does not match its checksum"
                ) from error
        return values


def _told(rows: slice) -> str:
    return "" if rows.start is None else f" of rows {rows.start} to {rows.stop - 1}"
