import errno
import gzip
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pandas as pd
import pytest
import torch
import zarr
from forked import fork_context

from enecg.errors import UserError
from enecg.experts import Expert, ExpertSpec, Preprocessing
from enecg.leads import LeadsSample
from pipeline.datasets.base import LABEL_COLUMNS, RecordIndex
from pipeline.datasets.selection import read_record_ids
from pipeline.extract import extract
from pipeline.extraction.estimate import estimate_extraction, format_estimates
from pipeline.extraction.options import ExtractOptions
from pipeline.extraction.plan import ExtractionPlan, plan_extraction
from pipeline.extraction.ranges import Progress, extract_range
from pipeline.extraction.request import ExtractionRequest, resolve_request
from pipeline.extraction.run_record import write_run_records
from pipeline.extraction.summary import ExtractionSummary
from pipeline.waveforms.errors import UnreadableRecord
from stores.embeddings import EmbeddingStore
from stores.errors import StoreError
from stores.layout import leases_folder, runs_folder
from stores.lease import Lease, acquire
from stores.lease_record import LeaseRecord
from stores.location import Location
from stores.opening import open_store, open_stores
from stores.runs import read_runs, write_run
from stores.status import FIRST_REASON, WHOLE

RANDOM = ("random:0",)


class MeanExpert:
    """An expert that embeds each lead as its mean, and counts the embedded ECGs."""

    def __init__(self, name: str = "mean", overflow_at: float | None = None) -> None:
        self.spec = ExpertSpec(name, 1, {}, Preprocessing(), "mean", 12, "none", "")
        self.embedded = 0
        self.overflow_at = overflow_at

    def embed(self, ecg: torch.Tensor) -> torch.Tensor:
        self.embedded += len(ecg)
        mean = ecg.mean(-1)
        if self.overflow_at is not None:
            mean[ecg[:, 0, 0] == self.overflow_at] = 1e6
        return mean


class ConstantDataset:
    """A data set in which every sample of a record equals the record id."""

    namespace = "constant/1"

    def __init__(self, ids: list[int] | range, unreadable: tuple[int, ...] = ()) -> None:
        self.ids = list(ids)
        self.unreadable = unreadable

    def index(self) -> RecordIndex:
        ids = np.array(self.ids, dtype=np.int64)
        return RecordIndex(ids, ids)

    def read(self, row: int) -> np.ndarray:
        record = self.ids[row]
        if record in self.unreadable:
            raise UnreadableRecord("cut_file", f"{record}.dat is cut; copy it again.")
        return np.full((12, 5000), record, np.float32)

    def read_leads(self, row: int) -> Any:
        raise AssertionError("an extraction must not read unchecked leads")

    def labels(self) -> Any:
        raise AssertionError("an extraction must not read labels")


def plan(dataset: Any, store: Any, *experts: Expert, **options: Any) -> ExtractionPlan:
    defaults = {"device": "cpu", "shard_rows": 8, "batch_size": 5}
    request = resolve_request(dataset, store, experts, ExtractOptions(**defaults | options))
    return plan_extraction(request)


def run(planned: ExtractionPlan, progress: Progress | None = None) -> ExtractionSummary:
    """Run all ranges of a plan and release its leases."""
    summary = ExtractionSummary.of(planned)
    with planned:
        for shards in planned.ranges(3):
            extract_range(planned, shards, summary, progress)
    return summary


def resolve(dataset: Any, store: Path, *experts: str | Expert, **options: Any) -> ExtractionRequest:
    return resolve_request(dataset, store, experts, ExtractOptions(**{"device": "cpu"} | options))


def store_of(planned: ExtractionPlan, name: str = "mean") -> EmbeddingStore:
    (location,) = [store.store.location for store in planned.stores if store.name == name]
    return open_store(location)


def test_each_record_gets_its_own_embedding(tmp_path: Path):
    planned = plan(ConstantDataset(range(100, 130)), tmp_path, MeanExpert())
    summary = run(planned)
    assert (summary.computed, summary.failed.total()) == (60, 0)  # the expert and the gate's leads
    store = store_of(planned)
    expected = np.repeat(store.record_id[:, None], 12, 1).astype(np.float16)
    np.testing.assert_array_equal(store.read(np.arange(30)), expected)


def test_extract_accepts_a_dataset_and_an_expert_object(tmp_path: Path):
    steps = []
    summary = extract(
        ConstantDataset(range(20), unreadable=(3,)),
        tmp_path,
        [MeanExpert()],
        options=ExtractOptions(device="cpu", shard_rows=8, batch_size=5),
        progress=lambda done, total: steps.append((done, total)),
    )
    assert (summary.computed, summary.failed.total()) == (38, 2)
    assert steps[-1] == (20, 20)
    for location in summary.stores:
        store = open_store(location)
        assert int((store.status() == WHOLE).sum()) == 19
        assert [record["finished"] for record in read_runs(store)] == [True]
    assert [location.parent.name for location in summary.stores] == ["mean", "leads"]
    assert f"Store of mean: {summary.stores[0]}" in summary.lines()


def test_interrupted_extraction_keeps_its_rows_and_writes_a_run_record(tmp_path: Path):
    class Interrupted(MeanExpert):
        def embed(self, ecg: torch.Tensor) -> torch.Tensor:
            if self.embedded == 10:
                raise KeyboardInterrupt
            return super().embed(ecg)

    dataset, options = ConstantDataset(range(20)), ExtractOptions(device="cpu", batch_size=5)
    with pytest.raises(KeyboardInterrupt):
        extract(dataset, tmp_path, [Interrupted()], options=options)
    resumed = MeanExpert()
    summary = extract(dataset, tmp_path, [resumed], options=options)
    assert resumed.embedded == 10
    store = open_store(summary.stores[0])
    # Run records of the same second are in random order.
    assert sorted(record["finished"] for record in read_runs(store)) == [False, True]


def test_rerunning_a_finished_extraction_computes_nothing(tmp_path: Path):
    dataset = ConstantDataset(range(20), unreadable=(3,))
    run(plan(dataset, tmp_path, MeanExpert()))
    expert = MeanExpert()
    again = plan(dataset, tmp_path, expert)
    summary = run(again)
    assert (again.total_rows, again.ranges(5), expert.embedded) == (0, (), 0)
    assert (summary.computed, summary.already_complete, summary.failed.total()) == (0, 38, 0)
    assert summary.previously_failed == 2
    assert write_run_records(again, summary) == ()
    assert "2 failed in earlier runs (--retry-failed" in summary.lines()[0]


def test_only_missing_rows_of_an_expert_are_computed(tmp_path: Path):
    run(plan(ConstantDataset(range(20)), tmp_path, MeanExpert()))
    first, second = MeanExpert(), MeanExpert("other")
    summary = run(plan(ConstantDataset(range(25)), tmp_path, first, second))
    assert (first.embedded, second.embedded) == (5, 25)
    assert (summary.computed, summary.already_complete) == (5 + 25 + 5, 40)


def test_limit_selects_the_first_records_and_does_not_change_the_identity(tmp_path: Path):
    few = plan(ConstantDataset(range(20)), tmp_path, MeanExpert(), limit=6)
    assert run(few).computed == 12
    assert np.flatnonzero(store_of(few).status()).tolist() == [0, 1, 2, 3, 4, 5]
    more = plan(ConstantDataset(range(20)), tmp_path, MeanExpert())
    assert [s.store.location for s in more.stores] == [s.store.location for s in few.stores]
    assert run(more).computed == 28


def test_unreadable_record_is_counted_and_named_and_the_others_are_extracted(tmp_path: Path):
    planned = plan(ConstantDataset(range(20), unreadable=(3, 17)), tmp_path, MeanExpert())
    summary = run(planned)
    store = store_of(planned)
    assert (summary.computed, summary.failed.total()) == (36, 4)
    assert [store.flags[code] for code in store.status()[[3, 17]]] == ["cut_file"] * 2
    assert (np.delete(store.status(), [3, 17]) == WHOLE).all()
    text = "\n".join(summary.lines())
    assert "2 records failed: 2 cut_file." in text
    assert "17: cut_file. 17.dat is cut; copy it again." in text
    write_run_records(planned, summary)
    failures = read_runs(store)[-1]["failures"]
    assert {f["record_id"]: f["reason"] for f in failures} == {3: "cut_file", 17: "cut_file"}


def test_failed_records_are_retried_only_on_request(tmp_path: Path):
    run(plan(ConstantDataset(range(20), unreadable=(3,)), tmp_path, MeanExpert()))
    with plan(ConstantDataset(range(20)), tmp_path, MeanExpert()) as planned:
        assert planned.total_rows == 0
    retried = plan(ConstantDataset(range(20)), tmp_path, MeanExpert(), retry_failed=True)
    assert run(retried).computed == 2
    assert (store_of(retried).status() == WHOLE).all()


def test_non_finite_embedding_fails_only_its_record(tmp_path: Path):
    planned = plan(ConstantDataset(range(20)), tmp_path, MeanExpert(overflow_at=7.0))
    summary = run(planned)
    assert [failure.record_id for failure in summary.failures] == [7]
    assert "not finite in float16" in summary.failures[0].detail
    assert store_of(planned).flags[store_of(planned).status()[7]] == "not_finite"
    assert (store_of(planned, "leads").status() == WHOLE).all()


class NanExpert(MeanExpert):
    """An expert whose embeddings are NaN."""

    def embed(self, ecg: torch.Tensor) -> torch.Tensor:
        return super().embed(ecg) * float("nan")


def test_detail_of_nan_embeddings_does_not_suggest_another_dtype(tmp_path: Path):
    summary = run(plan(ConstantDataset(range(3)), tmp_path, NanExpert()))
    assert {failure.detail for failure in summary.failures} == {
        "mean computed NaN or infinity; check its weights and this ECG."
    }


@pytest.mark.parametrize(
    ("expert", "unreadable", "expected"),
    [
        (NanExpert(), (), "embedding of mean: 6 not_finite. First failure, record 0: mean comp"),
        (MeanExpert(), range(6), "of mean, leads: 6 cut_file. First failure, record 0: 0.dat is"),
        (NanExpert(), (0, 1), "embedding of mean: 4 not_finite, 2 cut_file. First failure"),
        (MeanExpert(), (0, 1, 2, 3, 4), None),
        (MeanExpert(overflow_at=3.0), (), None),
    ],
)
def test_error_names_experts_whose_records_all_failed(
    expert: Expert, unreadable: Sequence[int], expected: str | None, tmp_path: Path
):
    def extract_again(**options: Any) -> str | None:
        return extract(
            ConstantDataset(range(6), unreadable=tuple(unreadable)),
            tmp_path,
            [expert],
            options=ExtractOptions(device="cpu", **options),
        ).error

    error = extract_again()
    assert (error is None) == (expected is None)
    if expected is not None:
        assert error is not None
        assert expected in error
        # A rerun computes nothing, and the stores still contain no embeddings.
        again = extract_again()
        assert again is not None
        assert "failed in an earlier run; retry them with --retry-failed" in again


def test_status_without_a_reason_is_counted_by_its_number(tmp_path: Path):
    options = ExtractOptions(device="cpu")
    extract(ConstantDataset(range(2)), tmp_path, [MeanExpert()], options=options)
    for store in open_stores(tmp_path).stores:
        zarr.open_array(store.location.path / "status", mode="r+")[:2] = 77
    error = extract(ConstantDataset(range(2)), tmp_path, [MeanExpert()], options=options).error
    assert error is not None
    assert "2 status_77" in error


def test_shard_that_does_not_consist_of_whole_chunks_is_rejected(tmp_path: Path):
    options = ExtractOptions(device="cpu", shard_rows=700)
    with pytest.raises(StoreError, match="from 1 to 512, or a multiple of 512"):
        extract(ConstantDataset(range(2)), tmp_path, [MeanExpert()], options=options)


def test_one_new_unreadable_record_is_not_an_error(tmp_path: Path):
    options = ExtractOptions(device="cpu")
    extract(ConstantDataset(range(6)), tmp_path, [MeanExpert()], options=options)
    more = ConstantDataset(range(7), unreadable=(6,))
    summary = extract(more, tmp_path, [MeanExpert()], options=options)
    assert (summary.computed, summary.failed.total()) == (0, 2)
    assert summary.error is None


def test_records_of_a_new_release_are_appended(tmp_path: Path):
    run(plan(ConstantDataset(range(10)), tmp_path, MeanExpert()))
    expert = MeanExpert()
    planned = plan(ConstantDataset([50, *range(10), 60]), tmp_path, expert)
    run(planned)
    store = store_of(planned)
    assert expert.embedded == 2
    assert store.record_id.tolist() == [*range(10), 50, 60]
    np.testing.assert_array_equal(store.read(np.array([10, 11, 4]))[:, 0], [50, 60, 4])


def test_store_of_an_expert_added_later_has_the_same_rows(tmp_path: Path):
    run(plan(ConstantDataset(range(10)), tmp_path, MeanExpert()))
    grown = ConstantDataset([50, *range(10), 60])
    run(plan(grown, tmp_path, MeanExpert("late")))
    planned = plan(grown, tmp_path, MeanExpert(), MeanExpert("late"))
    run(planned)
    for name in ("mean", "late", "leads"):
        assert store_of(planned, name).record_id.tolist() == [*range(10), 50, 60]
        assert (store_of(planned, name).status() == WHOLE).all()


def test_retried_range_resumes_where_it_failed(tmp_path: Path):
    class FailsOnce(MeanExpert):
        def embed(self, ecg: torch.Tensor) -> torch.Tensor:
            if self.embedded == 11:
                self.embedded += 1
                raise OSError("the share was unreachable")
            return super().embed(ecg)

    expert = FailsOnce()
    dataset = ConstantDataset(range(24), unreadable=(3,))
    planned = plan(dataset, tmp_path, expert, batch_size=4)
    (all_shards,) = planned.ranges(1)
    summary, steps = ExtractionSummary(), list[int]()

    def progress(done: int, total: int) -> None:
        assert total == 24
        steps.append(done)

    with pytest.raises(OSError, match="unreachable"):
        extract_range(planned, all_shards, summary, progress)
    assert (summary.computed, summary.failed.total()) == (22, 2)
    extract_range(planned, all_shards, summary, progress)
    planned.close()
    assert (summary.computed, summary.already_complete) == (46, 0)
    # The unreadable record was not read again.
    assert (summary.failed.total(), summary.failed_records.total()) == (2, 1)
    assert len(summary.failures) == 1
    assert expert.embedded - 1 == 23  # each record once
    assert steps == [4, 8, 12, 16, 20, 24]
    assert (np.delete(store_of(planned).status(), 3) == WHOLE).all()


def test_rows_are_counted_after_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    planned = plan(ConstantDataset(range(8), unreadable=(3,)), tmp_path, MeanExpert())
    (all_shards,) = planned.ranges(1)
    put_status, summary = EmbeddingStore.put_status, ExtractionSummary()

    def fail_for_leads(store: EmbeddingStore, shard: int, status: np.ndarray) -> None:
        if store.provenance["expert"] == "leads":
            raise ValueError("broken")
        put_status(store, shard, status)

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingStore, "put_status", fail_for_leads)
        with pytest.raises(ValueError, match="broken"):
            extract_range(planned, all_shards, summary)
    assert (summary.computed, summary.failed) == (7, {("mean", "cut_file"): 1})
    extract_range(planned, all_shards, summary)
    planned.close()
    assert (summary.computed, summary.already_complete) == (14, 0)
    assert summary.failed == {("mean", "cut_file"): 1, ("leads", "cut_file"): 1}
    assert (summary.failed_records, len(summary.failures)) == ({"cut_file": 1}, 1)


def test_partially_filled_shard_is_put_into_s3_once(s3_root: str, monkeypatch: pytest.MonkeyPatch):
    run(plan(ConstantDataset(range(8)), s3_root, MeanExpert(), limit=3))
    put, keys = obstore.put, list[str]()

    def recording_put(client: Any, key: str, *arguments: Any, **options: Any) -> Any:
        keys.append(key.rpartition("/leads/")[2].rpartition("/mean/")[2])
        return put(client, key, *arguments, **options)

    monkeypatch.setattr(obstore, "put", recording_put)
    run(plan(ConstantDataset(range(8)), s3_root, MeanExpert(), batch_size=8))
    assert sum("/embedding/c/" in key for key in keys) == 2
    assert sum("/status/c/" in key for key in keys) == 2


def test_partially_filled_shard_is_flushed_after_flush_seconds(tmp_path: Path):
    dataset = ConstantDataset(range(8))
    planned = plan(dataset, tmp_path, MeanExpert(), batch_size=2, flush_seconds=0.0)
    stored = []

    def progress(done: int, total: int) -> None:
        stored.append(int((store_of(planned).status() == WHOLE).sum()))

    run(planned, progress)
    assert stored == [0, 2, 4, 6]


def test_embeddings_are_equal_up_to_rounding_for_every_batch_size(
    tmp_path: Path, synthetic_dir: Path
):
    embedded = {}
    for size in (1, 3, 64):
        summary = extract(
            f"mimic-iv-ecg:{synthetic_dir}",
            tmp_path / str(size),
            ["dlinear", "timesnet"],
            options=ExtractOptions(weights=RANDOM, limit=5, batch_size=size),
        )
        stores = [open_store(location) for location in summary.stores]
        embedded[size] = [store.to_dask()[:5].compute() for store in stores]
    for size in (3, 64):
        for first, second in zip(embedded[1], embedded[size], strict=True):
            np.testing.assert_allclose(first, second, rtol=2**-10, atol=1e-4)


def test_every_spoiled_record_fails_with_its_reason(tmp_path: Path, synthetic_dir: Path):
    summary = extract(
        f"mimic-iv-ecg:{synthetic_dir}",
        tmp_path,
        ["dlinear"],
        options=ExtractOptions(weights=RANDOM),
    )
    spoiled = json.loads((synthetic_dir / "synthetic.json").read_text())["spoiled"]
    found: dict[str, set[int]] = {}
    for failure in summary.failures:
        found.setdefault(failure.reason, set()).add(failure.record_id)
    expected = {reason: set(ids) for reason, ids in spoiled.items() if reason != "unknown_rr"}
    assert found == expected
    assert len(expected) == 4


def test_weights_of_an_expert_that_is_not_requested_are_rejected(tmp_path: Path):
    weights = ("random:0", "moment@random:1")
    with pytest.raises(UserError, match="refers to expert 'moment', which is not one of dlinear"):
        resolve(ConstantDataset(range(3)), tmp_path, "dlinear", weights=weights)


def test_unavailable_device_is_rejected(tmp_path: Path):
    with pytest.raises(UserError, match="Device 'cuda:99' is not available on "):
        resolve(ConstantDataset(range(3)), tmp_path, "dlinear", weights=RANDOM, device="cuda:99")


class SlowExpert(MeanExpert):
    def embed(self, ecg: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)
        return super().embed(ecg)


def extract_slowly(store: Path, done: Connection) -> None:
    """Extract slowly; send the number of processed records after each batch."""
    dataset = ConstantDataset(range(100, 164), unreadable=(110,))
    planned = plan(dataset, store, SlowExpert(), batch_size=2, flush_seconds=0.05)
    run(planned, progress=lambda count, total: done.send(count))


def test_killed_extraction_loses_no_written_row_and_resumes(tmp_path: Path):
    dataset = ConstantDataset(range(100, 164), unreadable=(110,))
    complete = plan(dataset, tmp_path / "complete", MeanExpert())
    run(complete)
    context = fork_context()
    written = 0
    for batches in (3, 11):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=extract_slowly, args=(tmp_path / "killed", sender))
        process.start()
        sender.close()
        for _ in range(batches):
            receiver.recv()
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        receiver.close()
        with plan(ConstantDataset(range(100, 164)), tmp_path / "killed", MeanExpert()) as again:
            killed = store_of(again)
        rows = np.flatnonzero(killed.status() == WHOLE)
        assert len(rows) >= written
        written = len(rows)
        np.testing.assert_array_equal(killed.read(rows), store_of(complete).read(rows))
    assert 0 < written < 63
    expert = MeanExpert()
    planned = plan(dataset, tmp_path / "killed", expert)
    run(planned)
    assert expert.embedded == 63 - written
    np.testing.assert_array_equal(store_of(planned).to_dask(), store_of(complete).to_dask())
    np.testing.assert_array_equal(store_of(planned).status(), store_of(complete).status())


def test_only_the_records_of_a_file_are_extracted(tmp_path: Path):
    records = tmp_path / "cohort.csv"
    records.write_text("record_id,split\n107,test\n103,train\n")
    dataset = ConstantDataset(range(100, 120))
    planned = plan(dataset, tmp_path / "store", MeanExpert(), records=records)
    assert run(planned).computed == 4
    store = store_of(planned)
    assert store.record_id[store.status() == WHOLE].tolist() == [103, 107]


@pytest.mark.parametrize(
    "text",
    [
        "# cohort of May\n103\n101\n",
        "\n103\n101\n",
        "\ufeff103\n101\n",
        '"103"\n"101"\n',
        "103 # twice\n103\n 101\n",
        "103,test\n101,train\n",
        "\ufeffsplit,record_id\ntest,103\ntrain,101\n",
    ],
)
def test_every_record_of_a_file_is_read(tmp_path: Path, text: str):
    records = tmp_path / "cohort.csv"
    records.write_text(text)
    assert sorted(set(read_record_ids(records).tolist())) == [101, 103]


def test_records_are_read_from_a_parquet_table(tmp_path: Path):
    pd.DataFrame({"split": ["a", "b"], "record_id": [103, 101]}).to_parquet(tmp_path / "c.parquet")
    assert read_record_ids(tmp_path / "c.parquet").tolist() == [103, 101]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("100\n999\n", "lists 1 records that are not in the data set, such as 999"),
        ("record_id\nabc\n", "does not contain valid record ids"),
        ("", "does not contain valid record ids"),
        ("record_id\n", "does not contain valid record ids"),
        ("record_id\n101.7\n", "'101.7' is not an exact integer"),
        ("record_id,split\n101,test\n,test\n", "'' is not an exact integer"),
    ],
)
def test_invalid_file_of_records_is_rejected(tmp_path: Path, text: str, message: str):
    records = tmp_path / "cohort.txt"
    records.write_text(text)
    with pytest.raises(UserError, match=message):
        resolve(ConstantDataset(range(100, 120)), tmp_path, MeanExpert(), records=records)


@pytest.mark.parametrize("name", ["ids.csv.gz", "ids.txt.gz"])
@pytest.mark.parametrize("damage", ["truncated", "changed", "not compressed"])
@pytest.mark.parametrize("text", [False, True])
def test_damaged_gzip_file_of_records_is_rejected(
    tmp_path: Path, name: str, damage: str, text: bool
):
    compressed = bytearray(gzip.compress(b"".join(b"%d\n" % n for n in range(1000))))
    if damage == "changed":
        compressed[20:60] = bytes(40)
    content = {"truncated": compressed[:-100], "changed": compressed, "not compressed": b"1\n2\n"}
    (tmp_path / name).write_bytes(content[damage])
    with pytest.raises(UserError, match=f"{name} does not contain .*incomplete or damaged"):
        read_record_ids(tmp_path / name, text=text)


@pytest.mark.parametrize("workers", [None, 1])
def test_single_worker_uses_the_first_of_the_devices(tmp_path: Path, workers: int | None):
    options = {"devices": ("meta",), "device": "auto", "workers": workers}
    assert resolve(ConstantDataset(range(2)), tmp_path, MeanExpert(), **options).device == "meta"


def test_devices_of_a_scheduler_are_those_of_its_workers(tmp_path: Path):
    options = {"device": "cuda:99", "scheduler": "tcp://127.0.0.1:8786"}
    assert resolve(ConstantDataset(range(2)), tmp_path, MeanExpert(), **options).device == "cuda:99"


@pytest.mark.parametrize(
    ("devices", "measured"),
    [
        ({"cuda:0"}, "cuda"),
        ({"cuda:1", "cuda:0", "cuda"}, "cuda"),
        ({"cpu"}, "cpu"),
        ({"cpu", "cuda:0"}, None),
    ],
)
def test_estimate_uses_the_rate_of_workers_on_the_same_type_of_device(
    tmp_path: Path, devices: set[str], measured: str | None
):
    dataset = ConstantDataset(range(20))
    planned = plan(dataset, tmp_path, MeanExpert(), limit=15)
    summary = run(planned)
    summary.devices = devices
    write_run_records(planned, summary)
    for device in ("cpu", "cuda"):
        options = {"device": device, "scheduler": "tcp://127.0.0.1:8786"}
        rate = estimate_extraction(resolve(dataset, tmp_path, MeanExpert(), **options))[0]
        assert (rate.records_per_second is not None) == (device == measured)


def test_estimate_has_rows_bytes_and_measured_hours_and_creates_nothing(tmp_path: Path):
    dataset = ConstantDataset(range(20))
    request = resolve(dataset, tmp_path, MeanExpert())
    before = estimate_extraction(request)
    assert [(store.missing, store.bytes) for store in before] == [
        (20, 1024 * 12 * 2),
        (20, 1024 * 1500 * 2),
    ]
    assert before[0].hours is None
    assert list(tmp_path.iterdir()) == []
    planned = plan(dataset, tmp_path, MeanExpert(), limit=15)
    write_run_records(planned, run(planned))
    after = estimate_extraction(request)
    assert [(store.complete, store.missing) for store in after] == [(15, 5), (15, 5)]
    assert after[0].bytes == 8 * 12 * 2  # two of three shards of eight rows exist
    rate = after[0].records_per_second
    assert rate is not None
    assert after[0].hours == pytest.approx(5 / rate / 3600)


def test_estimate_reads_only_the_newest_run_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    planned = plan(ConstantDataset(range(20)), tmp_path, MeanExpert(), limit=15)
    write_run_records(planned, run(planned))
    store = store_of(planned)
    for seconds in (3.0, 5.0):
        write_run(store, {"device": "cpu", "embedded": 10, "embedding_seconds": seconds})
    names = sorted(file.name for file in runs_folder(store.location).files())
    true_read, reads = Location.read, list[str]()

    def recording_read(location: Location) -> bytes | None:
        if "/runs/mean/" in str(location):
            reads.append(location.name)
        return true_read(location)

    monkeypatch.setattr(Location, "read", recording_read)
    estimate_extraction(resolve(ConstantDataset(range(20)), tmp_path, MeanExpert()))
    assert reads == names[-1:]


@pytest.fixture
def _frequent_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renew leases often, so that other processes soon detect that they are in use."""
    monkeypatch.setitem(acquire.__kwdefaults__, "heartbeat_seconds", 0.1)


@pytest.mark.usefixtures("_frequent_heartbeats")
def test_extraction_into_a_store_with_a_writer_is_rejected(tmp_path: Path):
    with (
        plan(ConstantDataset(range(20)), tmp_path, MeanExpert()),
        pytest.raises(StoreError, match=r"mean/\w+ is being written by .*, since 2"),
    ):
        plan(ConstantDataset(range(20)), tmp_path, MeanExpert())


@pytest.mark.usefixtures("_frequent_heartbeats")
def test_expert_is_extracted_while_another_extraction_writes_the_leads(tmp_path: Path):
    with plan(ConstantDataset(range(20)), tmp_path, MeanExpert()):
        planned = plan(ConstantDataset(range(20)), tmp_path, MeanExpert("other"))
        assert [store.name for store in planned.stores] == ["other"]
        summary = run(planned)
    assert summary.computed == 20
    assert summary.leads_busy is not None
    assert summary.leads_busy in summary.lines()[-1]


def test_expert_named_twice_is_extracted_once(tmp_path: Path):
    twice = resolve(ConstantDataset(range(3)), tmp_path, "dlinear", "dlinear", weights=RANDOM)
    assert [target.expert.spec.name for target in twice.targets] == ["dlinear", "leads"]
    with plan(ConstantDataset(range(20)), tmp_path, MeanExpert(), MeanExpert()) as planned:
        assert [store.name for store in planned.stores] == ["mean", "leads"]


def test_leads_come_last_even_if_they_are_requested_first(tmp_path: Path):
    request = resolve(ConstantDataset(range(3)), tmp_path, LeadsSample(), MeanExpert())
    assert [target.expert.spec.name for target in request.targets] == ["mean", "leads"]


def lease_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "lease"]


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt even if the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize("experts", [("mean",), ("first", "mean")])
def test_ctrl_c_ends_the_wait_for_another_extraction(tmp_path: Path, experts: tuple[str, ...]):
    dataset = ConstantDataset(range(20))
    # The wait exceeds the timeout of the test.
    options = ExtractOptions(device="cpu", shard_rows=8, wait_minutes=60)
    request = resolve_request(dataset, tmp_path, [*map(MeanExpert, experts)], options)
    messages = list[str]()

    def interrupt(message: str) -> None:
        messages.append(message)
        if len(messages) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with plan(dataset, tmp_path, MeanExpert()):
        before = lease_threads()
        with pytest.raises(KeyboardInterrupt):
            plan_extraction(request, interrupt)
        assert messages
        assert lease_threads() == before


def test_all_leases_are_observed_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    waits = []
    # The barrier breaks if a lease is observed only after another has been acquired.
    all_started = threading.Barrier(3)

    def recording_acquire(folder: Location, *, wait_seconds: float, **options: Any) -> Lease:
        waits.append(wait_seconds)
        all_started.wait(timeout=30)
        return acquire(folder, wait_seconds=wait_seconds, **options)

    monkeypatch.setattr("pipeline.extraction.leases.acquire", recording_acquire)
    with plan(ConstantDataset(range(20)), tmp_path, *map(MeanExpert, "ab"), wait_minutes=60):
        pass
    assert waits == [3600.0] * 3


def test_first_lease_in_sorted_order_is_acquired_before_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    request = resolve(ConstantDataset(range(20)), tmp_path, MeanExpert(), MeanExpert("other"))
    first = min(leases_folder(target.location).key for target in request.targets[:-1])
    created: list[str] = []

    def slow_acquire(folder: Location, **options: Any) -> Lease:
        if folder.key == first:
            time.sleep(0.3)
        lease = acquire(folder, **options)
        created.append(folder.key)
        return lease

    monkeypatch.setattr("pipeline.extraction.leases.acquire", slow_acquire)
    with plan_extraction(request):
        assert created[0] == first
        assert len(created) == 3


def test_all_leases_are_released_when_one_cannot_be_acquired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = lease_threads()

    def failing_acquire(folder: Location, **options: Any) -> Lease:
        if "/leads/" in str(folder):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return acquire(folder, **options)

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.extraction.leases.acquire", failing_acquire)
        with pytest.raises(OSError, match="Too many open files"):
            plan(ConstantDataset(range(20)), tmp_path, MeanExpert())
    assert lease_threads() == before
    with plan(ConstantDataset(range(20)), tmp_path, MeanExpert()):
        pass


def test_estimate_reports_a_writer_that_has_ended(tmp_path: Path):
    request = resolve(ConstantDataset(range(20)), tmp_path, MeanExpert())
    folder = leases_folder(request.targets[0].location)
    ended = replace(LeaseRecord.for_this_process(45.0), process=2**22 + 1)
    folder.root.write(f"{folder.key}/00000009.json", ended.json())
    assert format_estimates(estimate_extraction(request))[0].endswith("no longer running)")


def test_all_failures_are_counted_and_the_first_ones_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pipeline.extraction.summary.MAX_FAILURES", 5)
    dataset = ConstantDataset(range(40), unreadable=tuple(range(30)))
    planned = plan(dataset, tmp_path, MeanExpert())
    summary = run(planned)
    assert (summary.failed.total(), summary.failed_records["cut_file"]) == (60, 30)
    assert len(summary.failures) == 5
    write_run_records(planned, summary)
    (record,) = read_runs(store_of(planned))
    assert (record["rows_failed"], record["failed_by_reason"]) == (30, {"cut_file": 30})
    assert int((store_of(planned).status() >= FIRST_REASON).sum()) == 30


def test_no_label_enters_the_stores(tmp_path: Path, synthetic_dir: Path):
    summary = extract(
        f"mimic-iv-ecg:{synthetic_dir}",
        tmp_path,
        ["dlinear"],
        options=ExtractOptions(weights=RANDOM, limit=10),
    )
    labels = set(LABEL_COLUMNS) | {"subject_id", "diagnosis"}
    for location in summary.stores:
        keys = set(open_store(location).group.array_keys())
        assert keys == {"embedding", "status", "record_id"}
    for file in tmp_path.rglob("*.json"):
        assert not _keys(json.loads(file.read_text())) & labels, file


def _keys(document: Any) -> set[str]:
    if isinstance(document, dict):
        below = [_keys(value) for value in document.values()]
        return set(document).union(*below)
    if isinstance(document, list):
        return set().union(*[_keys(value) for value in document])
    return set()
