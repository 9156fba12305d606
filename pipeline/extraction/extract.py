"""Stage one: every expert once over the records that the stores lack, in ranges of shards."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, UInt8

from enecg.errors import UserError
from pipeline.datasets.base import Dataset
from pipeline.extraction.plan import NOT_FINITE, ExtractionPlan, ShardRange
from pipeline.extraction.summary import Failure, Summary
from pipeline.waveforms.errors import UnreadableRecord
from stores.errors import StoreError
from stores.status import WHOLE

FLUSH_SECONDS = 60.0
"""A shard in work is written, as far as it is, at least this often: what a kill can cost."""

Progress = Callable[[int, int], None]
"""Called as progress(records done, records to do)."""


def extract_range(
    plan: ExtractionPlan,
    shards: ShardRange,
    summary: Summary,
    *,
    batch_size: int = 64,
    progress: Progress | None = None,
    flush_seconds: float = FLUSH_SECONDS,
) -> None:
    """Compute what a range of shards lacks, write it, and count it in `summary`.

    Memory holds one shard of every store and two batches, however many records there are.
    """
    # TensorFloat-32 would give other numbers on some GPUs than on others and on a CPU.
    torch.backends.cudnn.allow_tf32 = False
    for expert in plan.experts:
        if isinstance(expert, torch.nn.Module):
            expert.to(plan.device)
    last_row = min(shards.last * plan.shard_rows, len(plan.row_in_index))
    span = slice(shards.first * plan.shard_rows, last_row)
    total = int(np.logical_or.reduce([mask[span] for mask in plan.to_do]).sum())
    done = total - int(np.logical_or.reduce(_open(plan, span)).sum())
    for shard in range(shards.first, shards.last):
        work = _ShardWork(plan, shard, summary)
        flushed = time.monotonic()
        if not len(work.rows):
            continue
        try:
            for batch in _decoded(plan.dataset, plan.row_in_index, work.rows, batch_size):
                work.take(batch)
                done += len(batch)
                if progress is not None:
                    progress(done, total)
                if time.monotonic() - flushed > flush_seconds:
                    work.write()
                    flushed = time.monotonic()
        except StoreError:
            # The store itself is away: to write to it again would only wait again.
            raise
        except BaseException:
            # What is done is kept on Ctrl-C and on an error too.
            work.write()
            raise
        work.write()


def _open(plan: ExtractionPlan, span: slice) -> list[Bool[np.ndarray, " row"]]:
    """The rows that each store lacks still."""
    return [
        mask[span] & ~settled[span] for mask, settled in zip(plan.to_do, plan.settled, strict=True)
    ]


@dataclass(frozen=True)
class _Decoded:
    """A record's row in the stores, and its ECG or what was wrong with it."""

    row: int
    ecg: Float32[np.ndarray, "12 5000"] | UnreadableRecord


def _decoded(
    dataset: Dataset,
    row_in_index: Int[np.ndarray, " record"],
    rows: Int[np.ndarray, " row"],
    batch_size: int,
) -> Iterator[list[_Decoded]]:
    """Batches of decoded records, in order; the next is decoded while the caller works on this one.

    A data set that has to wait for each record, as one at a URL does, says by `threads` how many
    it gives side by side.
    """

    def one(row: int) -> _Decoded:
        try:
            return _Decoded(row, dataset.read(int(row_in_index[row])))
        except UnreadableRecord as bad:
            return _Decoded(row, bad)

    threads = getattr(dataset, "threads", 1)
    numbers = iter(rows.tolist())

    def batch(pool: Executor) -> list[Future[list[_Decoded]]]:
        """A batch under way, a part of it in each thread."""
        rows = list(islice(numbers, batch_size))
        size = -(-len(rows) // threads) or 1
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        return [pool.submit(lambda part: [one(row) for row in part], part) for part in parts]

    with ThreadPoolExecutor(max_workers=threads) as ahead:
        upcoming = batch(ahead)
        while current := [record for part in upcoming for record in part.result()]:
            upcoming = batch(ahead)
            yield current


class _ShardWork:
    """One shard of every store in memory: what was there, and what comes in."""

    def __init__(self, plan: ExtractionPlan, shard: int, summary: Summary) -> None:
        self.plan = plan
        self.summary = summary
        self.shard = shard
        self.first = shard * plan.shard_rows
        self.span = plan.stores[0].rows_of(shard)
        wanted = _open(plan, self.span)
        for store, wants in zip(plan.stores, wanted, strict=True):
            if wants.any():
                # Before it is read: it is written in place of just what was read.
                store.look(shard)
        self.status: list[UInt8[np.ndarray, " row"]] = [
            store.status(shard) for store in plan.stores
        ]
        # A write that broke off may have brought some of its rows into the store.
        self.lacking = [
            wants & (status != WHOLE) for wants, status in zip(wanted, self.status, strict=True)
        ]
        self.rows = np.flatnonzero(np.logical_or.reduce(self.lacking)) + self.first
        self.embedding = [
            store.read_shard(shard) if lacks.any() else np.empty((0, 0))
            for store, lacks in zip(plan.stores, self.lacking, strict=True)
        ]
        self.came_in = [np.zeros_like(lacks) for lacks in self.lacking]
        self.failures: list[tuple[int, Failure]] = []
        for settled, wants, lacks in zip(plan.settled, wanted, self.lacking, strict=True):
            summary.already_there += int((wants & ~lacks).sum())
            settled[self.span] |= wants & ~lacks

    def take(self, batch: list[_Decoded]) -> None:
        """Embed a batch by every expert that lacks some of it."""
        good = [
            (one.row - self.first, one.ecg)
            for one in batch
            if not isinstance(one.ecg, UnreadableRecord)
        ]
        for one in batch:
            if isinstance(one.ecg, UnreadableRecord):
                every = range(len(self.plan.experts))
                self._fail(every, one.row - self.first, one.ecg.reason, one.ecg.detail)
        if not good:
            return
        ecg = torch.from_numpy(np.stack([signal for _, signal in good])).to(self.plan.device)
        rows = np.array([row for row, _ in good])
        for which, expert in enumerate(self.plan.experts):
            lacks = self.lacking[which][rows]
            if lacks.any():
                began = time.monotonic()
                try:
                    with torch.inference_mode():
                        embedded = expert.embed(ecg[torch.from_numpy(lacks).to(ecg.device)])
                except torch.OutOfMemoryError as error:
                    raise UserError(
                        f"{expert.spec.name} needs more memory than {self.plan.device} has for "
                        f"{int(lacks.sum())} ECGs at once; give a smaller --batch-size."
                    ) from error
                # Bringing the result back waits for a GPU that is still at it.
                result = embedded.float().cpu().numpy()
                passed = time.monotonic() - began
                self.summary.embedding_seconds[expert.spec.name] += passed  # type: ignore[assignment]
                self.summary.embedded[expert.spec.name] += len(result)
                self._keep(which, rows[lacks], result)

    def write(self) -> None:
        """Write the shard as far as it is, whole, to every store that something came in for.

        What has reached a store is counted, then and only then.
        """
        for which, (expert, store) in enumerate(
            zip(self.plan.experts, self.plan.stores, strict=True)
        ):
            new = self.came_in[which]
            if not new.any():
                continue
            store.write_shard(self.shard, self.embedding[which], self.status[which])
            self.summary.computed += int((new & (self.status[which] == WHOLE)).sum())
            for row, failure in self.failures:
                if new[row] and failure.expert in (None, expert.spec.name):
                    again = failure.expert is None and self._is_told(row, failure.reason)
                    self.summary.fail(failure, expert.spec.name, again=again)
            self.plan.settled[which][self.span] |= new
            new[:] = False

    def _is_told(self, row: int, reason: str) -> bool:
        """Whether this run has written a row as failed for this reason, into any store."""
        return any(
            settled[self.first + row] and store.flags[status[row]] == reason
            for settled, store, status in zip(
                self.plan.settled, self.plan.stores, self.status, strict=True
            )
        )

    def _keep(self, which: int, rows: np.ndarray, embedded: np.ndarray) -> None:
        stored = embedded.astype(self.embedding[which].dtype)
        finite = np.isfinite(stored).all(1)
        self.embedding[which][rows[finite]] = stored[finite]
        self.status[which][rows[finite]] = WHOLE
        self.came_in[which][rows[finite]] = True
        for row in rows[~finite].tolist():
            name = self.plan.experts[which].spec.name
            self._fail(
                [which],
                row,
                NOT_FINITE,
                f"The {name} embedding is not finite in {stored.dtype}; try --dtype float32.",
            )

    def _fail(self, experts: Sequence[int], row: int, reason: str, detail: str) -> None:
        """Note a row's failure for those of the experts that lack it."""
        lacking = [which for which in experts if self.lacking[which][row]]
        for which in lacking:
            self.status[which][row] = self.plan.stores[which].flags.index(reason)
            self.came_in[which][row] = True
        whose = self.plan.experts[lacking[0]].spec.name if reason == NOT_FINITE else None
        record = self.plan.stores[0].record_id[self.first + row].item()
        self.failures.append((row, Failure(record, whose, reason, detail)))
