"""Create stores, and append rows for new records."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.codecs import Crc32cCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import MemoryStore

from stores.embeddings import ARRAYS, EmbeddingStore
from stores.errors import StoreError, damaged_store_error, translate_errors
from stores.feature_names import UNIT, FeatureNames, write_feature_names
from stores.layout import leases_folder, store_location
from stores.lease import Ticket, acquire
from stores.location import FencedWriter, Location
from stores.opening import FORMAT, open_store, open_with
from stores.record_ids import (
    UNWRITTEN,
    RecordIds,
    as_ids,
    encode_chunk,
    is_text,
    is_unwritten,
    pad_ids,
    zarr_data_type,
)
from stores.shards import append_checksum
from stores.status import ABSENT

SHARD_ROWS = 8192
"""Default rows per shard."""
SMALL_SHARD_ROWS = 1024
"""Default rows per shard for up to `SHARD_ROWS` records. It is smaller, because a shard always
occupies its full size."""
CHUNK_ROWS = 512
"""Maximum rows per chunk of the embeddings; a shard consists of chunks."""
RECORD_ID_CHUNK_ROWS = 65_536
"""Rows per chunk of the record ids."""


def default_shard_rows(records: int) -> int:
    """Return the number of rows per shard of a new store for this number of records."""
    return SMALL_SHARD_ROWS if records <= SHARD_ROWS else SHARD_ROWS


@contextmanager
def open_for_writing(
    root: str | Path | Location, provenance: Mapping[str, Any], **options: Any
) -> Iterator[EmbeddingStore]:
    """Acquire a store's lease, create or grow the store, and release the lease at the end.

    Args:
        root: Location or URL of the store root.
        provenance: As for `create_or_grow`.
        **options: Keyword arguments of `create_or_grow`.

    Yields:
        The store, open for writing.

    Raises:
        LeaseHeld: Another process writes to the store.
        StoreError: As for `create_or_grow` and `check_ids`.
    """
    location = store_location(root, provenance)
    check_ids(options["record_id"], location)
    with acquire(leases_folder(location)) as lease:
        yield create_or_grow(location, provenance, lease.ticket, **options)


def check_ids(record_id: RecordIds, source: object) -> None:
    """Validate the ids of records that get a row.

    Args:
        record_id: Ids of the records.
        source: Data set or store of the ids, for error messages.

    Raises:
        StoreError: An id is a duplicate, an empty string or -1.
    """
    is_reserved = is_unwritten(record_id)
    if is_reserved.any():
        reserved = UNWRITTEN[zarr_data_type(record_id)]
        raise StoreError(
            f"{source}: {int(is_reserved.sum()):,} of {len(record_id):,} records have the id "
            f"{reserved!r}, which is reserved for rows without a record; use other ids."
        )
    # `numpy.unique` without counts hashes the ids, which takes many times as long.
    ids, counts = np.unique(record_id, return_counts=True)
    if len(ids) < len(record_id):
        raise StoreError(
            f"{source}: {int((counts > 1).sum()):,} of {len(ids):,} record ids occur more than "
            f"once, such as {ids[counts > 1][0]}; make them unique."
        )


def create_or_grow(
    location: Location,
    provenance: Mapping[str, Any],
    ticket: Ticket,
    *,
    record_id: RecordIds,
    features: int,
    dtype: str,
    reasons: Sequence[str],
    shard_rows: int | None = None,
    feature_names: FeatureNames | None = None,
) -> EmbeddingStore:
    """Open a store for writing; create it if necessary, and append rows for new records.

    Args:
        location: The store (`layout.store_location`).
        provenance: JSON values that define the store, including ``dataset`` and ``expert``. The
            store's identity is their digest.
        ticket: Ticket of the store's lease.
        record_id: Ids of the records that must have a row, valid as in `check_ids`. New ones are
            appended in this order.
        features: Features per record.
        dtype: ``float16`` or ``float32``.
        reasons: Names of the failure reasons, which become status 2, 3, ...
        shard_rows: Rows per shard of a new store: at most `CHUNK_ROWS`, or a multiple of it. None
            selects `default_shard_rows`.
        feature_names: Names and units of the features, written into a new store; None if the
            features have no names.

    Returns:
        The store, open for writing.

    Raises:
        StoreError: `shard_rows` is invalid; the store is damaged, has another format or cannot be
            written; the ids and those of the store have different types; or an id is too large for
            int64.
        LeaseLost: Another process has taken over the lease.
    """
    # NumPy converts the concatenation of unsigned ids and int64 to float64.
    record_id = as_ids(record_id)
    shard_rows = shard_rows or default_shard_rows(len(record_id))
    if shard_rows < 1 or (shard_rows > CHUNK_ROWS and shard_rows % CHUNK_ROWS):
        raise StoreError(
            f"Invalid number of rows per shard, {shard_rows}; use a number from 1 to {CHUNK_ROWS}, "
            f"or a multiple of {CHUNK_ROWS}."
        )
    with translate_errors(location):
        zarr_store = location.root.zarr_writer(ticket.staging.key)
        if (location / "zarr.json").read() is None:
            id_type = zarr_data_type(record_id)
            documents = _empty_store(
                provenance, id_type, features, dtype, reasons, shard_rows, feature_names
            )
            _create(location, ticket, zarr_store, documents)
        return _grow(location, ticket, zarr_store, record_id)


def _create(
    location: Location, ticket: Ticket, zarr_store: Store, documents: dict[str, bytes]
) -> None:
    """Write the zarr.json documents of a store without rows."""
    # First track versions, then check the lease, then decide what to write. In this order, the puts
    # fail if another lease holder writes after the check.
    writer = cast(FencedWriter, zarr_store)
    for key in documents:
        writer.track_version(f"{location.key}/{key}")
    ticket.check()
    if (location / "zarr.json").read() is not None:
        return
    if (location / "embedding" / "c").folders():
        # Shards exist, so the store was complete, and its group's zarr.json was removed. Restore
        # only this document, and keep the arrays.
        documents = {"zarr.json": documents["zarr.json"]}
    # Write the group's zarr.json last, because a store without it is not opened.
    for key in sorted(documents, key=lambda key: (key == "zarr.json", key)):
        writer.put(f"{location.key}/{key}", documents[key])


def _empty_store(
    provenance: Mapping[str, Any],
    id_type: str,
    features: int,
    dtype: str,
    reasons: Sequence[str],
    shard_rows: int,
    feature_names: FeatureNames | None,
) -> dict[str, bytes]:
    """Return the zarr.json documents of a store without rows, and the chunks of feature names."""
    memory = MemoryStore()
    flags = ["absent", "whole", *reasons]
    group = zarr.create_group(
        memory,
        zarr_format=3,
        attributes={"format": FORMAT, "provenance": dict(provenance), "Conventions": "CF-1.11"},
    )
    # Do not compress, because embeddings hardly shrink (compression ratio 1.09 with zstd).
    checksum = [Crc32cCodec()]
    group.create_array(
        "embedding",
        shape=(0, features),
        dtype=dtype,
        chunks=(min(CHUNK_ROWS, shard_rows), features),
        shards=(shard_rows, features),
        compressors=checksum,
        fill_value=np.nan,
        dimension_names=["record", "feature"],
        attributes={
            "long_name": f"{provenance['expert']} embedding",
            # The CF conventions, which xarray follows, define this attribute.
            **({"coordinates": UNIT} if feature_names else {}),
        },
    )
    if feature_names:
        write_feature_names(group, feature_names)
    group.create_array(
        "status",
        shape=(0,),
        dtype="uint8",
        chunks=(shard_rows,),
        compressors=checksum,
        fill_value=ABSENT,
        dimension_names=["record"],
        attributes={
            "long_name": "whether the row is whole, or why it is not",
            "flag_values": list(range(len(flags))),
            "flag_meanings": " ".join(flags),
        },
    )
    group.create_array(
        "record_id",
        shape=(0,),
        dtype=id_type,
        chunks=(RECORD_ID_CHUNK_ROWS,),
        compressors=checksum,
        fill_value=UNWRITTEN[id_type],
        dimension_names=["record"],
        attributes={"long_name": f"record id within {provenance['dataset']}"},
    )
    return dict(sync(_read_all(memory)))


async def _read_all(memory: MemoryStore) -> list[tuple[str, bytes]]:
    prototype = default_buffer_prototype()
    items = [(key, await memory.get(key, prototype)) async for key in memory.list()]
    return [(key, value.to_bytes()) for key, value in items if value is not None]


def _grow(
    location: Location, ticket: Ticket, zarr_store: Store, record_id: RecordIds
) -> EmbeddingStore:
    """Open a store, and append rows for records that have none."""
    store = open_with(location, ticket, zarr_store)
    if is_text(store.record_id) != is_text(record_id):
        raise StoreError(
            f"{location}: the store's record ids are {_type_name(store.record_id)}, but the data "
            f"set's are {_type_name(record_id)}; use the --dataset from which the store was "
            "created, or another --store."
        )
    new = _new_ids(store, record_id)
    if not len(new):
        return store
    # As in `_create`, first track versions, then check the lease, then read the current state.
    length = _grown_length(store, new)
    for name in ARRAYS:
        store.writer.track_version(f"{location.key}/{name}/zarr.json")
    for chunk in _new_id_chunks(store, length):
        store.writer.track_version(f"{location.key}/record_id/c/{chunk}")
    ticket.check()
    store = open_with(location, ticket, zarr_store)
    new = _new_ids(store, record_id)
    status_without_id: np.ndarray = store.array("status")[len(store.record_id) :]  # type: ignore[assignment]
    if (status_without_id != ABSENT).any():
        problem = "rows that contain embeddings have no record id"
        raise damaged_store_error(location, problem, repairable=False)
    length = _grown_length(store, new)
    chunk_rows = store.array("record_id").chunks[0]
    ids = pad_ids(np.concatenate([store.record_id, new]), -(-length // chunk_rows) * chunk_rows)
    for name in ("embedding", "status"):
        _extend(store.array(name), length)
    # Readers ignore all ids after the first row without an id. Write the chunks in reverse order,
    # so that readers ignore all of them until the first chunk, written last, closes the gap.
    for chunk in reversed(_new_id_chunks(store, length)):
        chunk_ids = ids[chunk * chunk_rows : (chunk + 1) * chunk_rows]
        encoded = np.frombuffer(encode_chunk(chunk_ids), np.uint8)
        store.writer.put(f"{location.key}/record_id/c/{chunk}", append_checksum(encoded))
    # Extend record_id last. If the growth is interrupted before, readers ignore the rows without an
    # id, and the next growth reuses them.
    _extend(store.array("record_id"), length)
    return open_store(location, ticket)


def _type_name(record_id: RecordIds) -> str:
    return "text" if is_text(record_id) else "integers"


def _new_ids(store: EmbeddingStore, record_id: RecordIds) -> RecordIds:
    return record_id[store.rows_by_id(record_id) < 0]


def _grown_length(store: EmbeddingStore, new: RecordIds) -> int:
    """Return the common length of the arrays after growth; no array becomes shorter."""
    longest = max(store.array(name).shape[0] for name in ARRAYS)
    return max(len(store.record_id) + len(new), longest)


def _new_id_chunks(store: EmbeddingStore, length: int) -> range:
    """Return the numbers of the chunks of record_id that contain new rows."""
    rows = store.array("record_id").chunks[0]
    return range(len(store.record_id) // rows, -(-length // rows))


def _extend(array: zarr.Array[Any], length: int) -> None:
    if array.shape[0] < length:
        array.resize((length, *array.shape[1:]))
