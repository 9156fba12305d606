"""The extraction plan: the rows missing in each store, and how to split them by shard."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from jaxtyping import Bool, Int

from enecg.experts.base import Expert, HasNamedFeatures
from pipeline.datasets.base import decoding_of
from pipeline.extraction.leases import Log, acquire_leases
from pipeline.extraction.request import ExtractionRequest, provenance, select_rows
from pipeline.extraction.store_plan import StorePlan
from pipeline.waveforms.failures import REASONS
from stores.creation import check_ids, create_or_grow
from stores.embeddings import EmbeddingStore
from stores.errors import StoreError
from stores.feature_names import FeatureNames
from stores.lease import Lease, Ticket
from stores.location import Location
from stores.opening import open_store
from stores.record_ids import RecordIds
from stores.status import FIRST_REASON, WHOLE, pending_rows

NOT_FINITE = "not_finite"
"""Reason code of a record whose embedding contains NaN or infinity."""


@dataclass(frozen=True)
class ShardRange:
    """A range of shards.

    Attributes:
        first: Number of the first shard.
        last: Number of the last shard plus 1.
    """

    first: int
    last: int


@dataclass(frozen=True)
class ExtractionPlan:
    """The rows that an extraction computes in each store.

    All stores contain the same records in the same rows. The plan holds the stores' leases until
    `close` is called or its ``with`` block ends.

    Attributes:
        request: The request that the plan was made for.
        stores: One plan per store.
        index_rows: For each store row, the row of the same record in the data set's index; -1 if
            the record is not requested.
        already_complete: Number of requested rows that are already complete, summed over the
            stores.
        previously_failed: Number of requested rows that failed in earlier runs and are not
            retried, summed over the stores.
        leads_busy: Reason why the gate's leads are not extracted; None if they are.
        started: Time when the plan was created.
    """

    request: ExtractionRequest
    stores: tuple[StorePlan, ...]
    index_rows: Int[np.ndarray, " row"]
    already_complete: int
    previously_failed: int
    leads_busy: str | None = None
    started: datetime = field(default_factory=lambda: datetime.now().astimezone())

    def __enter__(self) -> "ExtractionPlan":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the leases."""
        for planned in self.stores:
            if planned.lease is not None:
                planned.lease.release()

    @property
    def total_rows(self) -> int:
        """Number of rows to compute, summed over the stores."""
        return sum(int(planned.missing.sum()) for planned in self.stores)

    @property
    def total_records(self) -> int:
        """Number of records to decode: those that are missing in at least one store."""
        return int(self._missing_anywhere(slice(None)).sum())

    @property
    def shard_rows(self) -> int:
        """Rows per shard, the same in every store."""
        return self.stores[0].store.shard_rows

    def rows_of(self, shards: ShardRange) -> slice:
        """Return the rows in a range of shards."""
        stop = min(shards.last * self.shard_rows, len(self.index_rows))
        return slice(shards.first * self.shard_rows, stop)

    def count_records(self, shards: ShardRange) -> int:
        """Return the number of records to decode in a range of shards."""
        return int(self._missing_anywhere(self.rows_of(shards)).sum())

    def ranges(self, count: int) -> tuple[ShardRange, ...]:
        """Divide the shards with missing rows evenly into at most `count` ranges."""
        missing = self._missing_anywhere(slice(None))
        starts = np.arange(0, len(missing), self.shard_rows)
        shards = np.flatnonzero(np.logical_or.reduceat(missing, starts)) if len(starts) else starts
        parts = np.array_split(shards, min(count, len(shards))) if len(shards) else []
        return tuple(ShardRange(int(part[0]), int(part[-1]) + 1) for part in parts)

    def _missing_anywhere(self, span: slice) -> Bool[np.ndarray, " row"]:
        missing: np.ndarray = np.logical_or.reduce(
            [planned.missing[span] for planned in self.stores]
        )
        return missing


def plan_extraction(request: ExtractionRequest, log: Log | None = None) -> ExtractionPlan:
    """Acquire the leases, create or grow the stores, and find the missing rows.

    Args:
        request: The request.
        log: Called with a line for each store that the extraction waits for.

    Returns:
        The plan. It holds the leases, so close it after use.

    Raises:
        LeaseHeld: Another extraction is writing to a store; see `acquire_leases`.
        StoreError: A store cannot be opened or written, ids are invalid, or rows do not match.
    """
    held, leads_busy = acquire_leases(request, log)
    try:
        return _find_missing(request, _open_stores(request, held), held, leads_busy)
    except BaseException:
        for lease in held.values():
            lease.release()
        raise


def join_extraction(
    request: ExtractionRequest, tickets: Mapping[Location, Ticket]
) -> ExtractionPlan:
    """Plan an extraction under the leases of another process.

    Args:
        request: The same request as in the process that holds the leases.
        tickets: Tickets of the leases, by location of the store.

    Returns:
        The plan, which holds no leases.

    Raises:
        StoreError: A store cannot be opened, or the stores' rows do not match.
    """
    stores: dict[Location, EmbeddingStore] = {}
    for location, ticket in tickets.items():
        stores[location] = store = open_store(location, ticket)
        first = next(iter(stores.values())).record_id
        if np.array_equal(store.record_id, first):
            store.share_record_ids(first)
    return _find_missing(request, stores, {}, None)


def _open_stores(
    request: ExtractionRequest, held: dict[Location, Lease]
) -> dict[Location, EmbeddingStore]:
    """Open the stores whose lease is held; create them or append rows for new records if needed."""
    options = request.options
    record_ids, shard_rows = _row_order(request)
    check_ids(record_ids, request.dataset.namespace)
    stores: dict[Location, EmbeddingStore] = {}
    for target in request.targets:
        if target.location not in held:
            continue
        stores[target.location] = store = create_or_grow(
            target.location,
            provenance(
                target.expert.spec,
                request.dataset.namespace,
                options.dtype,
                decoding_of(request.dataset),
            ),
            held[target.location].ticket,
            record_id=record_ids,
            features=target.expert.spec.embedding_size,
            dtype=options.dtype,
            reasons=(*REASONS, NOT_FINITE),
            shard_rows=shard_rows,
            feature_names=_feature_names(target.expert),
        )
        if np.array_equal(store.record_id, record_ids):
            store.share_record_ids(record_ids)
    return stores


def _feature_names(expert: Expert) -> FeatureNames | None:
    if not isinstance(expert, HasNamedFeatures):
        return None
    features = expert.named_features
    return FeatureNames(
        tuple(feature.name for feature in features), tuple(feature.unit for feature in features)
    )


def _row_order(request: ExtractionRequest) -> tuple[RecordIds, int | None]:
    """Return the record ids in row order, and the rows per shard (None for the default).

    Every extraction requests the gate's leads, so their store defines the row order of all stores,
    including those of experts that are added later.
    """
    record_ids = request.dataset.index().record_id
    leads = request.targets[-1].location
    if (leads / "zarr.json").read() is None:
        return record_ids, request.options.shard_rows
    store = open_store(leads)
    new = record_ids[store.rows_by_id(record_ids) < 0]
    return np.concatenate([store.record_id, new]), store.shard_rows


def _find_missing(
    request: ExtractionRequest,
    stores: dict[Location, EmbeddingStore],
    held: dict[Location, Lease],
    leads_busy: str | None,
) -> ExtractionPlan:
    first, *others = stores.values()
    for other in others:
        same_rows = np.array_equal(first.record_id, other.record_id)
        if not same_rows or first.shard_rows != other.shard_rows:
            raise StoreError(
                f"{other.location} and {first.location} differ in the order of their records or in "
                "their shard size; extract into another --store, or copy both stores into another "
                "root with `enecg store copy`."
            )
    index_rows = np.full(len(first.record_id), -1)
    # Both `request.record_ids` and the result of `select_rows` are in index order.
    requested_rows = select_rows(request.dataset.index().record_id, request.record_ids)
    index_rows[first.rows_by_id(request.record_ids)] = requested_rows
    requested = index_rows >= 0
    plans = []
    already_complete = previously_failed = 0
    for target in request.targets:
        store = stores.get(target.location)
        if store is None:
            continue
        status = store.status()
        missing = requested & pending_rows(status, retry_failed=request.options.retry_failed)
        already_complete += int((status[requested] == WHOLE).sum())
        previously_failed += int((status[requested & ~missing] >= FIRST_REASON).sum())
        plans.append(
            StorePlan(
                expert=target.expert,
                store=store,
                lease=held.get(target.location),
                missing=missing,
                written=np.zeros_like(missing),
            )
        )
    return ExtractionPlan(
        request, tuple(plans), index_rows, already_complete, previously_failed, leads_busy
    )
