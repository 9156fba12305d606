"""What an extraction has to do: the data set's index against what is whole in the stores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from jaxtyping import Bool, Int

from enecg.experts import Expert
from pipeline.datasets.base import Dataset
from pipeline.extraction.leases import acquire_all
from pipeline.extraction.request import Request, provenance
from pipeline.waveforms.decode import REASONS
from stores.embeddings import EmbeddingStore
from stores.errors import StoreError
from stores.lease import Lease
from stores.making import create
from stores.opening import open_store
from stores.status import FIRST_REASON, WHOLE, absent

NOT_FINITE = "not_finite"
"""The reason kept for a record whose embedding came out with a NaN or an infinity."""


@dataclass(frozen=True)
class ShardRange:
    """Shards `first` up to `last`, `last` excluded."""

    first: int
    last: int


@dataclass(frozen=True)
class ExtractionPlan:
    """What is to be done: which rows of which store lack an embedding.

    All stores of a plan hold the same records in the same rows; `row_in_index` leads from a
    store's row to the data set's, -1 for a record that is not asked for. The plan holds the
    stores' leases until it is closed, by a `with` block or `close`.

    `settled`: which rows this run has written already, whole or failed: what a range that is begun
    again leaves out.
    `busy`: why the gate's leads are not among the stores, where somebody else writes them.
    """

    dataset: Dataset
    experts: tuple[Expert, ...]
    stores: tuple[EmbeddingStore, ...]
    leases: tuple[Lease, ...]
    row_in_index: Int[np.ndarray, " record"]
    to_do: tuple[Bool[np.ndarray, " record"], ...]
    settled: tuple[Bool[np.ndarray, " record"], ...]
    already_there: int
    failed_before: int
    device: str
    busy: str | None = None
    started: datetime = field(default_factory=lambda: datetime.now().astimezone())

    def __enter__(self) -> "ExtractionPlan":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others write to the stores."""
        for lease in self.leases:
            lease.release()

    @property
    def total_rows(self) -> int:
        """Rows to do, over all experts."""
        return int(sum(mask.sum() for mask in self.to_do))

    @property
    def total_records(self) -> int:
        """Records to open: those that at least one expert lacks."""
        return int(np.logical_or.reduce(self.to_do).sum())

    @property
    def shard_rows(self) -> int:
        """Rows in a shard, the same in every store."""
        return self.stores[0].shard_rows

    def ranges(self, pieces: int) -> tuple[ShardRange, ...]:
        """The shards with something to do, in at most `pieces` runs of about as many shards."""
        rows = np.flatnonzero(np.logical_or.reduce(self.to_do))
        shards = np.unique(rows // self.shard_rows)
        parts = np.array_split(shards, min(pieces, len(shards))) if len(shards) else []
        return tuple(ShardRange(int(part[0]), int(part[-1]) + 1) for part in parts)


def plan_extraction(
    request: Request,
    *,
    retry_failed: bool = False,
    shard_rows: int | None = None,
    wait_seconds: float = 0.0,
    notice: Callable[[str], None] | None = None,
) -> ExtractionPlan:
    """Take the leases, make or grow the stores, and find out what is missing in them.

    `wait_seconds`, `notice`: as in `lease.acquire`. Where somebody else writes the leads, the
    plan is without them; where somebody else writes an expert's store, LeaseHeld is raised.
    """
    held, busy = acquire_all(request, wait_seconds, notice)
    try:
        stores = _open_all(request, held, shard_rows)
        experts = request.experts[: len(stores)]
        return _compare(request, experts, stores, held, retry_failed, busy)
    except BaseException:
        for lease in held:
            lease.release()
        raise


def _open_all(
    request: Request, held: Sequence[Lease], shard_rows: int | None
) -> tuple[EmbeddingStore, ...]:
    """The stores whose leases are held, with rows for every record of the data set.

    Every extraction takes the leads along, so their rows are the order of all other stores: an
    expert that joins late has its records in the same rows as one that was there before.
    """
    order = request.dataset.index().record_id
    leads = request.locations[-1]
    if (leads / "zarr.json").read() is not None:
        there = open_store(leads)
        known = there.record_id
        order = np.concatenate([known, order[~np.isin(order, known)]])
        shard_rows = there.shard_rows
    return tuple(
        create(
            location,
            provenance(expert.spec, request.dataset.namespace, request.dtype),
            lease.ticket,
            record_id=order,
            features=expert.spec.embedding_size,
            dtype=request.dtype,
            reasons=(*REASONS, NOT_FINITE),
            shard_rows=shard_rows,
        )
        for expert, location, lease in zip(request.experts, request.locations, held, strict=False)
    )


def _compare(
    request: Request,
    experts: tuple[Expert, ...],
    stores: tuple[EmbeddingStore, ...],
    held: tuple[Lease, ...],
    retry_failed: bool,
    busy: str | None,
) -> ExtractionPlan:
    first = stores[0]
    for other in stores[1:]:
        same_rows = np.array_equal(first.record_id, other.record_id)
        if not same_rows or first.shard_rows != other.shard_rows:
            raise StoreError(
                f"{other.location} and {first.location} have their records in different rows or "
                "shards; extract into another --store, or copy them there by `enecg store copy`."
            )
    row_in_index = np.full(len(first.record_id), -1)
    # Both are in index order.
    in_index = np.flatnonzero(np.isin(request.dataset.index().record_id, request.wanted))
    row_in_index[first.rows_by_id(request.wanted)] = in_index
    asked = row_in_index >= 0
    statuses = [store.status() for store in stores]
    to_do = tuple(asked & absent(status, or_failed=retry_failed) for status in statuses)
    return ExtractionPlan(
        dataset=request.dataset,
        experts=experts,
        stores=stores,
        leases=held,
        row_in_index=row_in_index,
        to_do=to_do,
        settled=tuple(np.zeros_like(mask) for mask in to_do),
        already_there=int(sum((status[asked] == WHOLE).sum() for status in statuses)),
        failed_before=int(
            sum(
                (status[asked & ~mask] >= FIRST_REASON).sum()
                for status, mask in zip(statuses, to_do, strict=True)
            )
        ),
        device=request.device,
        busy=busy,
    )
