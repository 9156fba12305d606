"""Embeddings of records, joined across stores by record id."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from enecg.errors import UserError
from pipeline.training.store_selection import Cache
from stores.embeddings import EmbeddingStore
from stores.errors import StoreError
from stores.record_ids import RecordIds
from stores.status import ABSENT, WHOLE


@dataclass(frozen=True)
class CompleteRecords:
    """Records that have an embedding in every store.

    Attributes:
        record_id: Record ids, in the order of the request.
        skipped: Number of requested records that failed in a store: their ECG is unreadable, or
            their embedding is not finite.
    """

    record_id: RecordIds
    skipped: int


@dataclass(frozen=True)
class Features:
    """Embeddings of records, in the data type of the stores.

    Attributes:
        record_id: Record id of each row.
        experts: Embeddings by expert, in memory or read on each access (`StoredEmbeddings`).
        leads: Sampled leads, the input of the gate.
    """

    record_id: RecordIds
    experts: Mapping[str, Float[Tensor, "record feature"]]
    leads: Float[Tensor, "record feature"]

    def find_rows(self, record_id: RecordIds) -> Tensor:
        """Find the rows of records.

        Args:
            record_id: Record ids, all of which must be in `Features.record_id`.

        Returns:
            The row of each record id as int64, on the device of the features.
        """
        order = np.argsort(self.record_id)
        rows = order[np.searchsorted(self.record_id, record_id, sorter=order)]
        return torch.from_numpy(rows).to(self.leads.device)


@dataclass(frozen=True)
class StoredEmbeddings(Mapping[str, Tensor]):
    """Embeddings by expert that are read from the stores on each access.

    Attributes:
        stores: Stores by expert.
        record_id: Ids of the records.
        device: Torch device of the embeddings.
    """

    stores: dict[str, EmbeddingStore]
    record_id: RecordIds
    device: str

    def __getitem__(self, expert: str) -> Tensor:
        return _read(self.stores[expert], self.record_id, self.device)

    def __iter__(self) -> Iterator[str]:
        return iter(self.stores)

    def __len__(self) -> int:
        return len(self.stores)


def find_complete(
    stores: Sequence[EmbeddingStore], record_id: RecordIds, command: str
) -> CompleteRecords:
    """Find the records that have an embedding in every store; failed records are skipped.

    Args:
        stores: The stores.
        record_id: Ids of the requested records.
        command: The command that extracts missing records, for the error message.

    Returns:
        The complete records, and the number of skipped ones.

    Raises:
        StoreError: Some records have not been extracted yet, or a store is damaged.
    """
    complete = np.ones(len(record_id), dtype=bool)
    for store in stores:
        status = _read_status(store, record_id)
        missing = int((status == ABSENT).sum())
        if missing:
            raise StoreError(
                f"{store.location} has no embeddings for {missing} of {len(record_id)} records; "
                f"extract them with {command}, or use fewer records with --limit."
            )
        complete &= status == WHOLE
    return CompleteRecords(record_id[complete], int((~complete).sum()))


def read_features(
    cache: Cache, record_id: RecordIds, device: str, max_bytes: int | None = None
) -> Features:
    """Read the embeddings of records from every store.

    Args:
        cache: The stores.
        record_id: Ids of the records.
        device: Torch device of the result.
        max_bytes: Maximum size in bytes of the embeddings of all experts in memory. If they are
            larger, the embeddings of an expert are read on each access. Default: unlimited.

    Returns:
        The embeddings; row i belongs to ``record_id[i]``.

    Raises:
        UserError: A store has no embeddings for some of the records.
        StoreError: A store is damaged.
    """
    for store in cache.stores:
        missing = record_id[_read_status(store, record_id) != WHOLE]
        if len(missing):
            raise UserError(
                f"{store.location} has no embeddings for {len(missing)} of {len(record_id)} "
                f"records, such as {missing[0]}; extract them or omit them."
            )
    experts: Mapping[str, Tensor] = StoredEmbeddings(cache.experts, record_id, device)
    size = sum(embedding_bytes(store, len(record_id)) for store in cache.experts.values())
    if max_bytes is None or size <= max_bytes:
        experts = dict(experts)
    return Features(record_id, experts, _read(cache.leads, record_id, device))


def embedding_bytes(store: EmbeddingStore, records: int) -> int:
    """Return the size of embeddings in memory.

    Args:
        store: The store.
        records: Number of records.

    Returns:
        Size in bytes.
    """
    return records * store.features * store.layout.dtype.itemsize


def _read(store: EmbeddingStore, record_id: RecordIds, device: str) -> Tensor:
    return torch.from_numpy(store.read(store.rows_by_id(record_id))).to(device)


def _read_status(store: EmbeddingStore, record_id: RecordIds) -> np.ndarray:
    """Return the status of each record, `ABSENT` for ids that are not in the store."""
    # `rows_by_id` returns -1 for unknown ids, which selects the appended element.
    status: np.ndarray = np.append(store.status(), ABSENT)[store.rows_by_id(record_id)]
    return status
