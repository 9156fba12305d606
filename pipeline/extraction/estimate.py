"""Estimate of an extraction without running it: rows, bytes and duration per store."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.extraction.request import ExtractionRequest, StoreTarget, select_rows
from stores.creation import default_shard_rows
from stores.embeddings import EmbeddingStore
from stores.lease import read_holder
from stores.location import Location
from stores.opening import open_store
from stores.runs import iter_runs
from stores.status import ABSENT, FIRST_REASON, WHOLE, pending_rows


@dataclass(frozen=True)
class StoreEstimate:
    """The estimated work of an extraction for one store.

    Attributes:
        expert: Name of the expert.
        location: Location of the store, which need not exist.
        complete: Number of requested rows that are complete.
        failed: Number of requested rows that failed in earlier runs.
        missing: Number of rows to compute; includes the failed rows if they are to be retried.
        bytes: Size in bytes of the embedding shards to create.
        records_per_second: Rate of the expert in the newest run on the same type of device, per
            worker and without decoding and writing; None if there is no such run.
        writer: Holder of the store's current lease, which may have expired; None without a lease.
    """

    expert: str
    location: Location
    complete: int
    failed: int
    missing: int
    bytes: int
    records_per_second: float | None
    writer: str | None

    @property
    def hours(self) -> float | None:
        """Hours that one worker spends in the expert; None if the rate is unknown."""
        rate = self.records_per_second
        return self.missing / rate / 3600 if rate else None


def estimate_extraction(request: ExtractionRequest) -> tuple[StoreEstimate, ...]:
    """Estimate the work in each store, without writing to any store."""
    return tuple(_estimate(request, target) for target in request.targets)


def _estimate(request: ExtractionRequest, target: StoreTarget) -> StoreEstimate:
    spec, location = target.expert.spec, target.location
    index = request.dataset.index().record_id
    rows, all_status = select_rows(index, request.record_ids), np.zeros(len(index), np.uint8)
    shard_rows = request.options.shard_rows or default_shard_rows(len(index))
    rate = None
    if (location / "zarr.json").read() is not None:
        store = open_store(location)
        shard_rows = store.shard_rows
        rate = _measured_rate(store, request.device)
        rows = store.rows_by_id(request.record_ids)
        new = rows < 0
        rows[new] = len(store.record_id) + np.arange(new.sum())
        all_status = np.append(store.status(), np.full(new.sum(), ABSENT, np.uint8))
    status = all_status[rows]
    missing = pending_rows(status, retry_failed=request.options.retry_failed)
    # A shard has full size even if only some of its rows are present.
    shards = -(-len(all_status) // shard_rows)
    needed = np.bincount(rows[missing] // shard_rows, minlength=shards) > 0
    existing = np.bincount(np.flatnonzero(all_status) // shard_rows, minlength=shards) > 0
    new_shards = int((needed & ~existing).sum())
    row_bytes = spec.embedding_size * np.dtype(request.options.dtype).itemsize
    holder = read_holder(location)
    return StoreEstimate(
        expert=spec.name,
        location=location,
        complete=int((status == WHOLE).sum()),
        failed=int((status >= FIRST_REASON).sum()),
        missing=int(missing.sum()),
        bytes=new_shards * shard_rows * row_bytes,
        records_per_second=rate,
        writer=str(holder) if holder else None,
    )


def _measured_rate(store: EmbeddingStore, device: str) -> float | None:
    types = _device_types(device)
    rates = (
        run["embedded"] / run["embedding_seconds"]
        for run in iter_runs(store)
        if _device_types(str(run.get("device", ""))) == types
        and run.get("embedded")
        and run.get("embedding_seconds")
    )
    return next(rates, None)


def _device_types(devices: str) -> set[str]:
    return {device.partition(":")[0] for device in devices.split(", ")}


def format_estimates(estimates: Sequence[StoreEstimate]) -> list[str]:
    """Format the estimates as one line per store and a line with the totals."""
    lines = []
    for store in estimates:
        duration = (
            f"{_format_hours(store.hours)} at {store.records_per_second:,.3g} records/s"
            if store.hours is not None
            else "duration unknown (no earlier run on this type of device; with --scheduler, name "
            "the workers' type with --device)"
        )
        lines.append(
            f"{store.expert}: {store.missing:,} rows to compute, {store.bytes / 1e6:,.1f} MB to "
            f"add, {duration}; {store.complete:,} complete, {store.failed:,} failed in earlier "
            "runs. "
            f"{store.location}" + (f" (writer: {store.writer})" if store.writer else "")
        )
    hours = [store.hours for store in estimates if store.hours is not None]
    lines.append(
        f"Total: {sum(store.missing for store in estimates):,} rows, "
        f"{sum(store.bytes for store in estimates) / 1e6:,.1f} MB"
        + (f", {_format_hours(sum(hours))} for the experts with a measured rate" if hours else "")
        + ". Nothing was computed or written (--dry-run)."
    )
    return lines


def _format_hours(hours: float) -> str:
    """Format a duration in hours, minutes or seconds."""
    for unit, size in (("hours", 1.0), ("minutes", 1 / 60)):
        if hours >= size:
            return f"{hours / size:,.1f} {unit}"
    return f"{hours * 3600:,.0f} seconds"
