"""What an extraction has to do: the data set's index against what is whole in the stores."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int

from enecg.errors import UserError
from enecg.experts import Choices, Expert, ExpertSpec, load
from enecg.leads import LeadsSample
from pipeline.datasets.base import Dataset
from pipeline.datasets.registry import open_dataset
from pipeline.decode import DECODE_VERSION, REASONS
from pipeline.selection import select
from stores.embeddings import EmbeddingStore
from stores.errors import StoreError
from stores.layout import leases, store_location
from stores.lease import Lease, LeaseHeld, acquire
from stores.location import Location, locate
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
class Request:
    """What was asked for: records of a data set, by these experts, the gate's leads among them.

    `wanted`: record ids, in index order. `locations`: where each expert's store is or will be.
    """

    dataset: Dataset
    experts: tuple[Expert, ...]
    wanted: Int[np.ndarray, " record"]
    locations: tuple[Location, ...]
    dtype: str
    device: str


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


def provenance(spec: ExpertSpec, namespace: str, dtype: str) -> dict[str, Any]:
    """The document that defines a store: what its numbers depend on, and nothing else."""
    return {
        "dataset": namespace,
        "expert": spec.name,
        "code_version": spec.code_version,
        "architecture": dict(spec.architecture),
        "preprocessing": spec.preprocessing,
        "pooling": spec.pooling,
        "embedding_size": spec.embedding_size,
        "weights": spec.weights,
        "weights_sha256": spec.weights_sha256,
        "decode_version": DECODE_VERSION,
        "dtype": dtype,
    }


def resolve(
    dataset: str | Dataset,
    store: str | Path,
    experts: Sequence[str] | Sequence[Expert],
    *,
    weights: Sequence[str] = ("published",),
    pooling: Sequence[str] = ("default",),
    dtype: str = "float16",
    device: str = "auto",
    limit: int | None = None,
    records: Path | None = None,
) -> Request:
    """Find everything that is asked for. The gate's sampled leads are always part of it, last.

    `experts` by name, or ready-made; `limit` and `records` as in `selection.select`.
    Raises UserError or StoreError where the data set, an expert, its weights, a record, the
    device or the store's root cannot be had.
    """
    source = open_dataset(dataset) if isinstance(dataset, str) else dataset
    where = resolve_device(device)
    root = locate(store)
    named: list[str | Expert] = list(dict.fromkeys(experts))
    by_name = [one for one in named if isinstance(one, str)]
    choices = {}
    for option, given in (("--weights", weights), ("--pooling", pooling)):
        choices[option] = Choices.parse(option, given)
        choices[option].refuse_strangers(option, by_name)
    ready: list[Expert] = [
        load(one, choices["--weights"].of(one), choices["--pooling"].of(one))
        if isinstance(one, str)
        else one
        for one in named
    ]
    ready.append(LeadsSample())
    # One store, one expert, however often it was named.
    experts_at: dict[Location, Expert] = {}
    for expert in ready:
        made = provenance(expert.spec, source.namespace, dtype)
        experts_at.setdefault(store_location(root, made), expert)
    return Request(
        dataset=source,
        experts=tuple(experts_at.values()),
        wanted=select(source.index().record_id, limit=limit, records=records),
        locations=tuple(experts_at),
        dtype=dtype,
        device=where,
    )


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
    held, busy = _acquire_all(request, wait_seconds, notice)
    try:
        stores = _open_all(request, held, shard_rows)
        experts = request.experts[: len(stores)]
        return _compare(request, experts, stores, held, retry_failed, busy)
    except BaseException:
        for lease in held:
            lease.release()
        raise


def _acquire_all(
    request: Request, wait_seconds: float, notice: Callable[[str], None] | None
) -> tuple[tuple[Lease, ...], str | None]:
    """The leases of all stores, in the order of the experts; and why that of the leads is not.

    Seeing that a holder is dead takes its time, so they are watched side by side; but the first
    of them alone, so that of two that want the same stores at once one gets all of them.
    """
    *experts, leads = request.locations
    first, *others = sorted(experts, key=str) or [leads]
    together = [*others, leads] if experts else []
    until = time.monotonic() + wait_seconds
    held: dict[Location, Lease] = {}
    busy: LeaseHeld | None = None
    try:
        for some in ([first], together):
            stop = threading.Event()

            def one(location: Location, stop: threading.Event = stop) -> LeaseHeld | None:
                left = max(0.0, until - time.monotonic())
                try:
                    held[location] = acquire(
                        leases(location), wait_seconds=left, notice=notice, stop=stop
                    )
                except LeaseHeld as refused:
                    # With no expert at all it is the leads that are wanted.
                    if not experts or location != leads:
                        raise
                    return refused
                return None

            with ThreadPoolExecutor(max_workers=len(request.locations)) as pool:
                try:
                    for answer in pool.map(one, some):
                        busy = answer or busy
                finally:
                    # Whoever still waits when one was refused, or at Ctrl-C, waits for nothing.
                    stop.set()
    except BaseException:
        for lease in held.values():
            lease.release()
        raise
    return (
        tuple(held[where] for where in request.locations if where in held),
        str(busy) if busy else None,
    )


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


def resolve_device(device: str) -> str:
    """`auto` becomes `cuda` where there is one, else `cpu`.

    Raises UserError for a device that is not here.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"The device {device!r} cannot be used here ({str(error).splitlines()[0]}); "
            "give --device auto or cpu, or name a device that is here."
        ) from error
    return device
