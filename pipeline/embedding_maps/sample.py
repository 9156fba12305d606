"""A sample of records that are complete in several stores."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from enecg.errors import UserError
from stores.embeddings import EmbeddingStore
from stores.reading import read_aligned
from stores.record_ids import RecordIds
from stores.status import WHOLE

MIN_RECORDS = 10
"""Smallest number of records for which a map and similarities are meaningful."""


def draw_records(stores: Sequence[EmbeddingStore], size: int, seed: int) -> tuple[RecordIds, bool]:
    """Draw records that have an embedding in every store.

    Args:
        stores: Stores of one data set.
        size: Maximum number of records; if fewer are complete, all are returned.
        seed: Seed of the draw.

    Returns:
        The sorted ids of the records, and whether they are a random sample; False if all complete
        records are returned.

    Raises:
        UserError: Fewer than `MIN_RECORDS` records are complete in every store.
        StoreError: A store cannot be read.
    """
    common = complete_records(stores[0])
    for store in stores[1:]:
        common = np.intersect1d(common, complete_records(store))
    if len(common) < MIN_RECORDS:
        raise UserError(
            f"Only {len(common)} records have embeddings in all {len(stores)} stores, but at least "
            f"{MIN_RECORDS} are needed; extract more records, or select stores with --experts."
        )
    if len(common) <= size:
        return common, False
    drawn: np.ndarray = np.random.default_rng(seed).choice(common, size, replace=False)
    drawn.sort()
    return drawn, True


def complete_records(store: EmbeddingStore) -> RecordIds:
    """Return the sorted ids of the records that have an embedding."""
    return np.sort(store.record_id[store.status() == WHOLE])


def read_standardized(
    store: EmbeddingStore, record_id: RecordIds
) -> Float32[np.ndarray, "record feature"]:
    """Read embeddings and standardize each feature.

    Args:
        store: The store.
        record_id: Ids of records that have an embedding.

    Returns:
        Embeddings in the order of `record_id`; each feature has mean 0 and SD 1 over these records.
        Constant features are 0.

    Raises:
        StoreError: A record has no embedding, or the store cannot be read.
    """
    (embedding,) = read_aligned([store], record_id, "float32")
    centered = embedding - embedding.mean(0, dtype=np.float64).astype(np.float32)
    deviation = centered.std(0, dtype=np.float64).astype(np.float32)
    standardized: np.ndarray = centered / np.where(deviation > 1e-6, deviation, np.inf)
    return standardized
