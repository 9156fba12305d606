import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from enecg.errors import UserError
from enecg.experts import Expert, ExpertSpec
from pipeline.datasets.base import BadRecord, RecordIndex
from pipeline.extract import extract_range
from pipeline.plan import ExtractionPlan, plan_extraction
from pipeline.summary import Summary, finish_extraction, report
from stores.embeddings import WHOLE, EmbeddingStore
from stores.opening import open_store
from stores.runs import read_runs

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
            raise BadRecord("cut_file", f"{record}.dat is cut; copy it again.")
        return np.full((12, 5000), record, np.float32)

    def labels(self) -> Any:
        raise AssertionError("an extraction reads no label")


def plan(dataset: Any, store: Path, *experts: Expert, **options: Any) -> ExtractionPlan:
    return plan_extraction(dataset, store, experts, shard_rows=8, device="cpu", **options)


def run(planned: ExtractionPlan, batch_size: int = 5, **options: Any) -> Summary:
    summary = Summary(already_there=planned.already_there)
    for shards in planned.ranges(3):
        summary += extract_range(planned, shards, batch_size=batch_size, **options)
    return summary


def store_of(planned: ExtractionPlan, name: str = "mean") -> EmbeddingStore:
    place = [expert.spec.name for expert in planned.experts].index(name)
    return open_store(planned.stores[place].path)


def test_each_record_gets_its_own_embedding(tmp_path: Path):
    planned = plan(Constant(range(100, 130)), tmp_path, MeanExpert())
    summary = run(planned)
    assert (summary.computed, summary.failed) == (60, 0)  # the expert and the sampled leads
    store = store_of(planned)
    expected = np.repeat(store.record_id[:, None], 12, 1).astype(np.float16)
    np.testing.assert_array_equal(store.read(np.arange(30)), expected)


def test_a_finished_extraction_run_again_computes_nothing(tmp_path: Path):
    run(plan(Constant(range(20), bad=(3,)), tmp_path, MeanExpert()))
    expert = MeanExpert()
    again = plan(Constant(range(20), bad=(3,)), tmp_path, expert)
    summary = run(again)
    assert (again.total_rows, again.ranges(5), expert.seen) == (0, (), 0)
    assert (summary.computed, summary.already_there, summary.failed) == (0, 38, 0)
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
    assert [store.path for store in more.stores] == [store.path for store in few.stores]
    assert run(more).computed == 28


def test_a_bad_record_is_counted_and_named_and_stops_nothing(tmp_path: Path):
    planned = plan(Constant(range(20), bad=(3, 17)), tmp_path, MeanExpert())
    summary = run(planned)
    store = store_of(planned)
    assert (summary.computed, summary.failed) == (36, 4)
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
    assert plan(Constant(range(20)), tmp_path, MeanExpert()).total_rows == 0
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
            if self.seen == 12:
                self.seen += 1
                raise OSError("the share was away")
            return super().embed(ecg)

    expert = Breaks()
    planned = plan(Constant(range(24)), tmp_path, expert)
    (everything,) = planned.ranges(1)
    with pytest.raises(OSError, match="away"):
        extract_range(planned, everything, batch_size=4)
    summary = extract_range(planned, everything, batch_size=4)
    # Twelve rows of the expert were kept, and eight of the leads, whose turn comes after it.
    assert (summary.computed, summary.already_there) == (24, 24)
    assert expert.seen - 1 == 24  # none is done twice
    assert (store_of(planned).status() == WHOLE).all()


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
            f"mimic-iv-ecg:{synthetic_dir}",
            tmp_path / str(size),
            ["dlinear", "timesnet"],
            weights=RANDOM,
            limit=20,
        )
        run(planned, batch_size=size)
        embedded[size] = [store.to_dask()[:20].compute() for store in planned.stores]
    for size in (7, 64):
        for one, other in zip(embedded[1], embedded[size], strict=True):
            np.testing.assert_allclose(one, other, rtol=2**-10, atol=1e-4)


def test_every_spoiled_record_is_found_for_what_it_is(tmp_path: Path, synthetic_dir: Path):
    planned = plan_extraction(
        f"mimic-iv-ecg:{synthetic_dir}", tmp_path, ["dlinear"], weights=RANDOM
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
    with pytest.raises(UserError, match="speaks of 'moment', which is not among --experts"):
        plan_extraction(
            Constant(range(3)), tmp_path, ["dlinear"], weights=["random:0", "moment@random:1"]
        )


def test_a_device_that_is_not_here_is_told_in_a_sentence(tmp_path: Path):
    with pytest.raises(UserError, match="The device 'cuda:99' cannot be used here"):
        plan_extraction(Constant(range(3)), tmp_path, ["dlinear"], weights=RANDOM, device="cuda:99")


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
        killed = store_of(plan(Constant(range(100, 164)), tmp_path / "killed", MeanExpert()))
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
