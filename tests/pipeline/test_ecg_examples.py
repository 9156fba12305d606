"""ECGs on a results page: choice of the records, and the values shown with them."""

import re
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from made_runs import make_run, predict

from enecg.errors import UserError
from pipeline.datasets.base import RecordIndex
from pipeline.evaluation.predictions import ENSEMBLE
from pipeline.report.examples import COUNT, choose_examples, measure_errors
from pipeline.report.page import write_page
from pipeline.runs.results import RunResults, read_results
from pipeline.runs.run_details import read_details
from pipeline.waveforms.errors import UnreadableRecord


@dataclass
class Recordings:
    """A data set of ECGs in memory with the record ids of `made_runs`; one may be unreadable."""

    namespace: str = "mimic-iv-ecg/1.0"
    unreadable: int | None = None

    def index(self) -> RecordIndex:
        ids = np.arange(60)
        return RecordIndex(ids, ids // 2)

    def read(self, row: int) -> np.ndarray:
        if row == self.unreadable:
            raise UnreadableRecord("flat", "lead <V1> is flat")
        phase = np.linspace(0, 60, 5000, dtype=np.float32)
        return np.tile(np.sin(phase + row), (12, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    root = tmp_path_factory.mktemp("runs")
    return read_results(make_run(root / "run", details=True, tasks=("age", "sex"), repeats=1))


def test_errors_are_absolute_or_cross_entropies():
    age, sex = predict("age", ENSEMBLE, 0), predict("sex", ENSEMBLE, 0)
    np.testing.assert_allclose(measure_errors(age), np.abs(age.predicted - age.truth))
    assert sex.probability is not None
    expected = [
        -np.log(row[int(true)]) for row, true in zip(sex.probability, sex.truth, strict=True)
    ]
    np.testing.assert_allclose(measure_errors(sex), expected)


@pytest.mark.parametrize("task", ["age", "sex"])
def test_examples_have_the_largest_and_the_median_errors(task: str, run: RunResults):
    largest, typical = choose_examples(read_details(run), task, list(run.weights))
    predictions = predict(task, ENSEMBLE, 0)
    errors = measure_errors(predictions)
    order = np.argsort(-errors)
    assert [example.record_id for example in largest] == predictions.record_id[
        order[:COUNT]
    ].tolist()
    rest = order[COUNT:]
    nearest = rest[np.argsort(np.abs(errors[rest] - np.median(errors)))[:COUNT]]
    assert {example.record_id for example in typical} == set(
        predictions.record_id[nearest].tolist()
    )
    for example in (*largest, *typical):
        assert [name for name, _ in example.weights] == list(run.weights)
        assert sum(float(weight) for _, weight in example.weights) == pytest.approx(1, abs=0.011)


def test_record_of_several_repeats_is_shown_once(tmp_path: Path):
    folder = make_run(tmp_path / "run", details=True, tasks=("age",), repeats=1)
    details = read_details(read_results(folder))
    twice = [*details.ensemble("age"), *details.ensemble("age")]
    details.predictions[ENSEMBLE]["age"][:] = twice
    details.gate_weights["age"][:] = details.gate_weights["age"] * 2
    doubled = type(details)(
        details.targets * 2, details.predictions, details.gate_weights, details.learning_curves
    )
    largest, typical = choose_examples(doubled, "age", ["dlinear", "moment"])
    assert len({example.record_id for example in (*largest, *typical)}) == 2 * COUNT


def test_page_draws_each_ecg_once_and_only_its_owner_can_read_it(
    run: RunResults, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pipeline.report.examples.COUNT", 2)
    by_task = [choose_examples(read_details(run), task, list(run.weights)) for task in run.tasks]
    shown = [example for pair in by_task for part in pair for example in part]
    first = shown[0]
    page = write_page(run, dataset=Recordings(unreadable=first.record_id))  # type: ignore[arg-type]
    assert page == run.folder / "results-with-ecgs.html"
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    text = page.read_text()
    assert "Contains ECGs." in text
    assert text.count("<symbol") == len({example.record_id for example in shown}) - 1
    assert text.count('<use href="#ecg-') == len(shown) - 1
    assert text.count("The ECG cannot be shown: lead &lt;V1&gt; is flat") == 1
    for example in shown:
        assert (
            f"<strong>Record {example.record_id}</strong>: predicted {example.predicted}, true"
            in text
        )


def test_repeats_are_numbered_from_0_like_their_folders(
    run: RunResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pipeline.report.examples.COUNT", 1)
    page = write_page(run, out=tmp_path / "page.html", dataset=Recordings())  # type: ignore[arg-type]
    assert (run.folder / "repeat-0").is_dir()
    assert set(re.findall(r"\(repeat \d+\)", page.read_text())) == {"(repeat 0)"}


def test_page_without_ecgs_shows_no_record(run: RunResults):
    text = write_page(run).read_text()
    assert "<symbol" not in text
    assert "Record " not in text
    assert "Contains ECGs" not in text


def test_another_data_set_is_a_user_error(run: RunResults):
    with pytest.raises(UserError, match=r"was trained on mimic-iv-ecg/1\.0, but the data set is"):
        write_page(run, dataset=Recordings("ludb/1.0.1"))  # type: ignore[arg-type]
