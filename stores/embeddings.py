"""One store: the embeddings that one expert made of one data set's records.

A plain Zarr v3 group (the layout is told in `docs/store-format.md`), openable with zarr, xarray
or dask alone. Rows are only ever appended, one row a record; a row is there when its status says
so, and its status is written after its data.
"""

import errno
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import zarr
from jaxtyping import Bool, Float, Int, UInt8
from zarr.codecs import Crc32cCodec
from zarr.errors import ContainsGroupError

from stores.errors import StoreError
from stores.identity import identity
from stores.location import DurableLocalStore, local_root, locked

FORMAT = "enecg-embeddings/1"

ABSENT = 0
WHOLE = 1
FIRST_REASON = 2
"""Status values from here on are reasons, in the order of `flags`."""

SHARD_ROWS = 2048
CHUNK_ROWS = 256
RECORD_ID_CHUNK = 65_536
UNWRITTEN_ID = -1
ARRAYS = ("record_id", "embedding", "status")


@dataclass(frozen=True)
class EmbeddingStore:
    """A store that is open. Made by `create` (or found again by it) and by `open_store`."""

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
        ids: np.ndarray = self._array("record_id")[:]  # type: ignore[assignment]
        # Rows whose ids a killed process did not come to write are not there yet.
        holes = np.flatnonzero(ids == UNWRITTEN_ID)
        return ids[: holes[0]] if len(holes) else ids

    @property
    def features(self) -> int:
        """Features per record."""
        return int(self._array("embedding").shape[1])

    @property
    def shard_rows(self) -> int:
        """Rows in a shard, the unit of writing."""
        shards = self._array("embedding").shards
        assert shards is not None
        return int(shards[0])

    @property
    def shards(self) -> int:
        """How many shards the rows make."""
        return -(-len(self.record_id) // self.shard_rows)

    @property
    def flags(self) -> tuple[str, ...]:
        """The words for statuses 0, 1, 2, ...: CF's `flag_meanings`."""
        return tuple(str(self._array("status").attrs["flag_meanings"]).split())

    def status(self, shard: int | None = None) -> UInt8[np.ndarray, " row"]:
        """The status of all rows or of a shard's: 0 absent, 1 whole, 2 and up one of `flags`."""
        rows = slice(0, len(self.record_id)) if shard is None else self.rows_of(shard)
        status: np.ndarray = self._array("status")[rows]  # type: ignore[assignment]
        return status

    def rows_of(self, shard: int) -> slice:
        """The rows of a shard."""
        first = shard * self.shard_rows
        return slice(first, min(first + self.shard_rows, len(self.record_id)))

    def read_shard(self, shard: int) -> Float[np.ndarray, "row feature"]:
        """A whole shard as stored; NaN where a row is absent."""
        try:
            rows: np.ndarray = self._array("embedding")[self.rows_of(shard)]  # type: ignore[assignment]
        except ValueError as error:
            raise _damaged(self.path, f"shard {shard} does not match its checksum") from error
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
                self._array("embedding")[rows] = embedding
                self._array("status")[rows] = status
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
        embedding = self._array("embedding")
        result = np.empty((len(rows), self.features), dtype=embedding.dtype)
        shard_of = rows // self.shard_rows
        for shard in np.unique(shard_of):
            here = shard_of == shard
            first, last = rows[here].min(), rows[here].max() + 1
            try:
                result[here] = embedding[first:last][rows[here] - first]  # type: ignore[index]
            except ValueError as error:
                raise _damaged(self.path, f"shard {shard} does not match its checksum") from error
            if not np.isfinite(result[here]).all():
                raise _damaged(self.path, f"shard {shard} lacks rows that should be whole")
        return result

    def to_dask(self) -> dask.array.Array:
        """The embeddings as a lazy dask array, a chunk a shard."""
        lazy: dask.array.Array = dask.array.from_zarr(
            self._array("embedding"), chunks=(self.shard_rows, self.features)
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

    def _array(self, name: str) -> zarr.Array[Any]:
        array = self.group[name]
        assert isinstance(array, zarr.Array)
        return array


def store_path(root: str | Path, dataset: str, expert: str, digest: str) -> Path:
    """`ROOT/<dataset>/<expert>/<identity>`."""
    return local_root(root) / dataset / expert / digest


def create(
    root: str | Path,
    provenance: Mapping[str, Any],
    *,
    record_id: Int[np.ndarray, " record"],
    features: int,
    dtype: str,
    reasons: Sequence[str],
    shard_rows: int = SHARD_ROWS,
) -> EmbeddingStore:
    """The store of this provenance, made if it is not there, with rows for all of these records.

    `provenance` has at least `dataset` and `expert`, and together with nothing else it makes the
    identity. Records that the store does not know yet are appended in the order given.

    Raises StoreError where something else lies there, or it may not be written.
    """
    path = store_path(root, provenance["dataset"], provenance["expert"], identity(provenance))
    try:
        return _create(path, provenance, record_id, features, dtype, reasons, shard_rows)
    except json.JSONDecodeError as error:
        raise _damaged(path, "a zarr.json in it cannot be read") from error
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written ({error.strerror}); make it a folder that you may write to, "
            "or give another --store."
        ) from error


def _create(
    path: Path,
    provenance: Mapping[str, Any],
    record_id: Int[np.ndarray, " record"],
    features: int,
    dtype: str,
    reasons: Sequence[str],
    shard_rows: int,
) -> EmbeddingStore:
    with locked(path):
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        group = _create_group(path, provenance)
        chunk_rows = min(CHUNK_ROWS, shard_rows)
        if "embedding" not in group:
            group.create_array(
                "embedding",
                shape=(0, features),
                dtype=dtype,
                chunks=(chunk_rows, features),
                shards=(shard_rows, features),
                # Embeddings hardly compress (zstd: 1.09); the checksum finds a damaged chunk.
                compressors=[Crc32cCodec()],
                fill_value=np.nan,
                dimension_names=["record", "feature"],
                attributes={"long_name": f"{provenance['expert']} embedding"},
            )
        if "status" not in group:
            flags = ["absent", "whole", *reasons]
            group.create_array(
                "status",
                shape=(0,),
                dtype="uint8",
                chunks=(shard_rows,),
                compressors=[Crc32cCodec()],
                fill_value=ABSENT,
                dimension_names=["record"],
                attributes={
                    "long_name": "whether the row is whole, or why it is not",
                    "flag_values": list(range(len(flags))),
                    "flag_meanings": " ".join(flags),
                },
            )
        if "record_id" not in group:
            group.create_array(
                "record_id",
                shape=(0,),
                dtype="int64",
                chunks=(RECORD_ID_CHUNK,),
                fill_value=UNWRITTEN_ID,
                dimension_names=["record"],
                attributes={"long_name": f"record id within {provenance['dataset']}"},
            )
        store = open_store(path, writable=True)
        missing = record_id[store.rows_by_id(record_id) < 0]
        return _append(store, missing) if len(missing) else store


def open_store(path: Path, *, writable: bool = False) -> EmbeddingStore:
    """Open a store to read it, or to write too.

    Raises StoreError where there is none, or it is of another format or of another making.
    """
    try:
        group = zarr.open_group(
            DurableLocalStore(path, read_only=not writable),
            mode="r+" if writable else "r",
            zarr_format=3,
        )
        arrays = [group.get(name) for name in ARRAYS]
    except FileNotFoundError as error:
        raise StoreError(f"There is no store at {path}; extract into it first.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, "a zarr.json in it cannot be read") from error
    given = group.attrs.get("format")
    if given != FORMAT:
        raise StoreError(
            f"{path} is a Zarr group of the format {given!r}, and this program reads {FORMAT!r}; "
            "name the store root that EnECG wrote, or bring the program up to date."
        )
    if None in arrays:
        raise _damaged(path, "one of its arrays is not there")
    store = EmbeddingStore(path, group)
    if identity(store.provenance) != path.name:
        raise StoreError(
            f"{path} holds a store of the identity {identity(store.provenance)}: it was renamed or "
            "its attributes were changed; give it its own name back."
        )
    return store


def find_stores(root: str | Path, dataset: str) -> list[EmbeddingStore]:
    """All stores of a data set, by expert and identity."""
    folder = local_root(root) / dataset
    found = [
        path for path in sorted(folder.glob("*/*")) if path.is_dir() and path.parent.name != "runs"
    ]
    for path in found:
        # A store without its group file would be left out of a training without a word.
        if any(path.iterdir()) and not (path / "zarr.json").exists():
            raise _damaged(path, "its zarr.json is not there")
    return [open_store(path) for path in found if (path / "zarr.json").exists()]


def _damaged(path: Path, what: str) -> StoreError:
    return StoreError(
        f"{path} is a damaged store: {what}; extract again, and if that does not "
        "mend it bring it back from a copy, or remove the folder and extract anew."
    )


def absent(status: UInt8[np.ndarray, " record"], *, or_failed: bool) -> Bool[np.ndarray, " record"]:
    """Which rows are still to be had: the absent ones, and if asked the failed ones too."""
    mask: np.ndarray = (status != WHOLE) if or_failed else (status == ABSENT)
    return mask


def _create_group(path: Path, provenance: Mapping[str, Any]) -> zarr.Group:
    attributes = {"format": FORMAT, "provenance": dict(provenance), "Conventions": "CF-1.11"}
    store = DurableLocalStore(path)
    if (path / "zarr.json").exists():
        # `create_group` would write over a file that it cannot read.
        return zarr.open_group(store, mode="r+", zarr_format=3)
    try:
        # One file holds the group's mark and its attributes, so a kill leaves both or neither.
        return zarr.create_group(store, zarr_format=3, attributes=attributes)
    except ContainsGroupError:
        return zarr.open_group(store, mode="r+", zarr_format=3)


def _append(store: EmbeddingStore, record_id: Int[np.ndarray, " record"]) -> EmbeddingStore:
    """Add rows. The ids come last: a row without an id is not there, and is claimed again."""
    known = len(store.record_id)
    total = known + len(record_id)
    for name in ("embedding", "status", "record_id"):
        array = store._array(name)
        array.resize((total, *array.shape[1:]))
    store._array("record_id")[known:total] = record_id
    return open_store(store.path, writable=True)
