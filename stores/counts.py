"""How much of a store is there, and why the rest is not."""

from dataclasses import dataclass

import numpy as np

from stores.embeddings import EmbeddingStore
from stores.errors import told
from stores.status import ABSENT, FIRST_REASON, WHOLE


@dataclass(frozen=True)
class Counts:
    """Rows of a store by status, `failed` by reason in words; `bytes` as they lie there."""

    rows: int
    whole: int
    missing: int
    failed: dict[str, int]
    bytes: int


def count(store: EmbeddingStore) -> Counts:
    """Count a store's rows, from its status alone. Raises DamagedStore where that is damaged."""
    by_status = np.bincount(store.status(), minlength=256)
    flags = dict(enumerate(store.flags))
    failed = {
        flags.get(value, f"status_{value}"): int(by_status[value])
        for value in range(FIRST_REASON, 256)
        if by_status[value]
    }
    with told(store.location):
        size = sum(size for _, size in store.location.place.sizes(store.location.key))
    return Counts(
        rows=len(store.record_id),
        whole=int(by_status[WHOLE]),
        missing=int(by_status[ABSENT]),
        failed=failed,
        bytes=size,
    )
