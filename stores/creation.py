"""How a store is made, and grown by new records."""

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
"""Of a data set that is small when its store is made: a shard's file holds all its rows at once."""
CHUNK_ROWS = 512
RECORD_ID_CHUNK_ROWS = 65_536


def default_shard_rows(records: int) -> int:
    """Rows in a shard of a store that is made for so many records."""
    return SMALL_SHARD_ROWS if records <= SHARD_ROWS else SHARD_ROWS


@contextmanager
def open_for_writing(
    root: str | Path | Location, provenance: Mapping[str, Any], **options: Any
) -> Iterator[EmbeddingStore]:
    """The store of this provenance with its lease, to be written to until the block's end.

    `options` are those of `create`. Raises LeaseHeld where somebody else writes to it.
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
    """The store of this provenance, made if it is not there, with rows for all of these records.

    `provenance` has at least `dataset` and `expert`, and together with nothing else it makes the
    identity. Records that the store does not know yet are appended in the order given.

    Raises StoreError where something else lies there, or it may not be written, and where an id
    stands for two records or for none.
    """
    _check_ids(location, record_id)
    shard_rows = shard_rows or default_shard_rows(len(record_id))
    with translate_errors(location):
        writer = location.root.zarr_writer(ticket.staging.key)
        if (location / "zarr.json").read() is None:
            _make(
                location,
                ticket,
                writer,
                _empty(provenance, zarr_data_type(record_id), features, dtype, reasons, shard_rows),
            )
        return _grow(location, ticket, writer, record_id)


def _make(location: Location, ticket: Ticket, by: Store, documents: dict[str, bytes]) -> None:
    """Make a store of no rows, which are added as to any other.

    What lies there is looked at first, and the lease after, so that all that a later holder of it
    writes makes the puts fail; and only then it is decided what to put.
    """
    writer = cast(FencedWriter, by)
    for key in documents:
        writer.track_version(f"{location.key}/{key}")
    ticket.check()
    if (location / "zarr.json").read() is not None:
        return
    if (location / "embedding" / "c").folders():
        # A store that lost its zarr.json: its rows keep their ids and their words, and the
        # document can be told from the store's name.
        documents = {"zarr.json": documents["zarr.json"]}
    # The group's own document comes last: until then there is no store.
    for key in sorted(documents, key=lambda key: (key == "zarr.json", key)):
        writer.put(f"{location.key}/{key}", documents[key])


def _empty(
    provenance: Mapping[str, Any],
    ids: str,
    features: int,
    dtype: str,
    reasons: Sequence[str],
    shard_rows: int,
) -> dict[str, bytes]:
    """All documents of a new store, which has no rows yet; `ids`: the data type of its ids."""
    memory = MemoryStore()
    flags = ["absent", "whole", *reasons]
    group = zarr.create_group(
        memory,
        zarr_format=3,
        attributes={"format": FORMAT, "provenance": dict(provenance), "Conventions": "CF-1.11"},
    )
    # Embeddings hardly compress (zstd: 1.09); the checksum finds a damaged chunk.
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
    return dict(sync(_contents(memory)))


async def _contents(memory: MemoryStore) -> list[tuple[str, bytes]]:
    prototype = default_buffer_prototype()
    found = [(key, await memory.get(key, prototype)) async for key in memory.list()]
    return [(key, value.to_bytes()) for key, value in found if value is not None]


def _grow(location: Location, ticket: Ticket, by: Store, record_id: RecordIds) -> EmbeddingStore:
    """The store with a row for each of these records; those that it does not know are added.

    As in `_make`, what is there is looked at, then the lease, and then read. The length of
    record_id comes last: a row without an id is not there, and is claimed again.
    """
    store = open_with(location, ticket, by)
    if is_text(store.record_id) != is_text(record_id):
        raise StoreError(
            f"{location} has its records by {_kind(store.record_id)}, and the data set has them by "
            f"{_kind(record_id)}; give the --dataset that it was made of, or another --store."
        )
    new = _missing(store, record_id)
    if not len(new):
        return store
    length = _length(store, new)
    for name in ARRAYS:
        store.writer.track_version(f"{location.key}/{name}/zarr.json")
    for chunk in _id_chunks(store, length):
        store.writer.track_version(f"{location.key}/record_id/c/{chunk}")
    ticket.check()
    store = open_with(location, ticket, by)
    new = _missing(store, record_id)
    known = len(store.record_id)
    beyond: np.ndarray = store.array("status")[known:]  # type: ignore[assignment]
    if (beyond != ABSENT).any():
        what = "the ids of rows that hold embeddings are not there"
        raise damaged_store_error(location, what, repairable=False)
    length = _length(store, new)
    chunk_rows = store.array("record_id").chunks[0]
    ids = pad_ids(np.concatenate([store.record_id, new]), -(-length // chunk_rows) * chunk_rows)
    for name in ("embedding", "status"):
        _lengthen(store.array(name), length)
    # The first chunk last: what follows a hole is no row to anybody.
    for chunk in reversed(_id_chunks(store, length)):
        part = ids[chunk * chunk_rows : (chunk + 1) * chunk_rows]
        encoded = np.frombuffer(encode_chunk(part), np.uint8)
        store.writer.put(f"{location.key}/record_id/c/{chunk}", append_checksum(encoded))
    _lengthen(store.array("record_id"), length)
    return open_store(location, ticket)


def _check_ids(location: Location, record_id: RecordIds) -> None:
    """Raises StoreError for ids that no row could be found by."""
    blank = is_unwritten(record_id)
    if blank.any():
        such = UNWRITTEN[zarr_data_type(record_id)]
        raise StoreError(
            f"{int(blank.sum())} records for {location} have the id {such!r}, which "
            "stands for a row without one; give them another."
        )
    ids, times = np.unique(record_id, return_counts=True)
    if len(ids) < len(record_id):
        raise StoreError(
            f"{int((times > 1).sum())} ids for {location} are of more than one record, such as "
            f"{ids[times > 1][0]}; give each record an id of its own."
        )


def _kind(record_id: RecordIds) -> str:
    return "text" if is_text(record_id) else "number"


def _missing(store: EmbeddingStore, record_id: RecordIds) -> RecordIds:
    return record_id[store.rows_by_id(record_id) < 0]


def _length(store: EmbeddingStore, new: RecordIds) -> int:
    """Of all arrays with these records. Never less: to cut an array takes its shards away."""
    longest = max(store.array(name).shape[0] for name in ARRAYS)
    return max(len(store.record_id) + len(new), longest)


def _id_chunks(store: EmbeddingStore, length: int) -> range:
    """The chunks of record_id that rows are added in."""
    rows = store.array("record_id").chunks[0]
    return range(len(store.record_id) // rows, -(-length // rows))


def _lengthen(array: zarr.Array[Any], length: int) -> None:
    if array.shape[0] < length:
        array.resize((length, *array.shape[1:]))
