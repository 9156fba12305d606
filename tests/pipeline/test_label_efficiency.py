"""Label-efficiency curves: fractions of patients, training on them, and their table and plot."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from quick_runs import QUICK, copy_stores
from test_train import run

from enecg.errors import UserError
from pipeline.evaluation.predictions import CONSTANT, ENSEMBLE, RIDGE
from pipeline.report.label_efficiency_plot import plot_label_efficiency
from pipeline.runs.base_run import adopt_settings
from pipeline.runs.results import read_results
from pipeline.train import Results
from pipeline.training.cohorts import draw_cohort
from pipeline.training.label_efficiency import draw_fraction, parse_fractions
from pipeline.training.settings import TrainSettings

RECORDS = np.arange(400)
PATIENTS = pd.Series(RECORDS // 2, RECORDS)


def test_fractions_are_sorted_and_checked():
    assert parse_fractions(["1", "0.1", 0.01, "0.10"]) == (0.01, 0.1, 1.0)
    for value in ("0", "1.5", "-0.1", "nan", "ten"):
        with pytest.raises(UserError, match=rf"'{value}' is not valid in --label-fractions"):
            parse_fractions([value])


def test_smaller_fractions_are_subsets_with_the_same_test_records():
    cohort = draw_cohort(RECORDS, PATIENTS.to_numpy(), patients=200, seed=3)
    small, large = (draw_fraction(cohort, PATIENTS, fraction) for fraction in (0.1, 0.5))
    for part, patients in (("train", 140), ("validation", 40)):
        few, more, all_ = (getattr(records, part) for records in (small, large, cohort))
        assert set(few) < set(more) < set(all_)
        assert len(set(PATIENTS[few])) == round(0.1 * patients)
        assert len(set(PATIENTS[more])) == round(0.5 * patients)
        # All records of a patient are kept.
        assert len(few) == 2 * len(set(PATIENTS[few]))
    assert np.array_equal(small.test, cohort.test)
    assert not np.array_equal(draw_fraction(cohort, PATIENTS, 0.001).train, [])


@pytest.fixture(scope="module")
def store(synthetic_stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_stores(synthetic_stores, tmp_path_factory.mktemp("stores"), "dlinear", "timesnet")


@pytest.fixture(scope="module")
def results(synthetic_dir: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    out = tmp_path_factory.mktemp("runs") / "fractions"
    fractions = {"tasks": ("age", "sex"), "label_fractions": (0.01, 0.5, 1.0)}
    return run(synthetic_dir, store, out, page=True, **fractions)


def test_curve_ends_with_the_scores_of_the_run(results: Results):
    made = read_results(results.folder)
    half, full = made.label_fractions
    assert (half.fraction, full.fraction) == (0.5, 1.0)
    assert all(less < more for less, more in zip(half.patients, full.patients, strict=True))
    seen = json.loads((results.folder / "cohorts.json").read_text())
    assert list(full.patients) == [len(cohort["patients_seen"]) for cohort in seen]
    for task in ("age", "sex"):
        for method in (CONSTANT, RIDGE, ENSEMBLE):
            score = full.score(method, task)
            assert score is not None
            assert score == made.score(method, task)
            less = half.score(method, task)
            assert less is not None
            assert less.n == score.n
        best = full.score("best expert", task)
        assert best is not None
        experts = [made.score(name, task) for name in ("dlinear", "timesnet")]
        for repeat, value in enumerate(best.values):
            assert value in [score.values[repeat] for score in experts if score is not None]
    age = half.score(ENSEMBLE, "age")
    assert age != full.score(ENSEMBLE, "age")


def test_tables_page_and_notes_have_the_curve(results: Results):
    assert "**Label efficiency: training on a fraction of the patients**" in results.markdown
    assert "| 50 % (" in results.markdown
    assert "Too few labels in 1 % of the patients: Age, Sex." in results.markdown
    page = (results.folder / "results.html").read_text()
    assert "<h3>Label efficiency</h3>" in page
    made = read_results(results.folder)
    figure = plot_label_efficiency(made, made.tasks["age"])
    assert figure is not None
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert set(lines) == {CONSTANT, RIDGE, "best expert", ENSEMBLE}
    expected = [fraction.score(ENSEMBLE, "age") for fraction in made.label_fractions]
    np.testing.assert_allclose(
        lines[ENSEMBLE].get_ydata(), [score.mean for score in expected if score is not None]
    )
    log = (results.folder / "log.txt").read_text()
    assert "50 % of the patients, timesnet: done." in log


def test_run_without_fractions_has_no_curve(synthetic_dir: Path, store: Path, tmp_path: Path):
    plain = run(synthetic_dir, store, tmp_path / "run", tasks=("sex",), repeats=1, fit=QUICK)
    assert "Label efficiency" not in plain.markdown
    made = read_results(plain.folder)
    assert made.label_fractions == ()
    assert plot_label_efficiency(made, made.tasks["sex"]) is None


def test_fractions_cannot_be_combined_with_a_base_run():
    class Base:
        config = {"settings": {}}  # noqa: RUF012

    settings = TrainSettings(base="runs/base", label_fractions=(0.1,))
    with pytest.raises(UserError, match="omit --label-fractions"):
        adopt_settings(settings, Base())  # type: ignore[arg-type]
