"""Read records from several stores, all at once or in shuffled batches."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from stores.embeddings import EmbeddingStore
from stores.errors import StoreError
from stores.record_ids import RecordIds
from stores.status import ABSENT, WHOLE

BLOCK_ROWS = 32_768
"""Rows per store to read and shuffle together: 64 chunks, or 50 MB with 768 float16 features."""


def find_rows(store: EmbeddingStore, record_id: RecordIds) -> Int[np.ndarray, " record"]:
    """Return the row of each record.

    Args:
        store: The store.
        record_id: Ids of the records.

    Returns:
        Row numbers, in the order of `record_id`.

    Raises:
        StoreError: The store has no row for a record.
    """
    rows = store.rows_by_id(record_id)
    if (rows < 0).any():
        missing = record_id[rows < 0]
        raise StoreError(
            f"{store.location} has no row for {len(missing):,} of {len(record_id):,} records, such "
            f"as {missing[0]}; extract them into it first."
        )
    return rows


def find_whole_rows(store: EmbeddingStore, record_id: RecordIds) -> Int[np.ndarray, " record"]:
    """Return the row of each record; every record must have the status `WHOLE`.

    Args:
        store: The store.
        record_id: Ids of the records.

    Returns:
        Row numbers, in the order of `record_id`.

    Raises:
        StoreError: A record has no row, has not been extracted, or failed.
    """
    rows = find_rows(store, record_id)
    status = store.status()[rows]
    if (missing := record_id[status == ABSENT]).size:
        raise StoreError(
            f"{store.location} has no embeddings yet for {len(missing):,} of {len(record_id):,} "
            f"records, such as {missing[0]}; extract them first."
        )
    if (failed := record_id[status != WHOLE]).size:
        raise StoreError(
            f"{store.location} has no embeddings for {len(failed):,} of {len(record_id):,} "
            f"records, such as {failed[0]}, because their extraction failed; select only records "
            "with status 1."
        )
    return rows


def read_aligned(
    stores: Sequence[EmbeddingStore],
    record_id: RecordIds,
    dtype: np.dtype | str | None = None,
) -> tuple[Float[np.ndarray, "record _"], ...]:
    """Read the same records from several stores.

    Args:
        stores: The stores to read from.
        record_id: Ids of the records, which must have the status `WHOLE` in every store.
        dtype: Data type of the arrays; None keeps that of each store.

    Returns:
        One array of shape (records, features) per store; row i belongs to ``record_id[i]``.

    Raises:
        StoreError: A record is not whole in one of the stores, or a store is damaged or unreadable.
    """
    return tuple(store.read(find_whole_rows(store, record_id), dtype) for store in stores)


def iter_batches(
    stores: Sequence[EmbeddingStore],
    record_id: RecordIds,
    batch_size: int,
    *,
    seed: int,
    dtype: np.dtype | str | None = None,
    block_rows: int = BLOCK_ROWS,
) -> Iterator[tuple[RecordIds, tuple[Float[np.ndarray, "batch _"], ...]]]:
    """Iterate once over records in shuffled batches, reading the chunks in random order.

    Args:
        stores: The stores to read from, at least one.
        record_id: Ids of the records, which must have the status `WHOLE` in every store.
        batch_size: Records per batch; the last batch of each block may be smaller.
        seed: Seed of the order.
        dtype: Data type of the arrays; None keeps that of each store.
        block_rows: Rows per store that are held in memory and shuffled together. The order is
            uniformly random only if all records fit into one block.

    Yields:
        The record ids of a batch, and one array of shape (batch, features) per store.

    Raises:
        StoreError: A record is not whole in one of the stores, or a store is damaged or unreadable.
    """
    rng = np.random.default_rng(seed)
    rows = [find_whole_rows(store, record_id) for store in stores]
    chunk_of = rows[0] // stores[0].layout.chunk_rows
    # Sort the records by chunk, with the chunks in random order.
    rank = rng.permutation(int(chunk_of.max(initial=-1)) + 1)
    order = np.argsort(rank[chunk_of], kind="stable")
    for begin in range(0, len(order), block_rows):
        block = rng.permutation(order[begin : begin + block_rows])
        arrays = [
            store.read(store_rows[block], dtype)
            for store, store_rows in zip(stores, rows, strict=True)
        ]
        for first in range(0, len(block), batch_size):
            batch = slice(first, first + batch_size)
            yield record_id[block[batch]], tuple(array[batch] for array in arrays)
