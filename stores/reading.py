"""Many stores in step, by record id: at once, or in shuffled batches for more than fits memory."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from stores.embeddings import EmbeddingStore
from stores.errors import StoreError
from stores.record_ids import RecordIds
from stores.status import ABSENT, WHOLE

BLOCK_ROWS = 32_768
"""Rows read and shuffled together: some 50 MB of 768 features, 128 chunks from all over."""


def find_rows(store: EmbeddingStore, record_id: RecordIds) -> Int[np.ndarray, " record"]:
    """The rows of these records. Raises StoreError where the store does not know one of them."""
    rows = store.rows_by_id(record_id)
    if (rows < 0).any():
        missing = record_id[rows < 0]
        raise StoreError(
            f"{store.location} has no row of {len(missing)} records, such as {missing[0]}; extract "
            "them into it first."
        )
    return rows


def find_whole_rows(store: EmbeddingStore, record_id: RecordIds) -> Int[np.ndarray, " record"]:
    """The rows of these records. Raises StoreError where one of them is not whole."""
    rows = find_rows(store, record_id)
    status = store.status()[rows]
    if (missing := record_id[status == ABSENT]).size:
        raise StoreError(
            f"{store.location} lacks {len(missing)} of {len(record_id)} records, such as "
            f"{missing[0]}: they are not extracted yet; extract them into it first."
        )
    if (failed := record_id[status != WHOLE]).size:
        raise StoreError(
            f"{store.location} has no embedding of {len(failed)} of {len(record_id)} records, such "
            f"as {failed[0]}, which could not be had; leave them out (status 1 is whole)."
        )
    return rows


def read_aligned(
    stores: Sequence[EmbeddingStore],
    record_id: RecordIds,
    dtype: np.dtype | str | None = None,
) -> tuple[Float[np.ndarray, "record _"], ...]:
    """The same records from many stores: row i of each array is `record_id[i]`.

    Raises StoreError where a record is not whole in one of them.
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
    """One epoch over these records in shuffled batches, each with its record ids.

    Whole chunks are read, in random order; what is read together is shuffled, so memory holds
    `block_rows` rows of every store. Where the records fit into one block, each order is as
    likely as any other. The last batch may be smaller.
    """
    random = np.random.default_rng(seed)
    rows = [find_whole_rows(store, record_id) for store in stores]
    chunk_of = rows[0] // stores[0].layout.chunk_rows
    # Records by chunk, the chunks in random order.
    rank = random.permutation(int(chunk_of.max(initial=-1)) + 1)
    order = np.argsort(rank[chunk_of], kind="stable")
    for begin in range(0, len(order), block_rows):
        block = random.permutation(order[begin : begin + block_rows])
        arrays = [store.read(of[block], dtype) for store, of in zip(stores, rows, strict=True)]
        for at in range(0, len(block), batch_size):
            batch = slice(at, at + batch_size)
            yield record_id[block[batch]], tuple(array[batch] for array in arrays)
