"""Embeddings in memory, joined across stores by record id."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from enecg.errors import UserError
from pipeline.training.cache import Cache
from stores.embeddings import EmbeddingStore
from stores.errors import StoreError
from stores.record_ids import RecordIds
from stores.status import ABSENT, WHOLE


@dataclass(frozen=True)
class CompleteRecords:
    """Records that have an embedding in every store.

    Attributes:
        record_id: Record ids, in the order of the request.
        skipped: Number of requested records that were skipped because their ECG is unreadable.
    """

    record_id: RecordIds
    skipped: int


@dataclass(frozen=True)
class Features:
    """Embeddings of records, in the data type of the stores.

    Attributes:
        record_id: Record id of each row.
        experts: Embeddings by expert.
        leads: Sampled leads, the input of the gate.
    """

    record_id: RecordIds
    experts: dict[str, Float[Tensor, "record feature"]]
    leads: Float[Tensor, "record feature"]

    def find_rows(self, record_id: RecordIds) -> Tensor:
        """Return the row of each record id as int64, on the device of the features."""
        order = np.argsort(self.record_id)
        rows = order[np.searchsorted(self.record_id, record_id, sorter=order)]
        return torch.from_numpy(rows).to(self.leads.device)


def find_complete(cache: Cache, record_id: RecordIds, command: str) -> CompleteRecords:
    """Find the records that have an embedding in every store; unreadable records are skipped.

    Args:
        cache: The stores.
        record_id: Ids of the requested records.
        command: The command that extracts missing records, for the error message.

    Returns:
        The complete records, and the number of skipped ones.

    Raises:
        StoreError: Some records have not been extracted yet.
    """
    complete = np.ones(len(record_id), dtype=bool)
    for store in cache.stores:
        status = _read_status(store, record_id)
        missing = int((status == ABSENT).sum())
        if missing:
            raise StoreError(
                f"{store.location} has no embeddings for {missing} of {len(record_id)} records; "
                f"extract them with {command}, or use fewer records with --limit."
            )
        complete &= status == WHOLE
    return CompleteRecords(record_id[complete], int((~complete).sum()))


def read_features(cache: Cache, record_id: RecordIds, device: str) -> Features:
    """Read the embeddings of records from every store.

    Args:
        cache: The stores.
        record_id: Ids of the records.
        device: Torch device of the result.

    Returns:
        The embeddings; row i belongs to ``record_id[i]``.

    Raises:
        UserError: A store has no embeddings for some of the records.
    """

    def read(store: EmbeddingStore) -> Tensor:
        missing = record_id[_read_status(store, record_id) != WHOLE]
        if len(missing):
            raise UserError(
                f"{store.location} has no embeddings for {len(missing)} of {len(record_id)} "
                f"records, such as {missing[0]}; extract them or omit them."
            )
        return torch.from_numpy(store.read(store.rows_by_id(record_id))).to(device)

    experts = {name: read(store) for name, store in cache.experts.items()}
    return Features(record_id, experts, read(cache.leads))


def _read_status(store: EmbeddingStore, record_id: RecordIds) -> np.ndarray:
    """Return the status of each record, `ABSENT` for ids that are not in the store."""
    # `rows_by_id` returns -1 for unknown ids, which selects the appended element.
    status: np.ndarray = np.append(store.status(), ABSENT)[store.rows_by_id(record_id)]
    return status
