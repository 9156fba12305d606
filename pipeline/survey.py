"""What an extraction would do, told without doing it: rows, bytes and hours."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.request import Request
from stores.embeddings import EmbeddingStore
from stores.lease import holder_of
from stores.location import Location
from stores.opening import open_store
from stores.runs import newest_runs
from stores.status import ABSENT, FIRST_REASON, WHOLE, absent


@dataclass(frozen=True)
class Survey:
    """One store of an extraction that was only thought of.

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
    status = np.full(len(request.wanted), ABSENT, np.uint8)
    rate = None
    if (location / "zarr.json").read() is not None:
        store = open_store(location)
        # A record whose row is not there takes the last one of these: absent.
        status = np.append(store.status(), np.uint8(ABSENT))[store.rows_by_id(request.wanted)]
        rate = _measured(store, request.device)
    to_do = int(absent(status, or_failed=retry_failed).sum())
    holder = holder_of(location)
    return Survey(
        expert=expert,
        location=location,
        whole=int((status == WHOLE).sum()),
        failed=int((status >= FIRST_REASON).sum()),
        to_do=to_do,
        bytes=to_do * features * np.dtype(request.dtype).itemsize,
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
            f"{one.hours:.2g} hours at {one.records_per_second:.3g} records/s"
            if one.hours is not None
            else "hours unknown, for no run here has measured its rate yet"
        )
        lines.append(
            f"{one.expert}: {one.to_do:,} rows to compute, {one.bytes / 1e6:,.1f} MB, {hours}; "
            f"{one.whole:,} are there, {one.failed:,} failed before. {one.location}"
            + (f" (writer: {one.writer})" if one.writer else "")
        )
    total = sum(one.to_do for one in surveys)
    known = [one.hours for one in surveys if one.hours is not None]
    lines.append(
        f"In all {total:,} rows, {sum(one.bytes for one in surveys) / 1e6:,.1f} MB"
        + (f", {sum(known):.2g} hours of the experts measured" if known else "")
        + ". Nothing was computed or written (--dry-run)."
    )
    return lines
