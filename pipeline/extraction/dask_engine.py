"""Workers of an extraction as a Dask cluster: processes on this machine, or an existing cluster."""

import logging
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from typing import Any

import dask
from distributed import (
    CancelledError,
    Client,
    Event,
    Future,
    KilledWorker,
    LocalCluster,
    get_client,
    get_worker,
    wait,
)

from enecg.errors import UserError
from pipeline.datasets.mimic_tables.dask_scheduler import connect_scheduler
from pipeline.extraction.plan import ExtractionPlan, ShardRange
from pipeline.extraction.ranges import Progress
from pipeline.extraction.summary import ExtractionSummary
from pipeline.extraction.threads import choose_threads
from pipeline.extraction.work import ExtractionWork, WorkStopped, describe_work, run_work

ALLOWED_FAILURES = 10
"""Maximum number of workers on this machine that are lost while computing the same range; with one
more, the extraction fails. Other Dask clusters have their own setting."""
RESTART_TIMEOUT = "1h"
"""Maximum time for a lost local worker to restart. Dask's default of 15 s is too short on a busy
machine: the cluster would drop the worker and, if no worker is left, wait forever."""
REPORT_SECONDS = 1.0
"""Minimum time between two reports of a worker's progress."""
STOPPED = "extraction-stopped"
"""Cancellation reason of the ranges that are still queued when the extraction is stopped."""


class DaskEngine:
    """Computes ranges on the workers of a Dask cluster.

    Args:
        client: Client of the cluster.
        plan: Plan of the extraction.
        work: Description of the work.
        devices: Torch devices of the workers. A worker whose name is an integer uses the device
            with this index modulo the number of devices; other workers use the first device.

    Attributes:
        stopped: Event that `stop` sets.
    """

    def __init__(
        self,
        client: Client,
        plan: ExtractionPlan,
        work: ExtractionWork,
        devices: tuple[str, ...],
    ) -> None:
        self.client = client
        self.plan = plan
        self.work = work
        self.devices = devices
        self.topic = f"enecg-{uuid.uuid4().hex}"
        self._stop = Event(self.topic, client=client)
        self.stopped = threading.Event()
        self._counts: dict[int, tuple[int, int]] = {}
        self._queued: dict[int, Future] = {}
        self._starts = Counter[int]()
        self._lock = threading.Lock()
        client.subscribe_topic(self.topic, self._receive)

    @property
    def workers(self) -> int:
        """Number of workers."""
        return max(1, len(self.client.scheduler_info(n_workers=-1)["workers"]))

    @property
    def concurrency(self) -> int:
        """Number of ranges to submit at once: several per worker, because more workers can join."""
        return 4 * self.workers

    def extract(
        self, shards: ShardRange, summary: ExtractionSummary, progress: Progress | None = None
    ) -> None:
        """Compute and write the missing rows in a range of shards on any worker.

        If the worker is lost, another worker computes the remaining rows.

        Args:
            shards: Range of shards.
            summary: Updated in place.
            progress: Called as ``progress(done, total)`` with the record counts of this range.

        Raises:
            UserError: Several workers were lost, a device is out of memory, a worker cannot open
                the data set or an expert, or the range was canceled.
            StoreError: A store cannot be read or written.
        """
        future = self._submit(shards)
        reported = None
        try:
            while not future.done():
                # Reporting may be slow, so call `progress` here and not in the client's thread.
                counts = self._counts.get(shards.first)
                if progress is not None and counts is not None and counts != reported:
                    progress(*counts)
                    reported = counts
                with suppress(TimeoutError, CancelledError):
                    wait(future, timeout=REPORT_SECONDS)
            part: ExtractionSummary = future.result()
        except KilledWorker as error:
            raise UserError(
                f"{error.allowed_failures + 1} workers were lost while computing shards "
                f"{shards.first} to {shards.last - 1}, possibly because they ran out of memory; "
                "use a smaller --batch-size or fewer --workers."
            ) from error
        except CancelledError as error:
            raise UserError(
                _canceled_message(shards, getattr(error, "reason", "unknown"))
            ) from error
        finally:
            with self._lock:
                summary.retries = self._starts.total() - len(self._starts)
        with self._lock:
            summary.add(part)
            summary.workers = max(summary.workers, self.workers)
        if progress is not None and not self.stopped.is_set():
            records = self.plan.count_records(shards)
            progress(records, records)

    def stop(self) -> None:
        """Cancel queued ranges, and request the workers to write their rows and return."""
        with self._lock:
            self.stopped.set()
            # `_receive` removes items without the lock; `copy` and `pop` are atomic.
            queued = list(self._queued.copy().values())
        with suppress(OSError, TimeoutError):
            self._stop.set()
            self.client.cancel(queued, reason=STOPPED)

    def _submit(self, shards: ShardRange) -> Future:
        with self._lock:
            if self.stopped.is_set():
                raise UserError(_canceled_message(shards, STOPPED))
            starts = self._starts[shards.first]
            self._queued[shards.first] = future = self.client.submit(
                _extract_on_worker,
                *(self.work, shards, self.devices, self.topic),
                pure=False,
                key=f"shards {shards.first} to {shards.last}-{uuid.uuid4().hex}",
            )
            # A worker may have started the range before it was added.
            if self._starts[shards.first] > starts:
                self._queued.pop(shards.first, None)
        return future

    def _receive(self, event: tuple[float, dict[str, int]]) -> None:
        """Process a worker's report: the range that it starts, or record counts of the range.

        Dask calls this in the client's thread.
        """
        _, report = event
        first = report["first"]
        if "done" in report:
            self._counts[first] = report["done"], report["total"]
        else:
            # Do not acquire the lock: `_submit` holds it while the client waits for this thread.
            # `_submit` relies on the order of these two lines.
            self._starts[first] += 1
            self._queued.pop(first, None)


def _canceled_message(shards: ShardRange, reason: str) -> str:
    return (
        f"Shards {shards.first} to {shards.last - 1} were canceled by the Dask scheduler "
        f"({reason}); run the same command again to compute the missing rows."
    )


@contextmanager
def open_dask_engine(
    plan: ExtractionPlan, dataset: object, experts: Sequence[object], devices: tuple[str, ...]
) -> Iterator[DaskEngine]:
    """Start worker processes on this machine, or connect to ``options.scheduler`` if it is set.

    Args:
        plan: Plan of the extraction.
        dataset: Spec of the data set.
        experts: Names of the experts.
        devices: Device of each worker on this machine, or the device of all workers of the
            scheduler.

    Yields:
        The engine.

    Raises:
        UserError: The scheduler is invalid, unreachable or without workers, or `dataset` or an
            expert is not a string.
    """
    address = plan.request.options.scheduler
    threads = plan.request.options.threads
    if address is None:
        threads = choose_threads(threads, len(devices))
    work = describe_work(plan, dataset, tuple(experts), threads)
    if address is not None:
        with connect_scheduler(address) as client:
            if not isinstance(client, Client):
                raise UserError(
                    f"--scheduler {address} is not an address of a Dask scheduler, such as "
                    "tcp://HOST:8786; use --workers for processes on this machine."
                )
            if not client.scheduler_info(n_workers=-1)["workers"]:
                raise UserError(
                    f"The Dask scheduler {address} has no workers; start some with `dask worker "
                    f"{address} --nthreads 1`."
                )
            yield DaskEngine(client, plan, work, devices)
        return
    with _local_cluster(len(devices)) as client:
        yield DaskEngine(client, plan, work, devices)


@contextmanager
def _local_cluster(workers: int) -> Iterator[Client]:
    """Start worker processes in which SIGINT and SIGTERM are blocked."""
    settings = {
        "distributed.scheduler.allowed-failures": ALLOWED_FAILURES,
        "distributed.deploy.lost-worker-timeout": RESTART_TIMEOUT,
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=0,
            threads_per_worker=1,
            # Set no limit, because it would include memory-mapped weights.
            memory_limit=0,
            # None would be port 8787 on all interfaces, with a warning if it is in use.
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        # Workers inherit the signal mask of the thread that starts them. Start the resource tracker
        # before the signals are blocked, because starting it unblocks them.
        resource_tracker.ensure_running()
        cluster.sync(_block_signals)
        cluster.scale(workers)
        client.wait_for_workers(workers)
        yield client


async def _block_signals() -> None:
    """Block SIGINT and SIGTERM. The coordinating process handles them and stops the workers."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})


def _extract_on_worker(
    work: ExtractionWork, shards: ShardRange, devices: tuple[str, ...], topic: str
) -> ExtractionSummary:
    worker: Any = get_worker()
    index = worker.name if isinstance(worker.name, int) else 0
    stop = Event(topic, client=get_client())
    worker.log_event(topic, {"first": shards.first})
    if stop.is_set():
        return ExtractionSummary()
    reported = -float("inf")

    def progress(done: int, total: int) -> None:
        nonlocal reported
        now = time.monotonic()
        if done < total and now - reported < REPORT_SECONDS:
            return
        reported = now
        worker.log_event(topic, {"first": shards.first, "done": done, "total": total})
        if stop.is_set():
            raise WorkStopped

    return run_work(work, shards, devices[index % len(devices)], progress)
