"""Nearest neighbors of a record, by an exact search that reads a store block by block."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from enecg.errors import UserError
from pipeline.embedding_maps.sample import complete_records
from stores.embeddings import EmbeddingStore
from stores.reading import read_aligned
from stores.record_ids import RecordIds
from stores.status import WHOLE

BLOCK_BYTES = 128 << 20
"""Maximum size of a block of float32 embeddings."""

SAMPLE = 2000
"""Maximum number of records from which the standard deviations of the features are estimated."""


@dataclass(frozen=True)
class Neighbor:
    """A neighbor of a record in the embedding space.

    Attributes:
        record_id: Id of the neighbor.
        distance: Root mean square difference of the standardized features; 1.4 on average for two
            unrelated records.
    """

    record_id: int | str
    distance: float


def find_neighbors(
    store: EmbeddingStore,
    record: int | str,
    *,
    count: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Neighbor]:
    """Find the records whose embeddings are nearest to that of a record.

    Args:
        store: The store.
        record: Id of the record, which must have an embedding.
        count: Number of neighbors.
        progress: Called as ``progress(done, total)`` with row counts after each block.

    Returns:
        The neighbors, nearest first; fewer than `count` if the store has fewer other embeddings.

    Raises:
        UserError: The store has no embedding for the record.
        StoreError: The store cannot be read.
    """
    known = complete_records(store)
    matching = known[known.astype(str) == str(record)]
    if not len(matching):
        raise UserError(
            f"{store.location} has no embedding for record {record}; extract it first, or pass "
            "another record."
        )
    deviation = _estimate_scale(store, known)
    (query,) = read_aligned([store], matching[:1], "float32")
    rows = np.flatnonzero(store.status() == WHOLE)
    block = max(1, BLOCK_BYTES // (4 * store.features))
    best_rows, best = np.empty(0, int), np.empty(0)
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        difference = (store.read(part, "float32") - query) / deviation
        distance = np.sqrt(np.square(difference).mean(1, dtype=np.float64))
        best_rows, best = np.append(best_rows, part), np.append(best, distance)
        # Keep one more than requested, because the record itself is among them.
        nearest = np.argsort(best, kind="stable")[: count + 1]
        best_rows, best = best_rows[nearest], best[nearest]
        if progress is not None:
            progress(min(start + block, len(rows)), len(rows))
    query_id = matching.tolist()[0]
    candidates = zip(store.record_id[best_rows].tolist(), best.tolist(), strict=True)
    neighbors = [Neighbor(name, distance) for name, distance in candidates if name != query_id]
    return neighbors[:count]


def _estimate_scale(store: EmbeddingStore, known: RecordIds) -> np.ndarray:
    """Return the standard deviation of each feature; infinite for a constant one."""
    chosen = known
    if len(known) > SAMPLE:
        chosen = np.sort(np.random.default_rng(0).choice(known, SAMPLE, replace=False))
    (values,) = read_aligned([store], chosen, "float32")
    deviation = values.std(0, dtype=np.float64).astype(np.float32)
    scale: np.ndarray = np.where(deviation > 1e-6, deviation, np.float32(np.inf))
    return scale
