import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pandas as pd
import pytest
import torch

from enecg.errors import UserError
from enecg.experts import Expert, ExpertSpec
from pipeline.datasets.base import LABEL_COLUMNS, RecordIndex
from pipeline.datasets.selection import read_record_ids
from pipeline.extraction.extract import extract_range
from pipeline.extraction.plan import ExtractionPlan, plan_extraction
from pipeline.extraction.request import resolve
from pipeline.extraction.summary import Summary, finish_extraction, report
from pipeline.extraction.survey import survey
from pipeline.extraction.survey import told as survey_told
from pipeline.waveforms.errors import UnreadableRecord
from stores.embeddings import EmbeddingStore
from stores.errors import StoreError
from stores.holder import Holder
from stores.layout import leases, runs
from stores.lease import Lease, acquire
from stores.location import Location
from stores.opening import open_store
from stores.runs import read_runs, write_run
from stores.status import FIRST_REASON, WHOLE

RANDOM = ("random:0",)


class MeanExpert:
    """Each lead's mean: an expert whose right answer is plain. Counts the ECGs it is given."""

    def __init__(self, name: str = "mean", poison: float | None = None) -> None:
        self.spec = ExpertSpec(name, 1, {}, "none", "mean", 12, "none", "")
        self.seen = 0
        self.poison = poison

    def embed(self, ecg: torch.Tensor) -> torch.Tensor:
        self.seen += len(ecg)
        mean = ecg.mean(-1)
        if self.poison is not None:
            mean[ecg[:, 0, 0] == self.poison] = torch.inf
        return mean


class Constant:
    """A data set whose record `id` is the voltage `id` in every lead; some cannot be had."""

    namespace = "constant/1"

    def __init__(self, ids: list[int] | range, bad: tuple[int, ...] = ()) -> None:
        self.ids = list(ids)
        self.bad = bad

    def index(self) -> RecordIndex:
        ids = np.array(self.ids, dtype=np.int64)
        return RecordIndex(ids, ids)

    def read(self, row: int) -> np.ndarray:
        record = self.ids[row]
        if record in self.bad:
            raise UnreadableRecord("cut_file", f"{record}.dat is cut; copy it again.")
        return np.full((12, 5000), record, np.float32)

    def labels(self) -> Any:
        raise AssertionError("an extraction reads no label")


def plan(
    dataset: Any,
    store: Path,
    *experts: Expert,
    limit: int | None = None,
    records: Path | None = None,
    **options: Any,
) -> ExtractionPlan:
    request = resolve(dataset, store, experts, device="cpu", limit=limit, records=records)
    return plan_extraction(request, shard_rows=8, **options)


def run(planned: ExtractionPlan, batch_size: int = 5, **options: Any) -> Summary:
    """Do all that is planned, and let others write."""
    summary = Summary(already_there=planned.already_there)
    with planned:
        for shards in planned.ranges(3):
            extract_range(planned, shards, summary, batch_size=batch_size, **options)
    return summary


def store_of(planned: ExtractionPlan, name: str = "mean") -> EmbeddingStore:
    place = [expert.spec.name for expert in planned.experts].index(name)
    return open_store(planned.stores[place].location)


def test_each_record_gets_its_own_embedding(tmp_path: Path):
    planned = plan(Constant(range(100, 130)), tmp_path, MeanExpert())
    summary = run(planned)
    assert (summary.computed, summary.failed.total()) == (60, 0)  # the expert and the sampled leads
    store = store_of(planned)
    expected = np.repeat(store.record_id[:, None], 12, 1).astype(np.float16)
    np.testing.assert_array_equal(store.read(np.arange(30)), expected)


def test_a_finished_extraction_run_again_computes_nothing(tmp_path: Path):
    run(plan(Constant(range(20), bad=(3,)), tmp_path, MeanExpert()))
    expert = MeanExpert()
    again = plan(Constant(range(20), bad=(3,)), tmp_path, expert)
    summary = run(again)
    assert (again.total_rows, again.ranges(5), expert.seen) == (0, (), 0)
    assert (summary.computed, summary.already_there, summary.failed.total()) == (0, 38, 0)
    assert again.failed_before == 2
    assert finish_extraction(again, summary) == []
    assert "2 failed before (--retry-failed" in report(again, summary)[0]


def test_only_what_an_expert_lacks_is_computed(tmp_path: Path):
    run(plan(Constant(range(20)), tmp_path, MeanExpert()))
    first, second = MeanExpert(), MeanExpert("other")
    summary = run(plan(Constant(range(25)), tmp_path, first, second))
    assert (first.seen, second.seen) == (5, 25)
    assert (summary.computed, summary.already_there) == (5 + 25 + 5, 40)


def test_a_limit_takes_the_first_records_and_changes_no_identity(tmp_path: Path):
    few = plan(Constant(range(20)), tmp_path, MeanExpert(), limit=6)
    assert run(few).computed == 12
    assert np.flatnonzero(store_of(few).status()).tolist() == [0, 1, 2, 3, 4, 5]
    more = plan(Constant(range(20)), tmp_path, MeanExpert())
    assert [store.location for store in more.stores] == [store.location for store in few.stores]
    assert run(more).computed == 28


def test_a_bad_record_is_counted_and_named_and_stops_nothing(tmp_path: Path):
    planned = plan(Constant(range(20), bad=(3, 17)), tmp_path, MeanExpert())
    summary = run(planned)
    store = store_of(planned)
    assert (summary.computed, summary.failed.total()) == (36, 4)
    assert [store.flags[code] for code in store.status()[[3, 17]]] == ["cut_file"] * 2
    assert (np.delete(store.status(), [3, 17]) == WHOLE).all()
    told = "\n".join(report(planned, summary))
    assert "2 records failed: 2 cut_file." in told
    assert "17: cut_file. 17.dat is cut; copy it again." in told
    finish_extraction(planned, summary)
    kept = read_runs(store)[-1]["failures"]
    assert {one["record_id"]: one["reason"] for one in kept} == {3: "cut_file", 17: "cut_file"}


def test_failed_records_are_tried_again_only_when_asked(tmp_path: Path):
    run(plan(Constant(range(20), bad=(3,)), tmp_path, MeanExpert()))
    with plan(Constant(range(20)), tmp_path, MeanExpert()) as planned:
        assert planned.total_rows == 0
    retried = plan(Constant(range(20)), tmp_path, MeanExpert(), retry_failed=True)
    assert run(retried).computed == 2
    assert (store_of(retried).status() == WHOLE).all()


def test_an_embedding_that_is_not_finite_is_a_failure_of_that_record_alone(tmp_path: Path):
    planned = plan(Constant(range(20)), tmp_path, MeanExpert(poison=7.0))
    summary = run(planned)
    assert [one.record_id for one in summary.failures] == [7]
    assert "not finite in float16" in summary.failures[0].detail
    assert store_of(planned).flags[store_of(planned).status()[7]] == "not_finite"
    assert (store_of(planned, "leads").status() == WHOLE).all()


def test_records_of_a_new_release_are_appended(tmp_path: Path):
    run(plan(Constant(range(10)), tmp_path, MeanExpert()))
    expert = MeanExpert()
    planned = plan(Constant([50, *range(10), 60]), tmp_path, expert)
    run(planned)
    store = store_of(planned)
    assert expert.seen == 2
    assert store.record_id.tolist() == [*range(10), 50, 60]
    np.testing.assert_array_equal(store.read(np.array([10, 11, 4]))[:, 0], [50, 60, 4])


def test_an_expert_that_joins_late_has_the_same_rows(tmp_path: Path):
    run(plan(Constant(range(10)), tmp_path, MeanExpert()))
    regrown = Constant([50, *range(10), 60])
    run(plan(regrown, tmp_path, MeanExpert("late")))
    planned = plan(regrown, tmp_path, MeanExpert(), MeanExpert("late"))
    run(planned)
    for name in ("mean", "late", "leads"):
        assert store_of(planned, name).record_id.tolist() == [*range(10), 50, 60]
        assert (store_of(planned, name).status() == WHOLE).all()


def test_a_range_that_broke_off_is_begun_again_where_it_was(tmp_path: Path):
    class Breaks(MeanExpert):
        def embed(self, ecg: torch.Tensor) -> torch.Tensor:
            if self.seen == 11:
                self.seen += 1
                raise OSError("the share was away")
            return super().embed(ecg)

    expert = Breaks()
    planned = plan(Constant(range(24), bad=(3,)), tmp_path, expert)
    (everything,) = planned.ranges(1)
    summary, steps = Summary(), list[int]()

    def progress(done: int, total: int) -> None:
        assert total == 24
        steps.append(done)

    with pytest.raises(OSError, match="away"):
        extract_range(planned, everything, summary, batch_size=4, progress=progress)
    assert (summary.computed, summary.failed.total()) == (22, 2)
    extract_range(planned, everything, summary, batch_size=4, progress=progress)
    planned.close()
    assert (summary.computed, summary.already_there) == (46, 0)
    # The record that cannot be had was not tried again.
    assert (summary.failed.total(), summary.records_failed.total()) == (2, 1)
    assert len(summary.failures) == 1
    assert expert.seen - 1 == 23  # none is done twice
    assert steps == [4, 8, 12, 16, 20, 24]
    assert (np.delete(store_of(planned).status(), 3) == WHOLE).all()


def test_a_store_that_could_not_be_written_to_is_counted_when_it_could(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    planned = plan(Constant(range(8), bad=(3,)), tmp_path, MeanExpert())
    (everything,) = planned.ranges(1)
    true_put, summary = EmbeddingStore.put_status, Summary()

    def fails(store: EmbeddingStore, shard: int, status: np.ndarray) -> None:
        if store.provenance["expert"] == "leads":
            raise ValueError("broken")
        true_put(store, shard, status)

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingStore, "put_status", fails)
        with pytest.raises(ValueError, match="broken"):
            extract_range(planned, everything, summary)
    assert (summary.computed, summary.failed) == (7, {("mean", "cut_file"): 1})
    extract_range(planned, everything, summary)
    planned.close()
    assert (summary.computed, summary.already_there) == (14, 0)
    assert summary.failed == {("mean", "cut_file"): 1, ("leads", "cut_file"): 1}
    assert (summary.records_failed, len(summary.failures)) == ({"cut_file": 1}, 1)


def test_a_shard_that_is_there_in_part_is_put_into_s3_once(
    s3_root: str, monkeypatch: pytest.MonkeyPatch
):
    run(plan(Constant(range(8)), s3_root, MeanExpert(), limit=3))
    true_put, put = obstore.put, list[str]()

    def counted(client: Any, key: str, *arguments: Any, **options: Any) -> Any:
        put.append(key.rpartition("/leads/")[2].rpartition("/mean/")[2])
        return true_put(client, key, *arguments, **options)

    monkeypatch.setattr(obstore, "put", counted)
    run(plan(Constant(range(8)), s3_root, MeanExpert()), batch_size=8)
    assert sum("/embedding/c/" in key for key in put) == 2
    assert sum("/status/c/" in key for key in put) == 2


def test_a_shard_in_work_is_written_as_time_goes_by(tmp_path: Path):
    planned = plan(Constant(range(8)), tmp_path, MeanExpert())
    there = []

    def progress(done: int, total: int) -> None:
        there.append(int((store_of(planned).status() == WHOLE).sum()))

    run(planned, batch_size=2, flush_seconds=0.0, progress=progress)
    assert there == [0, 2, 4, 6]


def test_stores_and_embeddings_are_the_same_for_every_batch_size(
    tmp_path: Path, synthetic_dir: Path
):
    embedded = {}
    for size in (1, 7, 64):
        planned = plan_extraction(
            resolve(
                f"mimic-iv-ecg:{synthetic_dir}",
                tmp_path / str(size),
                ["dlinear", "timesnet"],
                weights=RANDOM,
                limit=20,
            )
        )
        run(planned, batch_size=size)
        embedded[size] = [store.to_dask()[:20].compute() for store in planned.stores]
    for size in (7, 64):
        for one, other in zip(embedded[1], embedded[size], strict=True):
            np.testing.assert_allclose(one, other, rtol=2**-10, atol=1e-4)


def test_every_spoiled_record_is_found_for_what_it_is(tmp_path: Path, synthetic_dir: Path):
    planned = plan_extraction(
        resolve(f"mimic-iv-ecg:{synthetic_dir}", tmp_path, ["dlinear"], weights=RANDOM)
    )
    summary = run(planned, batch_size=64)
    spoiled = json.loads((synthetic_dir / "synthetic.json").read_text())["spoiled"]
    found: dict[str, set[int]] = {}
    for failure in summary.failures:
        found.setdefault(failure.reason, set()).add(failure.record_id)
    expected = {reason: set(ids) for reason, ids in spoiled.items() if reason != "unknown_rr"}
    assert found == expected
    assert len(expected) == 4


def test_weights_of_an_expert_that_is_not_asked_for_are_a_mistake(tmp_path: Path):
    with pytest.raises(UserError, match="refers to expert 'moment', which is not among --experts"):
        resolve(Constant(range(3)), tmp_path, ["dlinear"], weights=["random:0", "moment@random:1"])


def test_a_device_that_is_not_here_is_told_in_a_sentence(tmp_path: Path):
    with pytest.raises(UserError, match="The device 'cuda:99' cannot be used here"):
        resolve(Constant(range(3)), tmp_path, ["dlinear"], weights=RANDOM, device="cuda:99")


SLOW_EXTRACTION = """
import sys, time
from pathlib import Path
from test_extract import Constant, MeanExpert, plan, run

class Slow(MeanExpert):
    def embed(self, ecg):
        time.sleep(0.02)
        return super().embed(ecg)

planned = plan(Constant(range(100, 164), bad=(110,)), Path(sys.argv[1]), Slow())
told = lambda done, total: print(done, flush=True)
run(planned, batch_size=2, flush_seconds=0.05, progress=told)
"""


def test_a_killed_extraction_loses_no_row_and_does_none_twice(tmp_path: Path):
    whole = plan(Constant(range(100, 164), bad=(110,)), tmp_path / "whole", MeanExpert())
    run(whole)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    there = 0
    for batches in (3, 11, 6):
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW_EXTRACTION, str(tmp_path / "killed")],
            stdout=subprocess.PIPE,
            env=environment,
        )
        assert process.stdout is not None
        for _ in range(batches):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        with plan(Constant(range(100, 164)), tmp_path / "killed", MeanExpert()) as again:
            killed = store_of(again)
        rows = np.flatnonzero(killed.status() == WHOLE)
        assert len(rows) >= there
        there = len(rows)
        np.testing.assert_array_equal(killed.read(rows), store_of(whole).read(rows))
    assert 0 < there < 63
    expert = MeanExpert()
    planned = plan(Constant(range(100, 164), bad=(110,)), tmp_path / "killed", expert)
    run(planned)
    assert expert.seen == 63 - there
    np.testing.assert_array_equal(store_of(planned).to_dask(), store_of(whole).to_dask())
    np.testing.assert_array_equal(store_of(planned).status(), store_of(whole).status())


def test_a_file_of_records_is_extracted_and_no_other_record(tmp_path: Path):
    wanted = tmp_path / "cohort.csv"
    wanted.write_text("record_id,split\n107,test\n103,train\n")
    planned = plan(Constant(range(100, 120)), tmp_path / "store", MeanExpert(), records=wanted)
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
def test_no_record_of_a_file_is_left_out(tmp_path: Path, text: str):
    wanted = tmp_path / "cohort.csv"
    wanted.write_text(text)
    assert sorted(set(read_record_ids(wanted).tolist())) == [101, 103]


def test_a_parquet_table_names_records_too(tmp_path: Path):
    pd.DataFrame({"split": ["a", "b"], "record_id": [103, 101]}).to_parquet(tmp_path / "c.parquet")
    assert read_record_ids(tmp_path / "c.parquet").tolist() == [103, 101]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("100\n999\n", "names 1 records that the data set does not have, such as 999"),
        ("record_id\nabc\n", "holds no record ids"),
        ("", "holds no record ids"),
        ("record_id\n", "holds no record ids"),
        ("record_id\n101.7\n", "'101.7' is no whole number"),
        ("record_id,split\n101,test\n,test\n", "'' is no whole number"),
    ],
)
def test_a_file_of_records_that_is_wrong_is_told_in_a_sentence(
    tmp_path: Path, text: str, told: str
):
    wanted = tmp_path / "cohort.txt"
    wanted.write_text(text)
    with pytest.raises(UserError, match=told):
        resolve(Constant(range(100, 120)), tmp_path, [MeanExpert()], records=wanted)


def test_a_dry_run_tells_rows_bytes_and_measured_hours_and_makes_nothing(tmp_path: Path):
    dataset = Constant(range(20))
    request = resolve(dataset, tmp_path, [MeanExpert()], device="cpu")
    before = survey(request)
    assert [(one.to_do, one.bytes) for one in before] == [
        (20, 1024 * 12 * 2),
        (20, 1024 * 1500 * 2),
    ]
    assert before[0].hours is None
    assert list(tmp_path.iterdir()) == []
    planned = plan(dataset, tmp_path, MeanExpert(), limit=15)
    finish_extraction(planned, run(planned))
    after = survey(request)
    assert [(one.whole, one.to_do) for one in after] == [(15, 5), (15, 5)]
    assert after[0].bytes == 8 * 12 * 2  # of its three shards of eight rows one is not begun
    rate = after[0].records_per_second
    assert rate is not None
    assert after[0].hours == pytest.approx(5 / rate / 3600)


def test_a_dry_run_reads_no_more_runs_than_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    planned = plan(Constant(range(20)), tmp_path, MeanExpert(), limit=15)
    finish_extraction(planned, run(planned))
    store = store_of(planned)
    for seconds in (3.0, 5.0):
        write_run(store, {"device": "cpu", "embedded": 10, "embedding_seconds": seconds})
    there = sorted(file.name for file in runs(store.location).files())
    true_read, read = Location.read, list[str]()

    def counted(here: Location) -> bytes | None:
        if "/runs/mean/" in str(here):
            read.append(here.name)
        return true_read(here)

    monkeypatch.setattr(Location, "read", counted)
    survey(resolve(Constant(range(20)), tmp_path, [MeanExpert()], device="cpu"))
    assert read == there[-1:]


def test_an_extraction_of_stores_that_another_writes_to_is_refused_by_name(tmp_path: Path):
    with (
        plan(Constant(range(20)), tmp_path, MeanExpert()),
        pytest.raises(StoreError, match=r"mean/\w+ is being written by .*, since 2"),
    ):
        plan(Constant(range(20)), tmp_path, MeanExpert())


def test_an_expert_is_extracted_while_another_extraction_writes_the_leads(tmp_path: Path):
    with plan(Constant(range(20)), tmp_path, MeanExpert()):
        planned = plan(Constant(range(20)), tmp_path, MeanExpert("other"))
        assert [store.provenance["expert"] for store in planned.stores] == ["other"]
        assert planned.busy is not None
        assert run(planned).computed == 20


def test_an_expert_named_twice_is_one(tmp_path: Path):
    twice = resolve(Constant(range(3)), tmp_path, ["dlinear", "dlinear"], weights=RANDOM)
    assert [one.spec.name for one in twice.experts] == ["dlinear", "leads"]
    with plan(Constant(range(20)), tmp_path, MeanExpert(), MeanExpert()) as planned:
        assert [one.spec.name for one in planned.experts] == ["mean", "leads"]


def lease_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "lease"]


@pytest.mark.parametrize("experts", [("mean",), ("first", "mean")])
def test_ctrl_c_ends_the_waiting_for_another_extraction(tmp_path: Path, experts: tuple[str, ...]):
    with plan(Constant(range(20)), tmp_path, MeanExpert()):
        mine = lease_threads()
        threading.Timer(2.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            plan(Constant(range(20)), tmp_path, *map(MeanExpert, experts), wait_seconds=60)
        assert time.monotonic() - began < 20
        assert lease_threads() == mine


def test_the_minutes_to_wait_are_those_of_all_stores_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    given = []
    true_acquire = acquire

    def watched(folder: Location, *, wait_seconds: float, **options: Any) -> Lease:
        given.append(wait_seconds)
        time.sleep(0.2)
        return true_acquire(folder, wait_seconds=wait_seconds, **options)

    monkeypatch.setattr("pipeline.extraction.leases.acquire", watched)
    with plan(Constant(range(20)), tmp_path, *map(MeanExpert, "ab"), wait_seconds=9):
        pass
    assert given[0] > 8.9
    assert max(given[1:]) <= given[0] - 0.2


def test_no_lease_is_kept_where_another_cannot_be_had_for_any_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = lease_threads()
    true_acquire = acquire

    before = lease_threads()

    def fails(folder: Location, **options: Any) -> Lease:
        if "/leads/" in str(folder):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return true_acquire(folder, **options)

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.extraction.leases.acquire", fails)
        with pytest.raises(OSError, match="Too many open files"):
            plan(Constant(range(20)), tmp_path, MeanExpert())
    assert lease_threads() == before
    with plan(Constant(range(20)), tmp_path, MeanExpert()):
        pass


def test_a_dry_run_tells_that_a_writer_is_gone(tmp_path: Path):
    request = resolve(Constant(range(20)), tmp_path, [MeanExpert()], device="cpu")
    folder = leases(request.locations[0])
    dead = replace(Holder.here(45.0), process=2**22 + 1)
    folder.place.write(f"{folder.key}/00000009.json", dead.json())
    assert survey_told(survey(request))[0].endswith("which is gone)")


def test_many_failures_are_all_counted_and_only_some_kept_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pipeline.extraction.summary.FAILURES_KEPT", 5)
    planned = plan(Constant(range(40), bad=tuple(range(30))), tmp_path, MeanExpert())
    summary = run(planned)
    assert (summary.failed.total(), summary.records_failed["cut_file"]) == (60, 30)
    assert len(summary.failures) == 5
    finish_extraction(planned, summary)
    (kept,) = read_runs(store_of(planned))
    assert (kept["rows_failed"], kept["failed_by_reason"]) == (30, {"cut_file": 30})
    assert int((store_of(planned).status() >= FIRST_REASON).sum()) == 30


def test_no_label_enters_the_stores(tmp_path: Path, synthetic_dir: Path):
    request = resolve(
        f"mimic-iv-ecg:{synthetic_dir}", tmp_path, ["dlinear"], weights=RANDOM, limit=10
    )
    planned = plan_extraction(request)
    finish_extraction(planned, run(planned))
    labels = set(LABEL_COLUMNS) | {"subject_id", "diagnosis"}
    for store in planned.stores:
        assert set(store.group.array_keys()) == {"embedding", "status", "record_id"}
    for file in tmp_path.rglob("*.json"):
        assert not _keys(json.loads(file.read_text())) & labels, file


def _keys(document: Any) -> set[str]:
    if isinstance(document, dict):
        below = [_keys(value) for value in document.values()]
        return set(document).union(*below)
    if isinstance(document, list):
        return set().union(*[_keys(value) for value in document])
    return set()
