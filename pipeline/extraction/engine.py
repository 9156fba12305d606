"""Engines: where the shard ranges of an extraction are computed."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from contextvars import copy_context
from typing import Protocol

from pipeline.extraction.devices import worker_devices
from pipeline.extraction.plan import ExtractionPlan, ShardRange
from pipeline.extraction.ranges import Progress, extract_range
from pipeline.extraction.summary import ExtractionSummary
from pipeline.extraction.threads import choose_threads, use_threads

ExtractOne = Callable[[ShardRange], None]
"""A function that computes a range with `Engine.extract`. If it is called again for the same range,
it computes only the rows that are still missing."""


class Engine(Protocol):
    """Computes shard ranges in this process or in other processes.

    Attributes:
        stopped: Event that `stop` sets. If it is set, do not retry a failed call of `extract`.
    """

    stopped: threading.Event

    @property
    def workers(self) -> int:
        """Number of processes that compute ranges."""

    @property
    def concurrency(self) -> int:
        """Number of calls of `extract` that may run at the same time."""

    def extract(
        self, shards: ShardRange, summary: ExtractionSummary, progress: Progress | None = None
    ) -> None:
        """Compute and write the missing rows in a range of shards.

        Args:
            shards: Range of shards.
            summary: Updated in place.
            progress: Called as ``progress(done, total)`` with the record counts of this range.
        """

    def stop(self) -> None:
        """Set `stopped`; running calls of `extract` write their rows and return soon."""


class InProcessEngine:
    """Computes one range after another in this process.

    Args:
        plan: Plan of the extraction.
    """

    workers = 1
    concurrency = 1

    def __init__(self, plan: ExtractionPlan) -> None:
        self.plan = plan
        self.stopped = threading.Event()
        self._started: set[ShardRange] = set()

    def extract(
        self, shards: ShardRange, summary: ExtractionSummary, progress: Progress | None = None
    ) -> None:
        """Compute and write the missing rows in a range of shards; see `Engine.extract`."""
        summary.retries += shards in self._started
        self._started.add(shards)
        extract_range(self.plan, shards, summary, progress)

    def stop(self) -> None:
        """Set `stopped`; no other call of `extract` is running."""
        self.stopped.set()


@contextmanager
def open_engine(
    plan: ExtractionPlan, dataset: object, experts: Sequence[object]
) -> Iterator[Engine]:
    """Start the engine that the options of a plan select.

    Args:
        plan: Plan of the extraction.
        dataset: Data set as it was passed to `extract`. Other processes open it by its spec.
        experts: Experts as they were passed to `extract`. Other processes load them by name.

    Yields:
        The engine.

    Raises:
        UserError: Worker processes cannot be started, or they are used and `dataset` or an expert
            is not a string.
    """
    options = plan.request.options
    devices = worker_devices(options)
    if options.scheduler is None and len(devices) == 1:
        with use_threads(choose_threads(options.threads)):
            yield InProcessEngine(plan)
        return
    # Imported here because importing Dask takes a second.
    from pipeline.extraction.dask_engine import open_dask_engine

    with open_dask_engine(plan, dataset, experts, devices) as engine:
        yield engine


def run_ranges(engine: Engine, ranges: Sequence[ShardRange], extract_one: ExtractOne) -> None:
    """Compute ranges, as many at a time as the engine allows.

    Args:
        engine: The engine.
        ranges: The ranges.
        extract_one: Called with each range, in a thread if several run at the same time.

    Raises:
        BaseException: The exception of the first call that fails. Ranges that have not started are
            not computed, and running ones are stopped.
    """
    if engine.concurrency == 1:
        for shards in ranges:
            extract_one(shards)
        return
    with ThreadPoolExecutor(engine.concurrency) as pool:
        calls: list[Future[None]] = []
        try:
            for shards in ranges:
                # Call the function in a copy of the context, which contains the running job and
                # Prefect's run.
                calls.append(pool.submit(copy_context().run, extract_one, shards))
            for call in as_completed(calls):
                call.result()
        except BaseException:
            for call in calls:
                call.cancel()
            engine.stop()
            raise
