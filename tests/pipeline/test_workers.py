"""Extraction by worker processes writes the same stores as one process, even if some are killed."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import pytest
import torch
from distributed import Future, LocalCluster
from forked import fork_context

from enecg.errors import UserError
from enecg.leads import LeadsSample
from pipeline.extract import extract
from pipeline.extraction import dask_engine
from pipeline.extraction.dask_engine import DaskEngine
from pipeline.extraction.devices import worker_devices
from pipeline.extraction.engine import Engine, run_ranges
from pipeline.extraction.options import ExtractOptions
from pipeline.extraction.plan import ExtractionPlan, ShardRange
from pipeline.extraction.summary import ExtractionSummary
from pipeline.extraction.work import run_work
from stores.errors import StoreError
from stores.opening import open_stores

OPTIONS = ExtractOptions(weights=("random:0",), device="cpu", shard_rows=2, batch_size=1)


def run(dataset: Path, store: Path, **changes: Any) -> ExtractionSummary:
    options = replace(OPTIONS, **changes.pop("options", {}))
    return extract(f"mimic-iv-ecg:{dataset}", store, ["dlinear"], options=options, **changes)


def contents(root: Path) -> dict[str, bytes]:
    """Return the files of all stores, without leases and run records."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for store in open_stores(root).stores
        for path in sorted(Path(str(store.location)).rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def expected(synthetic_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> ExtractionSummary:
    return run(synthetic_dir, tmp_path_factory.mktemp("one") / "store")


def files_of(summary: ExtractionSummary) -> dict[str, bytes]:
    return contents(Path(str(summary.stores[0])).parents[3])


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    method = fork_context().get_start_method()
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": method}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address="127.0.0.1:0"
        ) as running,
    ):
        yield running


@pytest.fixture
def on_cluster(cluster: LocalCluster) -> dict[str, Any]:
    return {"options": {"scheduler": cluster.scheduler_address}}


def kill_worker(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_workers_write_the_same_stores_as_one_process(
    synthetic_dir: Path, tmp_path: Path, expected: ExtractionSummary
):
    calls: list[tuple[int, int]] = []
    # Occupy Dask's default port, like another extraction on this machine. A warning would fail the
    # test.
    with socket.socket() as other:
        with suppress(OSError):
            other.bind(("127.0.0.1", 8787))
            other.listen()
        summary = run(
            synthetic_dir,
            tmp_path,
            options={"workers": 2},
            progress=lambda done, total: calls.append((done, total)),
        )
    assert contents(tmp_path) == files_of(expected)
    assert (summary.computed, summary.failed, summary.workers) == (
        expected.computed,
        expected.failed,
        2,
    )
    assert {(failure.record_id, failure.reason) for failure in summary.failures} == {
        (failure.record_id, failure.reason) for failure in expected.failures
    }
    assert calls[-1][0] == calls[-1][1] > 0
    assert run(synthetic_dir, tmp_path).computed == 0


def test_cluster_writes_the_same_stores_as_one_process(
    synthetic_dir: Path, tmp_path: Path, expected: ExtractionSummary, on_cluster: dict[str, Any]
):
    summary = run(synthetic_dir, tmp_path, **on_cluster)
    assert contents(tmp_path) == files_of(expected)
    assert summary.computed == expected.computed
    (run_record, *_) = [location.read() for location in summary.run_records]
    assert b'"workers": 2' in (run_record or b"")


def test_run_record_names_the_device_of_the_workers(
    synthetic_dir: Path,
    tmp_path: Path,
    on_cluster: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
):
    has_gpu = torch.cuda.is_available()
    # Only this process detects the opposite.
    monkeypatch.setattr("torch.cuda.is_available", lambda: not has_gpu)
    on_cluster["options"] |= {"device": "auto", "limit": 4}
    for location in run(synthetic_dir, tmp_path, **on_cluster).run_records:
        record = json.loads(location.read() or b"")
        assert record["device"] == ("cuda" if has_gpu else "cpu")


def test_unavailable_device_of_a_worker_is_a_user_error(
    synthetic_dir: Path, tmp_path: Path, on_cluster: dict[str, Any]
):
    on_cluster["options"] |= {"device": "cuda:99"}
    with pytest.raises(UserError, match=r"^Device 'cuda:99' is not available on [^\n]+\.$"):
        run(synthetic_dir, tmp_path, **on_cluster)


def test_ranges_of_killed_workers_are_computed_by_others(
    synthetic_dir: Path, tmp_path: Path, expected: ExtractionSummary, on_cluster: dict[str, Any]
):
    def kill_during_next_range() -> None:
        """Make this worker, but not its replacement, kill itself in the middle of a range."""

        def extract_part(*arguments: Any) -> None:
            batches: list[int] = []

            def progress(done: int, total: int) -> None:
                batches.append(done)
                if len(batches) == 5:
                    os.kill(os.getpid(), signal.SIGKILL)

            run_work(*arguments[:-1], progress)

        dask_engine.run_work = extract_part

    def run_plan(plan: ExtractionPlan, summary: ExtractionSummary, engine: Engine) -> None:
        assert isinstance(engine, DaskEngine)
        before = set(engine.client.run(os.getpid).values())
        engine.client.run(kill_during_next_range)
        run_ranges(engine, plan.ranges(4), lambda shards: engine.extract(shards, summary))
        assert not before & set(engine.client.run(os.getpid).values())

    summary = run(synthetic_dir, tmp_path, run_plan=run_plan, **on_cluster)
    assert contents(tmp_path) == files_of(expected)
    # Rows that a killed worker wrote are counted too.
    assert (summary.computed, summary.failed, summary.failed_records, summary.already_complete) == (
        *(expected.computed, expected.failed, expected.failed_records),
        0,
    )
    assert summary.retries == 2
    assert "2 ranges of shards started again after an error or the loss" in "\n".join(
        summary.lines()
    )
    assert all(b'"range_retries": 2' in (file.read() or b"") for file in summary.run_records)


def test_error_states_the_number_of_lost_workers(
    synthetic_dir: Path,
    tmp_path: Path,
    cluster: LocalCluster,
    on_cluster: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
):
    def run_plan(plan: ExtractionPlan, summary: ExtractionSummary, engine: Engine) -> None:
        assert isinstance(engine, DaskEngine)
        monkeypatch.setattr(dask_engine, "_extract_on_worker", kill_worker)
        engine.extract(plan.ranges(1)[0], summary)

    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 1)
    with pytest.raises(UserError, match=r"^2 workers were lost"):
        run(synthetic_dir, tmp_path, run_plan=run_plan, **on_cluster)


def test_lost_workers_that_restart_slowly_are_not_dropped():
    # Shorter than any restart, like Dask's default of 15 s on a busy machine.
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "10ms"}),
        dask_engine._local_cluster(1) as client,
    ):
        (killed,) = client.run(os.getpid).values()
        os.kill(killed, signal.SIGKILL)
        restarted: Future = client.submit(os.getpid)
        assert restarted.result(timeout=60) != killed
        assert list(client.cluster.workers) == [0]


def test_interruption_keeps_the_rows_and_a_second_run_computes_the_others(
    synthetic_dir: Path, tmp_path: Path, expected: ExtractionSummary, on_cluster: dict[str, Any]
):
    def run_plan(plan: ExtractionPlan, summary: ExtractionSummary, engine: Engine) -> None:
        first, *others = plan.ranges(8)
        engine.extract(first, summary)

        def interrupt(shards: ShardRange) -> None:
            raise KeyboardInterrupt

        run_ranges(engine, others, interrupt)

    with pytest.raises(KeyboardInterrupt):
        run(synthetic_dir, tmp_path, run_plan=run_plan, **on_cluster)
    rest = run(synthetic_dir, tmp_path, **on_cluster)
    assert 0 < rest.computed < expected.computed
    assert contents(tmp_path) == files_of(expected)


def test_stopped_workers_write_their_rows_and_start_no_queued_range(
    synthetic_dir: Path, tmp_path: Path, expected: ExtractionSummary, on_cluster: dict[str, Any]
):
    started: set[int] = set()
    ranges = 8

    def run_plan(plan: ExtractionPlan, summary: ExtractionSummary, engine: Engine) -> None:
        def extract_one(shards: ShardRange) -> None:
            def stop(done: int, total: int) -> None:
                started.add(shards.first)
                engine.stop()

            engine.extract(shards, summary, stop)

        # More ranges than workers, so that some are queued when the first reports progress.
        try:
            run_ranges(engine, plan.ranges(ranges), extract_one)
        finally:
            # The event also ends waits for a retry.
            assert engine.stopped.is_set()

    with pytest.raises(UserError, match=r"were canceled .* \(extraction-stopped\); run the same"):
        run(synthetic_dir, tmp_path, run_plan=run_plan, **on_cluster)
    assert 1 <= len(started) < ranges
    missing = run(synthetic_dir, tmp_path, **on_cluster).computed
    assert 0 < missing < expected.computed


def test_stop_does_not_cancel_a_range_that_started_while_it_was_submitted(
    synthetic_dir: Path, tmp_path: Path, on_cluster: dict[str, Any]
):
    def run_plan(plan: ExtractionPlan, summary: ExtractionSummary, engine: Engine) -> None:
        assert isinstance(engine, DaskEngine)
        submit = engine.client.submit
        (shards,) = plan.ranges(1)

        def submit_slowly(*args: Any, **kwargs: Any) -> Future:
            future = submit(*args, **kwargs)
            while not engine._starts[shards.first]:
                time.sleep(0.01)
            return future

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine.client, "submit", submit_slowly)
            engine.extract(shards, summary, lambda done, total: engine.stop())

    summary = run(synthetic_dir, tmp_path, run_plan=run_plan, **on_cluster)
    assert summary.computed > 0


def test_range_canceled_by_another_client_is_a_user_error(
    synthetic_dir: Path, tmp_path: Path, on_cluster: dict[str, Any]
):
    def run_plan(plan: ExtractionPlan, summary: ExtractionSummary, engine: Engine) -> None:
        assert isinstance(engine, DaskEngine)
        client = engine.client

        def cancel() -> None:
            while not client.futures:
                time.sleep(0.01)
            futures = [Future(key, client) for key in client.futures]
            client.cancel(futures, reason="scheduler-restart")

        canceling = threading.Thread(target=cancel)
        canceling.start()
        try:
            engine.extract(plan.ranges(1)[0], summary)
        finally:
            canceling.join()

    with pytest.raises(UserError, match=r"were canceled by the Dask scheduler \(scheduler-restart"):
        run(synthetic_dir, tmp_path, run_plan=run_plan, **on_cluster)


def test_worker_that_has_lost_the_lease_stops(
    synthetic_dir: Path, tmp_path: Path, on_cluster: dict[str, Any]
):
    def run_plan(plan: ExtractionPlan, summary: ExtractionSummary, engine: Engine) -> None:
        for planned in plan.stores:
            assert planned.lease is not None
            staging = planned.lease.ticket.staging
            staging.root.remove_staging(staging.key)
        for shards in plan.ranges(1):
            engine.extract(shards, summary)

    with pytest.raises(
        StoreError, match="the lease was lost, because its staging folder was removed"
    ):
        run(synthetic_dir, tmp_path, run_plan=run_plan, **on_cluster)


def test_expert_objects_and_invalid_schedulers_or_workers_are_user_errors(
    synthetic_dir: Path, tmp_path: Path, on_cluster: dict[str, Any]
):
    dataset = f"mimic-iv-ecg:{synthetic_dir}"
    options = replace(OPTIONS, **on_cluster["options"])
    with pytest.raises(UserError, match="the experts by name"):
        extract(dataset, tmp_path, [LeadsSample()], options=options)
    with pytest.raises(UserError, match="is not an address of a Dask scheduler"):
        run(synthetic_dir, tmp_path, options={"scheduler": "threads"})
    with pytest.raises(UserError, match="omit --scheduler or the other options"):
        replace(options, workers=2)
    with pytest.raises(UserError, match="workers is 0; it should be greater than or equal to 1"):
        replace(OPTIONS, workers=0)


@pytest.mark.parametrize(
    ("options", "gpus", "devices"),
    [
        ({}, 0, ["auto"]),
        ({"workers": 3}, 0, ["auto"] * 3),
        ({}, 1, ["auto"]),
        ({}, 2, ["cuda:0", "cuda:1"]),
        ({"workers": 1}, 2, ["cuda:0"]),
        ({"workers": 3}, 2, ["cuda:0", "cuda:1", "cuda:0"]),
        ({"device": "cpu"}, 2, ["cpu"]),
        ({"scheduler": "tcp://127.0.0.1:8786"}, 2, ["auto"]),
        ({"devices": ("cuda:1", "cuda:3")}, 4, ["cuda:1", "cuda:3"]),
    ],
)
def test_workers_are_distributed_over_the_devices(
    options: dict[str, Any], gpus: int, devices: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    assert [*worker_devices(ExtractOptions(**options))] == devices
