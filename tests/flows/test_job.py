"""Retries of a step of a job, and interruption of the wait for a retry."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from enecg.errors import UserError
from flows.job import Job, TerminalJob, current_job
from pipeline.extraction.engine import run_ranges
from pipeline.extraction.plan import ShardRange


class RecordingEvent(threading.Event):
    """An event that records the requested waits and does not wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        return self.is_set()


def run_in_terminal(run: Callable[[Job], Any]) -> Any:
    return run(TerminalJob())


def run_in_prefect(run: Callable[[Job], Any]) -> Any:
    from flows.prefect_job import as_flow

    results = []

    def retried_job() -> tuple[str, ...]:
        """Run the step of a test."""
        results.append(run(current_job()))
        return ()

    as_flow(retried_job)()
    return results[0]


@pytest.fixture(params=[run_in_terminal, run_in_prefect], ids=["terminal", "Prefect"])
def run_job(request: pytest.FixtureRequest) -> Callable[[Callable[[Job], Any]], Any]:
    if request.param is run_in_prefect:
        request.getfixturevalue("prefect_server")
    return request.param


def test_step_is_retried_after_each_wait(run_job: Callable[[Callable[[Job], Any]], Any]):
    event, calls = RecordingEvent(), []

    def fail_twice() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise OSError("the share is unavailable")
        return "done"

    def run(job: Job) -> str:
        return job.step("read", fail_twice, retry_seconds=(10, 60), stopped=event)

    assert run_job(run) == "done"
    assert len(calls) == 3
    assert event.waits == [0, 10, 60]


def test_stopped_job_does_not_retry_a_step(run_job: Callable[[Callable[[Job], Any]], Any]):
    stopped, calls = threading.Event(), []

    def stop_and_fail() -> None:
        calls.append(1)
        stopped.set()
        raise OSError("the share is unavailable")

    def run(job: Job) -> None:
        job.step("read", stop_and_fail, retry_seconds=(3600,), stopped=stopped)

    with pytest.raises((OSError, UserError)):
        run_job(run)
    assert len(calls) == 1


class TwoThreadEngine:
    """An engine for which `run_ranges` starts two threads."""

    workers = 2
    concurrency = 2

    def __init__(self) -> None:
        self.stopped = threading.Event()

    def stop(self) -> None:
        self.stopped.set()


class InterruptedRanges(list[ShardRange]):
    """Ranges whose iteration raises KeyboardInterrupt after the first call has failed."""

    def __init__(self, ranges: list[ShardRange], has_failed: threading.Event) -> None:
        super().__init__(ranges)
        self.has_failed = has_failed

    def __iter__(self) -> Iterator[ShardRange]:
        yield self[0]
        self.has_failed.wait()
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "interruption", [KeyboardInterrupt, SystemExit(143), None], ids=["Ctrl-C", "SIGTERM", "start"]
)
def test_interruption_ends_the_wait_for_a_retry_in_another_thread(
    interruption: type[BaseException] | BaseException | None, capfd: pytest.CaptureFixture[str]
):
    engine, calls, has_failed = TwoThreadEngine(), Counter[int](), threading.Event()
    ranges = [ShardRange(0, 1), ShardRange(1, 2)]

    def extract(shards: ShardRange) -> None:
        calls[shards.first] += 1
        if shards.first == 1:
            has_failed.wait()
            assert interruption is not None
            raise interruption
        has_failed.set()
        raise OSError("the share is unavailable")

    def extract_one(shards: ShardRange) -> None:
        TerminalJob().step(
            f"shard {shards.first}", extract, shards, retry_seconds=(3600,), stopped=engine.stopped
        )

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run_ranges(
            engine, ranges if interruption else InterruptedRanges(ranges, has_failed), extract_one
        )
    assert calls == ({0: 1, 1: 1} if interruption else {0: 1})
    assert "shard 0 failed (OSError: the share is unavailable)." in capfd.readouterr().err
