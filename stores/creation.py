"""Creating stores, and growing them by new records."""

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

from stores.embeddings import EmbeddingStore
from stores.errors import StoreError, damaged_store_error, translate_errors
from stores.layout import leases_folder, store_location
from stores.lease import Ticket, acquire
from stores.location import FencedWriter, Location
from stores.opening import ARRAYS, FORMAT, open_store, open_with
from stores.record_ids import (
    UNWRITTEN,
    RecordIds,
    encode_chunk,
    is_text,
    is_unwritten,
    pad_ids,
    zarr_data_type,
)
from stores.shards import append_checksum
from stores.status import ABSENT

SHARD_ROWS = 8192
SMALL_SHARD_ROWS = 1024
"""Rows per shard of a small data set, as a shard file has its full size from its first row on."""
CHUNK_ROWS = 512
RECORD_ID_CHUNK_ROWS = 65_536


def default_shard_rows(records: int) -> int:
    """Return the rows per shard of a new store for this number of records."""
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
        StoreError: As for `create_or_grow`.
    """
    location = store_location(root, provenance)
    with acquire(leases_folder(location)) as lease:
        yield create_or_grow(location, provenance, lease.ticket, **options)


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
) -> EmbeddingStore:
    """Open a store for writing; create it if necessary, and append rows for new records.

    Args:
        location: The store (`layout.store_location`).
        provenance: JSON values that define the store, including ``dataset`` and ``expert``. The
            identity is their digest.
        ticket: Ticket of the store's lease.
        record_id: Records that must have a row. New ones are appended in this order.
        features: Features per record.
        dtype: ``float16`` or ``float32``.
        reasons: Names of the failure reasons, for status values from 2 on.
        shard_rows: Rows per shard of a new store; None chooses by the number of records.

    Returns:
        The store, open for writing.

    Raises:
        StoreError: The store is damaged, has another format or cannot be written, or an id is
            duplicate, empty text or -1.
        LeaseLost: Another process has taken over the lease.
    """
    _check_ids(location, record_id)
    shard_rows = shard_rows or default_shard_rows(len(record_id))
    with translate_errors(location):
        zarr_store = location.root.zarr_writer(ticket.staging.key)
        if (location / "zarr.json").read() is None:
            ids = zarr_data_type(record_id)
            documents = _empty_store(provenance, ids, features, dtype, reasons, shard_rows)
            _create(location, ticket, zarr_store, documents)
        return _grow(location, ticket, zarr_store, record_id)


def _create(
    location: Location, ticket: Ticket, zarr_store: Store, documents: dict[str, bytes]
) -> None:
    """Write the documents of a store without rows."""
    # The order matters: track versions, check the lease, then decide what to write. Any later write
    # by another holder then makes the puts fail.
    writer = cast(FencedWriter, zarr_store)
    for key in documents:
        writer.track_version(f"{location.key}/{key}")
    ticket.check()
    if (location / "zarr.json").read() is not None:
        return
    if (location / "embedding" / "c").folders():
        # A store that lost its zarr.json keeps its arrays; the group's document follows from the
        # provenance.
        documents = {"zarr.json": documents["zarr.json"]}
    # The group's document comes last: until then there is no store.
    for key in sorted(documents, key=lambda key: (key == "zarr.json", key)):
        writer.put(f"{location.key}/{key}", documents[key])


def _empty_store(
    provenance: Mapping[str, Any],
    ids: str,
    features: int,
    dtype: str,
    reasons: Sequence[str],
    shard_rows: int,
) -> dict[str, bytes]:
    """Return the documents of a store without rows; `ids` is the Zarr data type of record_id."""
    memory = MemoryStore()
    flags = ["absent", "whole", *reasons]
    group = zarr.create_group(
        memory,
        zarr_format=3,
        attributes={"format": FORMAT, "provenance": dict(provenance), "Conventions": "CF-1.11"},
    )
    # A checksum only: embeddings hardly compress (ratio 1.09 with zstd).
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
        attributes={"long_name": f"{provenance['expert']} embedding"},
    )
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
        dtype=ids,
        chunks=(RECORD_ID_CHUNK_ROWS,),
        compressors=checksum,
        fill_value=UNWRITTEN[ids],
        dimension_names=["record"],
        attributes={"long_name": f"record id within {provenance['dataset']}"},
    )
    return dict(sync(_read_all(memory)))


async def _read_all(memory: MemoryStore) -> list[tuple[str, bytes]]:
    prototype = default_buffer_prototype()
    found = [(key, await memory.get(key, prototype)) async for key in memory.list()]
    return [(key, value.to_bytes()) for key, value in found if value is not None]


def _grow(
    location: Location, ticket: Ticket, zarr_store: Store, record_id: RecordIds
) -> EmbeddingStore:
    """Open a store and append rows for the records that it does not have."""
    store = open_with(location, ticket, zarr_store)
    if is_text(store.record_id) != is_text(record_id):
        raise StoreError(
            f"{location}: the store's record ids are {_kind(store.record_id)}, but the data set's "
            f"are {_kind(record_id)}; give the --dataset that the store was made from, or another "
            "--store."
        )
    new = _new_ids(store, record_id)
    if not len(new):
        return store
    # As in `_create`: track versions, check the lease, then read what to replace.
    length = _grown_length(store, new)
    for name in ARRAYS:
        store.writer.track_version(f"{location.key}/{name}/zarr.json")
    for chunk in _new_id_chunks(store, length):
        store.writer.track_version(f"{location.key}/record_id/c/{chunk}")
    ticket.check()
    store = open_with(location, ticket, zarr_store)
    new = _new_ids(store, record_id)
    beyond: np.ndarray = store.array("status")[len(store.record_id) :]  # type: ignore[assignment]
    if (beyond != ABSENT).any():
        what = "rows that contain embeddings have no record id"
        raise damaged_store_error(location, what, repairable=False)
    length = _grown_length(store, new)
    chunk_rows = store.array("record_id").chunks[0]
    ids = pad_ids(np.concatenate([store.record_id, new]), -(-length // chunk_rows) * chunk_rows)
    for name in ("embedding", "status"):
        _lengthen(store.array(name), length)
    # In reverse: until the first chunk is written, the ids after it count as unwritten.
    for chunk in reversed(_new_id_chunks(store, length)):
        part = ids[chunk * chunk_rows : (chunk + 1) * chunk_rows]
        encoded = np.frombuffer(encode_chunk(part), np.uint8)
        store.writer.put(f"{location.key}/record_id/c/{chunk}", append_checksum(encoded))
    # The length of record_id comes last: rows without an id do not exist, and the next growth
    # reuses them.
    _lengthen(store.array("record_id"), length)
    return open_store(location, ticket)


def _check_ids(location: Location, record_id: RecordIds) -> None:
    blank = is_unwritten(record_id)
    if blank.any():
        reserved = UNWRITTEN[zarr_data_type(record_id)]
        raise StoreError(
            f"{location}: {int(blank.sum()):,} of {len(record_id):,} records have the id "
            f"{reserved!r}, which is reserved for rows without a record; give them other ids."
        )
    ids, counts = np.unique(record_id, return_counts=True)
    if len(ids) < len(record_id):
        raise StoreError(
            f"{location}: {int((counts > 1).sum()):,} of {len(ids):,} record ids occur more than "
            f"once, such as {ids[counts > 1][0]}; make them unique."
        )


def _kind(record_id: RecordIds) -> str:
    return "text" if is_text(record_id) else "integers"


def _new_ids(store: EmbeddingStore, record_id: RecordIds) -> RecordIds:
    return record_id[store.rows_by_id(record_id) < 0]


def _grown_length(store: EmbeddingStore, new: RecordIds) -> int:
    """Return the length of all arrays after growth, which never shortens one."""
    longest = max(store.array(name).shape[0] for name in ARRAYS)
    return max(len(store.record_id) + len(new), longest)


def _new_id_chunks(store: EmbeddingStore, length: int) -> range:
    """Return the chunks of record_id that receive new ids."""
    rows = store.array("record_id").chunks[0]
    return range(len(store.record_id) // rows, -(-length // rows))


def _lengthen(array: zarr.Array[Any], length: int) -> None:
    if array.shape[0] < length:
        array.resize((length, *array.shape[1:]))
