"""Embedding stores: one expert's embeddings of the records of one data set.

A store is a Zarr v3 group that zarr, xarray and dask can open (see ``docs/store-format.md``). It
has one row per record; rows are only appended. A row contains an embedding if its status is
`WHOLE`. The status of a row is written after its embedding.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import zarr
from jaxtyping import Float, Int, UInt8

from stores.errors import StoreError, VersionConflict, damaged_store_error, translate_errors
from stores.feature_names import NAME, UNIT, FeatureNames, read_feature_names
from stores.lease import Ticket
from stores.location import FencedWriter, Location
from stores.record_ids import RecordIds, as_ids, is_unwritten
from stores.shards import ShardLayout, WrongChecksum, append_checksum, finite_rows
from stores.status import ABSENT, FIRST_REASON, WHOLE

if TYPE_CHECKING:
    # Both are slow to import (seconds), and few callers need them.
    import dask.array
    import xarray

ARRAYS = ("embedding", "status", "record_id")

ATTEMPTS = 5
"""Maximum number of attempts to access a shard that another writer changes concurrently."""


@dataclass(frozen=True)
class EmbeddingStore:
    """An open store, as returned by `opening.open_store` or `creation.create_or_grow`.

    Attributes:
        location: Location of the store.
        group: The Zarr group.
        ticket: Ticket of the store's lease; None if the store is read-only.
    """

    location: Location
    group: zarr.Group
    ticket: Ticket | None = None

    @property
    def provenance(self) -> dict[str, Any]:
        """JSON values that define the store, such as data set, expert, weights and dtype."""
        provenance = self.group.attrs["provenance"]
        assert isinstance(provenance, dict)
        return provenance

    @property
    def identity(self) -> str:
        """Digest of the provenance, and the name of the store's folder."""
        return self.location.name

    @cached_property
    def record_id(self) -> RecordIds:
        """Record ids of shape (N,), int64 or text, one per row."""
        ids = as_ids(self._read("record_id", slice(None)))
        # An interrupted growth leaves rows without ids. If the store grows while its arrays are
        # opened, their lengths differ. In both cases, use only the leading rows that have an id and
        # are present in every array.
        unwritten = np.flatnonzero(is_unwritten(ids))
        shortest = min(array.shape[0] for array in self._arrays.values())
        return ids[: min([shortest, *unwritten[:1]])]

    def share_record_ids(self, record_id: RecordIds) -> None:
        """Replace the array of record ids with an equal one, so that stores share the memory."""
        vars(self)["record_id"] = record_id

    @property
    def features(self) -> int:
        """Number of features per record."""
        return int(self.array("embedding").shape[1])

    @cached_property
    def feature_names(self) -> FeatureNames | None:
        """Names and units of the features; None if they have no names."""
        with translate_errors(self.location):
            try:
                return read_feature_names(self.group, self.features)
            except ValueError as error:
                problem = "the names of its features do not match their checksum"
                raise damaged_store_error(self.location, problem, repairable=False) from error

    @property
    def shard_rows(self) -> int:
        """Rows per shard, the unit of writing."""
        shards = self.array("embedding").shards
        assert shards is not None
        return int(shards[0])

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-len(self.record_id) // self.shard_rows)

    @property
    def flags(self) -> tuple[str, ...]:
        """Names of the status values 0, 1, 2, ... (CF attribute `flag_meanings`)."""
        return tuple(str(self.array("status").attrs["flag_meanings"]).split())

    @cached_property
    def layout(self) -> ShardLayout:
        """Shape and data type of the shards."""
        return ShardLayout.from_array(self.array("embedding"))

    @property
    def writer(self) -> FencedWriter:
        """The fenced writer of a store that is open for writing."""
        return cast(FencedWriter, self.group.store)

    def array(self, name: str) -> zarr.Array[Any]:
        """Return one of the Zarr arrays: `embedding`, `status` or `record_id`."""
        return self._arrays[name]

    def rows_by_id(self, record_id: RecordIds) -> Int[np.ndarray, " record"]:
        """Return the row of each record, or -1 if the store has no row for it."""
        # Records are usually in the order of the rows. In this case, avoid sorting: for 10 million
        # ids, it takes seconds, and memory for as long as the store is open.
        if np.array_equal(self.record_id[: len(record_id)], record_id):
            return np.arange(len(record_id))
        order, sorted_ids = self._sorted_ids
        if not len(sorted_ids):
            return np.full(len(record_id), -1)
        position = np.searchsorted(sorted_ids, record_id).clip(max=len(sorted_ids) - 1)
        return np.where(sorted_ids[position] == record_id, order[position], -1)

    def shard_slice(self, shard: int) -> slice:
        """Return the rows of a shard."""
        first = shard * self.shard_rows
        return slice(first, min(first + self.shard_rows, len(self.record_id)))

    def shard_key(self, name: str, shard: int) -> str:
        """Return the key of a shard of the array ``embedding`` or ``status`` in the store root."""
        suffix = f"{shard}/0" if name == "embedding" else f"{shard}"
        return f"{self.location.key}/{name}/c/{suffix}"

    def status(self, shard: int | None = None) -> UInt8[np.ndarray, " row"]:
        """Read the status of all rows, or of one shard's rows.

        Args:
            shard: Number of the shard; None reads all rows.

        Returns:
            0 for absent, 1 for whole, and 2 or more for failed; an index into `flags`.

        Raises:
            DamagedStore: A chunk does not match its checksum.
            StoreError: The store cannot be read.
        """
        rows = slice(0, len(self.record_id)) if shard is None else self.shard_slice(shard)
        return self._read("status", rows)

    def read(
        self,
        rows: Int[np.ndarray, " pick"],
        dtype: np.dtype | str | None = None,
        out: Float[np.ndarray, "pick feature"] | None = None,
    ) -> Float[np.ndarray, "pick feature"]:
        """Read rows with status `WHOLE`, in any order.

        Each chunk is read once, and shards are read in parallel.

        Args:
            rows: Row numbers; duplicates are allowed.
            dtype: Data type of the result if `out` is None; None selects that of the store. A
                narrower type can overflow, which is reported as damage.
            out: Array to write the embeddings to; None allocates a new one.

        Returns:
            The embeddings, in the order of `rows`.

        Raises:
            DamagedStore: A chunk does not match its checksum, or a row contains NaN or infinity.
            StoreError: A shard cannot be read, or was replaced during each attempt to read it.
        """
        if out is None:
            out = np.empty((len(rows), self.features), dtype or self.layout.dtype)
        order = np.argsort(rows, kind="stable")
        shard_of = rows[order] // self.shard_rows
        begins = np.flatnonzero(np.diff(shard_of, prepend=-1))

        def read_from_shard(begin: int, end: int) -> None:
            positions = order[begin:end]
            shard = int(shard_of[begin])
            self._read_rows(shard, rows[positions] - shard * self.shard_rows, out, positions)
            broken = ~finite_rows(out[positions])
            if broken.any():
                first = self.record_id[rows[positions[broken][0]]]
                problem = (
                    f"shard {shard} has NaN or infinity in {int(broken.sum()):,} rows with status "
                    f"whole, such as record {first}"
                )
                raise damaged_store_error(self.location, problem)

        with ThreadPoolExecutor(self.location.root.read_threads) as pool:
            ends = (*begins[1:].tolist(), len(rows))
            for _ in pool.map(read_from_shard, begins.tolist(), ends):
                pass
        return out

    def read_shard(
        self, shard: int, selection: slice = slice(None)
    ) -> Float[np.ndarray, "row feature"]:
        """Read a shard, or some of its rows; rows without an embedding are NaN.

        Args:
            shard: Number of the shard.
            selection: Rows to read, relative to the shard's first row.

        Returns:
            The embeddings, with the store's data type.

        Raises:
            DamagedStore: A chunk does not match its checksum.
            StoreError: The shard cannot be read, or was replaced during each attempt to read it.
        """
        span = self.shard_slice(shard)
        rows = np.arange(span.stop - span.start)[selection]
        out = np.empty((len(rows), self.features), self.layout.dtype)
        self._read_rows(shard, rows, out, np.arange(len(rows)))
        return out

    def write_shard(
        self,
        shard: int,
        embedding: Float[np.ndarray, "row feature"],
        status: UInt8[np.ndarray, " row"],
    ) -> None:
        """Write all rows of a shard durably, first their data and then their status.

        On S3, a writer that has lost the lease may still complete rows of the same shard during
        this call. Rows completed in this way are kept.

        Args:
            shard: Number of the shard.
            embedding: Embeddings of all rows of the shard, NaN for rows that are not whole.
            status: Status of these rows.

        Raises:
            StoreError: The store cannot be written, or another writer keeps changing the shard.
            LeaseLost: Another process has taken over the lease.
            ValueError: The store is open for reading only, or a whole row is not finite.
        """
        if self.ticket is None:
            raise ValueError(f"{self.location} is open for reading only.")
        if (~finite_rows(embedding) & (status == WHOLE)).any():
            raise ValueError(f"Shard {shard} of {self.location}: a whole row is not finite.")
        with translate_errors(self.location):
            for _ in range(ATTEMPTS):
                self.ticket.check()
                try:
                    self.put_data(shard, embedding)
                    self.put_status(shard, status)
                    return
                except VersionConflict:
                    embedding, status = self._merge(shard, embedding, status)
        raise self.conflict_error(shard)

    def conflict_error(self, shard: int) -> StoreError:
        """Return the error for a shard that another writer keeps changing."""
        return StoreError(
            f"Shard {shard} of {self.location} is being modified by another writer; run `enecg "
            "store show` to identify the writer, and run the same command again after it finishes."
        )

    def track_shard(self, shard: int) -> None:
        """In an object store, record the shard's version; later puts replace only this version."""
        for name in ("embedding", "status"):
            self.writer.track_version(self.shard_key(name, shard))

    def put_data(self, shard: int, embedding: Float[np.ndarray, "row feature"]) -> None:
        """Write a shard's data but not its status. Use `write_shard` except for repairs.

        Args:
            shard: Number of the shard.
            embedding: Embeddings of all rows of the shard.

        Raises:
            LeaseLost: Another process has taken over the lease.
            VersionConflict: Another writer has changed the shard since `track_shard`.
        """
        self.writer.put(self.shard_key("embedding", shard), self.layout.encode(embedding))

    def put_status(self, shard: int, status: UInt8[np.ndarray, " row"]) -> None:
        """Write a shard's status but not its data. Use `write_shard` except for repairs.

        Args:
            shard: Number of the shard.
            status: Status of all rows of the shard.

        Raises:
            LeaseLost: Another process has taken over the lease.
            VersionConflict: Another writer has changed the status since `track_shard`.
        """
        padded = np.full(self.shard_rows, ABSENT, np.uint8)
        padded[: len(status)] = status
        self.writer.put(self.shard_key("status", shard), append_checksum(padded))

    def to_dask(self) -> "dask.array.Array":
        """Return the embeddings as a lazy dask array with one block per shard."""
        import dask.array

        lazy = dask.array.from_zarr(
            self.array("embedding"), chunks=(self.shard_rows, self.features)
        )
        # After an interrupted growth, the array has more rows than `record_id`.
        rows: dask.array.Array = lazy[: len(self.record_id)]
        return rows

    def to_xarray(self) -> "xarray.Dataset":
        """Return embeddings (lazy), status and record ids as a Dataset with named dimensions.

        If the features have names, these are the index of the dimension `feature`.
        """
        import xarray

        coordinates: dict[str, Any] = {"record_id": ("record", self.record_id)}
        if self.feature_names is not None:
            coordinates[NAME] = ("feature", list(self.feature_names.names))
            coordinates[UNIT] = ("feature", list(self.feature_names.units))
        return xarray.Dataset(
            {
                "embedding": (("record", "feature"), self.to_dask()),
                "status": ("record", self.status(), dict(self.array("status").attrs)),
            },
            coords=coordinates,
            attrs={"provenance": self.provenance},
        )

    def _merge(
        self,
        shard: int,
        embedding: Float[np.ndarray, "row feature"],
        status: UInt8[np.ndarray, " row"],
    ) -> tuple[Float[np.ndarray, "row feature"], UInt8[np.ndarray, " row"]]:
        """Return the rows and the status to write, merged with the shard's current version."""
        # A row with finite data is whole regardless of its status, because the other writer may not
        # have written the status yet. Therefore no put removes a row, and the status, which is
        # written last, marks only rows with data as whole.
        self.track_shard(shard)
        current, current_status = self.read_shard(shard), self.status(shard)
        keep = finite_rows(current) & (status != WHOLE)
        embedding = np.where(keep[:, None], current, embedding)
        failed = (status == ABSENT) & (current_status >= FIRST_REASON)
        status = np.where(failed, current_status, status)
        return embedding, np.where(keep, np.uint8(WHOLE), status)

    def _read_rows(
        self,
        shard: int,
        rows: Int[np.ndarray, " pick"],
        out: Float[np.ndarray, "all feature"],
        positions: Int[np.ndarray, " pick"],
    ) -> None:
        """Read rows of a shard into ``out[positions]``; retry if the shard is replaced."""
        location = Location(self.location.root, self.shard_key("embedding", shard))
        with translate_errors(self.location):
            for _ in range(ATTEMPTS):
                try:
                    return self.layout.read(location, rows, out, positions)
                except WrongChecksum as error:
                    problem = f"shard {shard} does not match its checksum"
                    raise damaged_store_error(self.location, problem) from error
                except VersionConflict:
                    continue
        raise StoreError(
            f"Shard {shard} of {self.location} was replaced during each of {ATTEMPTS} reads; "
            "read it again later."
        )

    def _read(self, name: str, rows: slice) -> np.ndarray:
        with translate_errors(self.location):
            try:
                values: np.ndarray = self.array(name)[rows]  # type: ignore[assignment]
            except ValueError as error:
                span = "" if rows.start is None else f" of rows {rows.start} to {rows.stop - 1}"
                problem = f"{name}{span} does not match its checksum"
                repairable = name == "status"
                raise damaged_store_error(self.location, problem, repairable=repairable) from error
        return values

    @cached_property
    def _arrays(self) -> dict[str, zarr.Array[Any]]:
        # Do not call `group.arrays()`, because other programs may have added arrays to the group.
        return {name: cast("zarr.Array[Any]", self.group[name]) for name in ARRAYS}

    @cached_property
    def _sorted_ids(self) -> tuple[Int[np.ndarray, " record"], RecordIds]:
        order = np.argsort(self.record_id, kind="stable")
        return order, self.record_id[order]
