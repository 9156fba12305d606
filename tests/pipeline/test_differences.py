"""Paired differences between methods, and their table."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_runs import make_run, predict

from enecg.errors import UserError
from enecg.tasks import TASKS
from pipeline.evaluation.differences import compute_differences
from pipeline.evaluation.predictions import ENSEMBLE, RIDGE, TaskPredictions
from pipeline.evaluation.scores import compute_score
from pipeline.report.difference_table import difference_table
from pipeline.report.paper_tables import all_tables, tables_with_notes
from pipeline.runs.results import read_results


def predictions(task: str, *methods: str) -> list[TaskPredictions]:
    return [predict(task, method, repeat) for method in methods for repeat in (0, 1)]


def test_difference_is_that_of_the_methods_chosen_in_each_repeat():
    predicted = predictions("age", "dlinear", "moment", ENSEMBLE)
    choices = {"best expert": {"age": ["dlinear", "moment"]}}
    (difference,) = compute_differences(predicted, choices)
    scores = {
        name: compute_score(
            [prediction for prediction in predicted if prediction.method == name]
        ).values
        for name in ("dlinear", "moment", ENSEMBLE)
    }
    assert difference.chosen == ("dlinear", "moment")
    assert difference.values == pytest.approx(
        (
            scores[ENSEMBLE][0] - scores["dlinear"][0],
            scores[ENSEMBLE][1] - scores["moment"][1],
        )
    )
    assert difference.low < difference.mean < difference.high


def test_binary_task_has_the_difference_of_auroc_too():
    predicted = predictions("sex", "moment", ENSEMBLE)
    found = compute_differences(predicted, {"best expert": {"sex": ["moment", "moment"]}})
    assert [difference.metric for difference in found] == ["macro-F1", "AUROC"]


def test_paired_interval_is_narrower_than_that_of_independent_methods():
    """Both methods have nearly the same large errors, which cancel in the difference."""
    rng = np.random.default_rng(0)
    ids = np.arange(200)
    truth = rng.normal(60, 15, 200)
    shared = rng.exponential(10, 200)
    one = TaskPredictions(TASKS["age"], ENSEMBLE, 0, ids, ids, truth, truth + shared)
    other = replace(one, method="dlinear", predicted=truth + shared + 0.2 + 0.1 * rng.random(200))
    (difference,) = compute_differences([one, other], {"best expert": {"age": ["dlinear"]}})
    score = compute_score([one])
    assert difference.high < 0
    assert difference.high - difference.low < 0.1 * (score.high - score.low)


def test_equal_methods_have_no_difference():
    ours = predict("sex", ENSEMBLE, 0)
    same = replace(ours, method="dlinear")
    for difference in compute_differences([ours, same], {"best expert": {"sex": ["dlinear"]}}):
        assert (difference.mean, difference.low, difference.high) == (0, 0, 0)


def test_table_names_the_chosen_methods(tmp_path: Path):
    run = read_results(make_run(tmp_path / "run", tasks=("age", "sex")))
    predicted = [
        *predictions("age", "dlinear", "moment", ENSEMBLE),
        *predictions("sex", "moment", ENSEMBLE),
    ]
    differences = compute_differences(
        predicted,
        {
            "best expert": {"age": ["dlinear", "moment"], "sex": ["moment", "moment"]},
            RIDGE: {"age": ["moment", "moment"]},
        },
    )
    run = replace(run, differences=differences)
    table = difference_table(run)
    assert [row[0] for row in table.rows] == [
        "EnECG − best expert",
        "EnECG − ridge regression",
    ]
    assert "dlinear 1/2, moment 1/2" in table.rows[0][1]
    assert table.rows[0][2].endswith("; moment")
    assert ";" not in table.rows[1][1]
    assert table.rows[1][2] == "–"
    assert table.title in [listed.title for listed in all_tables(run)]
    (alone,) = tables_with_notes(run, "differences")
    assert (alone.title, alone.rows) == (table.title, table.rows)
    assert alone.notes[0] == table.notes[0]
    with pytest.raises(UserError, match=r"has no values for this table\. Train again with --label"):
        tables_with_notes(run, "label-efficiency")
    assert table.title not in [listed.title for listed in all_tables(replace(run, differences=()))]


@pytest.mark.parametrize("key", ["differences", "label_fractions"])
@pytest.mark.parametrize(
    "value", [None, "x", {"a": 1}, [{}], [[1]], [{"task": "age", "mean": "a"}]]
)
def test_damaged_values_are_errors_and_missing_ones_empty(key: str, value: object, tmp_path: Path):
    folder = make_run(tmp_path / "run", tasks=("age",))
    document = json.loads((folder / "results.json").read_text())
    assert document[key] == []
    (folder / "results.json").write_text(json.dumps(document | {key: value}))
    with pytest.raises(UserError, match=r"results\.json is damaged"):
        read_results(folder)
    (folder / "results.json").write_text(
        json.dumps({k: v for k, v in document.items() if k != key})
    )
    assert getattr(read_results(folder), key) == ()
