"""What an extraction would do, told without doing it: rows, bytes and hours."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.extraction.request import Request
from stores.embeddings import EmbeddingStore
from stores.lease import holder_of
from stores.location import Location
from stores.making import usual_shard_rows
from stores.opening import open_store
from stores.runs import newest_runs
from stores.status import ABSENT, FIRST_REASON, WHOLE, absent


@dataclass(frozen=True)
class Survey:
    """One store of an extraction that was only thought of.

    `bytes`: of the shards that are not there yet.

    `records_per_second`: of the expert alone, as the latest run of this store on this kind of
    device measured it; None where there is none.
    """

    expert: str
    location: Location
    whole: int
    failed: int
    to_do: int
    bytes: int
    records_per_second: float | None
    writer: str | None

    @property
    def hours(self) -> float | None:
        """How long the rows take by the measured rate; None where there is none."""
        rate = self.records_per_second
        return self.to_do / rate / 3600 if rate else None


def survey(request: Request, *, retry_failed: bool = False) -> tuple[Survey, ...]:
    """Look into the stores, where they are there already; nothing is made or written."""
    return tuple(
        _survey(request, expert.spec.name, expert.spec.embedding_size, location, retry_failed)
        for expert, location in zip(request.experts, request.locations, strict=True)
    )


def _survey(
    request: Request, expert: str, features: int, location: Location, retry_failed: bool
) -> Survey:
    index = request.dataset.index().record_id
    known, every, shard_rows = index, np.full(len(index), ABSENT, np.uint8), None
    rate = None
    if (location / "zarr.json").read() is not None:
        store = open_store(location)
        known, every, shard_rows = store.record_id, store.status(), store.shard_rows
        rate = _measured(store, request.device)
        new = np.setdiff1d(request.wanted, known)
        known = np.append(known, new)
        every = np.append(every, np.full(len(new), ABSENT, np.uint8))
    shard_rows = shard_rows or usual_shard_rows(len(index))
    rows = np.flatnonzero(np.isin(known, request.wanted))
    status = every[rows]
    lacking = absent(status, or_failed=retry_failed)
    # A shard's file holds all its rows, be they there or not.
    begun = np.unique(np.flatnonzero(every) // shard_rows)
    shards = np.setdiff1d(rows[lacking] // shard_rows, begun)
    to_do = int(lacking.sum())
    holder = holder_of(location)
    return Survey(
        expert=expert,
        location=location,
        whole=int((status == WHOLE).sum()),
        failed=int((status >= FIRST_REASON).sum()),
        to_do=to_do,
        bytes=len(shards) * shard_rows * features * np.dtype(request.dtype).itemsize,
        records_per_second=rate,
        writer=str(holder) if holder else None,
    )


def _measured(store: EmbeddingStore, device: str) -> float | None:
    kind = device.partition(":")[0]
    rates = (
        run["embedded"] / run["embedding_seconds"]
        for run in newest_runs(store)
        if str(run.get("device", "")).partition(":")[0] == kind
        and run.get("embedded")
        and run.get("embedding_seconds")
    )
    return next(rates, None)


def told(surveys: Sequence[Survey]) -> list[str]:
    """A survey in lines."""
    lines = []
    for one in surveys:
        hours = (
            f"{_spoken(one.hours)} at {one.records_per_second:,.3g} records/s"
            if one.hours is not None
            else "how long is unknown, for no run here has measured its rate yet"
        )
        lines.append(
            f"{one.expert}: {one.to_do:,} rows to compute, {one.bytes / 1e6:,.1f} MB more to keep, "
            f"{hours}; "
            f"{one.whole:,} are there, {one.failed:,} failed before. {one.location}"
            + (f" (writer: {one.writer})" if one.writer else "")
        )
    total = sum(one.to_do for one in surveys)
    known = [one.hours for one in surveys if one.hours is not None]
    lines.append(
        f"In all {total:,} rows, {sum(one.bytes for one in surveys) / 1e6:,.1f} MB"
        + (f", {_spoken(sum(known))} of the experts measured" if known else "")
        + ". Nothing was computed or written (--dry-run)."
    )
    return lines


def _spoken(hours: float) -> str:
    """A time in the unit that suits it."""
    for unit, size in (("hours", 1.0), ("minutes", 1 / 60)):
        if hours >= size:
            return f"{hours / size:,.1f} {unit}"
    return f"{hours * 3600:,.0f} seconds"
