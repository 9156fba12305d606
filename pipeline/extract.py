"""Stage one: every expert once over the records, its embeddings into the stores.

The plan compares the data set's index with the stores; a range of shards is the unit of work,
and what is whole in the store is never computed again.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int, UInt8

from enecg.errors import UserError
from enecg.experts import Expert, ExpertSpec, WeightsChoice, load
from enecg.leads import LeadsSample
from pipeline.datasets.base import BadRecord, Dataset
from pipeline.datasets.registry import open_dataset
from pipeline.decode import DECODE_VERSION, REASONS
from stores.embeddings import (
    FIRST_REASON,
    SHARD_ROWS,
    WHOLE,
    EmbeddingStore,
    absent,
    create,
)
from stores.runs import write_run

NOT_FINITE = "not_finite"
"""The reason kept for a record whose embedding came out with a NaN or an infinity."""

FLUSH_SECONDS = 60.0
"""A shard in work is written, as far as it is, at least this often: what a kill can cost."""

Progress = Callable[[int, int], None]
"""Called as progress(records done, records to do)."""


@dataclass(frozen=True)
class ShardRange:
    """Shards `first` up to `last`, `last` excluded."""

    first: int
    last: int


@dataclass(frozen=True)
class Failure:
    """A record that an expert has no embedding of, and why."""

    record_id: int
    expert: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Summary:
    """What an extraction did, in rows (one record of one expert is a row)."""

    computed: int = 0
    already_there: int = 0
    failed: int = 0
    seconds: float = 0.0
    failures: tuple[Failure, ...] = ()

    def __add__(self, other: "Summary") -> "Summary":
        return Summary(
            self.computed + other.computed,
            self.already_there + other.already_there,
            self.failed + other.failed,
            self.seconds + other.seconds,
            self.failures + other.failures,
        )


@dataclass(frozen=True)
class ExtractionPlan:
    """What is to be done: which rows of which store lack an embedding.

    All stores of a plan hold the same records in the same rows; `row_in_index` leads from a
    store's row to the data set's, -1 for a record that is not asked for.
    """

    dataset: Dataset
    experts: tuple[Expert, ...]
    stores: tuple[EmbeddingStore, ...]
    row_in_index: Int[np.ndarray, " record"]
    to_do: tuple[np.ndarray, ...]
    already_there: int
    failed_before: int
    device: str
    started: datetime = field(default_factory=lambda: datetime.now().astimezone())

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

    def summary(self) -> Summary:
        """What was there before anything is done."""
        return Summary(already_there=self.already_there)


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


def plan_extraction(
    dataset: str | Dataset,
    store: str | Path,
    experts: Sequence[str] | Sequence[Expert],
    *,
    weights: Sequence[str] = ("published",),
    dtype: str = "float16",
    device: str = "auto",
    limit: int | None = None,
    retry_failed: bool = False,
    shard_rows: int = SHARD_ROWS,
) -> ExtractionPlan:
    """Find out what is missing. The gate's sampled leads are always part of the plan.

    `experts` by name, or ready-made; `limit` takes the first records of the index.
    Raises UserError or StoreError where the data set, an expert, its weights, the device or the
    store cannot be had.
    """
    source = open_dataset(dataset) if isinstance(dataset, str) else dataset
    where = resolve_device(device)
    choice = WeightsChoice.parse(weights)
    for named, _ in choice.of_expert:
        if named not in experts:
            raise UserError(f"--weights speaks of {named!r}, which is not among --experts.")
    ready = [load(one, choice) if isinstance(one, str) else one for one in experts]
    all_experts: tuple[Expert, ...] = (*ready, LeadsSample())
    index = source.index()
    stores = tuple(
        create(
            store,
            provenance(expert.spec, source.namespace, dtype),
            record_id=index.record_id,
            features=expert.spec.embedding_size,
            dtype=dtype,
            reasons=(*REASONS, NOT_FINITE),
            shard_rows=shard_rows,
        )
        for expert in all_experts
    )
    return _compare(source, all_experts, stores, limit, retry_failed, where)


def _compare(
    dataset: Dataset,
    experts: tuple[Expert, ...],
    stores: tuple[EmbeddingStore, ...],
    limit: int | None,
    retry_failed: bool,
    device: str,
) -> ExtractionPlan:
    wanted = dataset.index().record_id[:limit]
    first = stores[0]
    for other in stores[1:]:
        if not np.array_equal(first.record_id, other.record_id):
            raise UserError(
                f"{other.path} and {first.path} have their records in different rows, since the "
                "index grew in a different order; extract these experts one at a time."
            )
    row_in_index = np.full(len(first.record_id), -1)
    row_in_index[first.rows_by_id(wanted)] = np.arange(len(wanted))
    asked = row_in_index >= 0
    statuses = [store.status() for store in stores]
    to_do = tuple(asked & absent(status, or_failed=retry_failed) for status in statuses)
    # The sampled leads are no expert's: people count experts' rows.
    return ExtractionPlan(
        dataset=dataset,
        experts=experts,
        stores=stores,
        row_in_index=row_in_index,
        to_do=to_do,
        already_there=int(sum((status[asked] == WHOLE).sum() for status in statuses)),
        failed_before=int(
            sum((status[asked & ~mask] >= FIRST_REASON).sum()
                for status, mask in zip(statuses, to_do, strict=True))
        ),
        device=device,
    )


def resolve_device(device: str) -> str:
    """`auto` becomes `cuda` where there is one, else `cpu`. Raises UserError for a device not here."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"The device {device!r} cannot be used here ({str(error).splitlines()[0]}); "
            "give --device auto, cpu or cuda:N."
        ) from error
    return device


def extract_range(
    plan: ExtractionPlan,
    shards: ShardRange,
    *,
    batch_size: int = 64,
    progress: Progress | None = None,
    flush_seconds: float = FLUSH_SECONDS,
) -> Summary:
    """Compute what a range of shards lacks, and write it. Memory holds one shard and two batches."""
    for expert in plan.experts:
        if isinstance(expert, torch.nn.Module):
            expert.to(plan.device)
    last_row = min(shards.last * plan.shard_rows, len(plan.row_in_index))
    span = slice(shards.first * plan.shard_rows, last_row)
    total = int(np.logical_or.reduce([mask[span] for mask in plan.to_do]).sum())
    done = 0
    summary = Summary()
    for shard in range(shards.first, shards.last):
        work = _ShardWork(plan, shard)
        if not len(work.rows):
            continue
        flushed = time.monotonic()
        for batch in _decoded(plan.dataset, plan.row_in_index, work.rows, batch_size):
            work.take(batch)
            done += len(batch)
            if progress is not None:
                progress(done, total)
            if time.monotonic() - flushed > flush_seconds:
                work.write()
                flushed = time.monotonic()
        work.write()
        summary += work.summary()
    return summary


@dataclass(frozen=True)
class _Decoded:
    """A record's row in the stores, and its ECG or what was wrong with it."""

    row: int
    ecg: Float32[np.ndarray, "12 5000"] | BadRecord


def _decoded(
    dataset: Dataset,
    row_in_index: Int[np.ndarray, " record"],
    rows: Int[np.ndarray, " row"],
    batch_size: int,
) -> Iterator[list[_Decoded]]:
    """Batches of decoded records; the next batch is decoded while the caller works on this one."""

    def one(row: int) -> _Decoded:
        try:
            return _Decoded(row, dataset.read(int(row_in_index[row])))
        except BadRecord as bad:
            return _Decoded(row, bad)

    def batch(part: list[int]) -> list[_Decoded]:
        return [one(row) for row in part]

    numbers = iter(rows.tolist())
    with ThreadPoolExecutor(max_workers=1) as ahead:
        upcoming = ahead.submit(batch, list(islice(numbers, batch_size)))
        while current := upcoming.result():
            upcoming = ahead.submit(batch, list(islice(numbers, batch_size)))
            yield current


class _ShardWork:
    """One shard of every store in memory: what was there, and what comes in."""

    def __init__(self, plan: ExtractionPlan, shard: int) -> None:
        self.plan = plan
        self.shard = shard
        self.first = shard * plan.shard_rows
        span = plan.stores[0].rows_of(shard)
        self.lacking = [mask[span] for mask in plan.to_do]
        self.rows = np.flatnonzero(np.logical_or.reduce(self.lacking)) + self.first
        self.embedding = [store.read_shard(shard) for store in plan.stores]
        self.status: list[UInt8[np.ndarray, " row"]] = [
            store.status(shard) for store in plan.stores
        ]
        self.seconds = [0.0] * len(plan.stores)
        self.failures: list[Failure] = []
        self.computed = 0
        self.started = time.monotonic()

    def take(self, batch: list[_Decoded]) -> None:
        """Embed a batch by every expert that lacks some of it."""
        good = [(one.row - self.first, one.ecg) for one in batch if not isinstance(one.ecg, BadRecord)]
        for one in batch:
            if isinstance(one.ecg, BadRecord):
                for which in range(len(self.plan.experts)):
                    self._fail(which, one.row - self.first, one.ecg.reason, one.ecg.detail)
        if not good:
            return
        ecg = torch.from_numpy(np.stack([signal for _, signal in good])).to(self.plan.device)
        rows = np.array([row for row, _ in good])
        for which, expert in enumerate(self.plan.experts):
            lacks = self.lacking[which][rows]
            if lacks.any():
                with torch.inference_mode():
                    embedded = expert.embed(ecg[torch.from_numpy(lacks).to(ecg.device)])
                self._keep(which, rows[lacks], embedded.float().cpu().numpy())

    def write(self) -> None:
        """Write the shard as far as it is, whole, to every store that something came in for."""
        for which, store in enumerate(self.plan.stores):
            if self.lacking[which].any():
                store.write_shard(self.shard, self.embedding[which], self.status[which])

    def summary(self) -> Summary:
        """What this shard's work came to."""
        return Summary(
            computed=self.computed,
            failed=len(self.failures),
            seconds=time.monotonic() - self.started,
            failures=tuple(self.failures),
        )

    def _keep(self, which: int, rows: np.ndarray, embedded: np.ndarray) -> None:
        stored = embedded.astype(self.embedding[which].dtype)
        finite = np.isfinite(stored).all(1)
        self.embedding[which][rows[finite]] = stored[finite]
        self.status[which][rows[finite]] = WHOLE
        self.computed += int(finite.sum())
        for row in rows[~finite].tolist():
            name = self.plan.experts[which].spec.name
            self._fail(
                which,
                row,
                NOT_FINITE,
                f"The {name} embedding is not finite in {stored.dtype}; try --dtype float32.",
            )

    def _fail(self, which: int, row: int, reason: str, detail: str) -> None:
        if not self.lacking[which][row]:
            return
        store = self.plan.stores[which]
        self.status[which][row] = store.flags.index(reason)
        record = int(store.record_id[self.first + row])
        name = self.plan.experts[which].spec.name
        self.failures.append(Failure(record, name, reason, detail))


def report(plan: ExtractionPlan, summary: Summary, named: int = 10) -> list[str]:
    """An extraction told in lines: rows, failures by reason, and the first of them by name."""
    lines = [
        f"{summary.computed} rows computed, {summary.already_there} already there, "
        f"{summary.failed} failed"
        + (f", {plan.failed_before} failed before (--retry-failed tries them again)"
           if plan.failed_before else "")
        + f"; a row is one record of one of {len(plan.stores)} stores."
    ]
    # A bad record fails in every store for one reason: it is told once.
    records = {failure.record_id: failure for failure in summary.failures}
    if records:
        counts = Counter(failure.reason for failure in records.values())
        told = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
        lines.append(f"{len(records)} records failed: {told}.")
        lines += [
            f"  {failure.record_id}: {failure.reason}. {failure.detail}"
            for failure in islice(records.values(), named)
        ]
        if len(records) > named:
            lines.append(f"  ... and {len(records) - named} more, in the run objects below.")
    return lines


def finish_extraction(plan: ExtractionPlan, summary: Summary) -> list[Path]:
    """Keep what was done beside each store it was done to; returns the run objects' paths."""
    if not plan.total_rows:
        return []
    finished = datetime.now().astimezone()
    written = []
    for expert, store, mask in zip(plan.experts, plan.stores, plan.to_do, strict=True):
        if not mask.any():
            continue
        failures = [one for one in summary.failures if one.expert == expert.spec.name]
        run = {
            "started": plan.started.isoformat(timespec="seconds"),
            "finished": finished.isoformat(timespec="seconds"),
            "device": plan.device,
            "torch": torch.__version__,
            "index_digest": plan.dataset.index().digest,
            "rows_to_do": int(mask.sum()),
            "rows_failed": len(failures),
            "failures": [
                {"record_id": one.record_id, "reason": one.reason, "detail": one.detail}
                for one in failures
            ],
        }
        written.append(write_run(store, run))
    return written
