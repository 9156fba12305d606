"""Tables of run folders written without training."""

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_runs import EXPERTS, METHODS, make_run, predict

from enecg.errors import UserError
from enecg.metrics import SECONDARY_METRICS
from enecg.tasks import TASKS
from pipeline.evaluation.predictions import (
    CHANCE,
    CONSTANT,
    ENSEMBLE,
    ZERO_SHOT,
    predictions_table,
)
from pipeline.report.comparison import compare_runs, list_runs
from pipeline.report.formats import to_csv, to_html, to_markdown
from pipeline.report.paper_tables import (
    all_tables,
    other_metrics_tables,
    paper_table,
    tables_with_notes,
)
from pipeline.report.prediction_plots import describe_thresholds
from pipeline.report.table import NOT_APPLICABLE, Table, format_measure, method_label
from pipeline.runs.find_runs import find_runs
from pipeline.runs.results import RunResults, read_results

PARAMETERS = "parameters of heads and gate"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    return read_results(make_run(tmp_path_factory.mktemp("runs") / "first"))


def find_row(table: Table, name: str) -> dict[str, str]:
    """Return the first row whose name starts with `name`, keyed by column.

    Keys are the headings up to their first comma; AUROC columns have keys such as "Sex AUROC".
    """
    found = next(row for row in table.rows if row[0].startswith(name))
    heads = (
        head.partition(",")[0] + (" AUROC" if head.endswith(", AUROC ↑") else "")
        for head in table.heading
    )
    return dict(zip(heads, found, strict=True))


def marked_cells(*tables: Table) -> list[tuple[str, str]]:
    """Return the row and column names of all cells in bold."""
    return [
        (table.rows[row][0], table.heading[column])
        for table in tables
        for row, column in sorted(table.best)
    ]


def remove_chance(folder: Path) -> Path:
    """Remove the chance level from a run folder, because earlier versions did not write it."""
    document = json.loads((folder / "results.json").read_text())
    document["scores"] = [score for score in document["scores"] if score["method"] != CHANCE]
    (folder / "results.json").write_text(json.dumps(document))
    return folder


def test_run_is_read_back_as_written(run: RunResults):
    assert run.methods == [CONSTANT, CHANCE, *METHODS[1:]]
    assert run.untrained == ["dlinear"]
    assert run.ensembles == ["mean", "confidence", ENSEMBLE]
    age = run.score(ENSEMBLE, "age")
    assert age is not None
    predictions = [predict("age", ENSEMBLE, repeat) for repeat in (0, 1)]
    errors = [np.abs(prediction.truth - prediction.predicted).mean() for prediction in predictions]
    assert age.values == pytest.approx(errors)
    assert run.score("confidence", "age") is None


@pytest.mark.parametrize(
    ("number", "methods"),
    [
        ("1", [CONSTANT, CHANCE, *(ZERO_SHOT + name for name in EXPERTS)]),
        ("2", [CONSTANT, CHANCE, *EXPERTS, ENSEMBLE]),
        ("3", [CONSTANT, CHANCE, "mean", "confidence", ENSEMBLE]),
    ],
)
def test_each_paper_table_has_its_methods_and_the_baselines(
    run: RunResults, number: str, methods: list[str]
):
    table = paper_table(run, number)
    rows = [row for row in table.rows if "(paper)" not in row[0]]
    assert [row[0] for row in rows[:-1]] == [method_label(method, run) for method in methods]
    assert rows[-1][0] == "test records (patients)"
    assert rows[-1][1] == "60 (30) / 60 (30)"
    assert table.heading[-1] == "parameters of heads and gate, trainable / total"


def test_labels_name_untrained_heads_and_weights(run: RunResults):
    assert method_label("dlinear", run) == "dlinear (untrained, random:0)"
    assert method_label("moment", run) == "moment"
    label = method_label(ZERO_SHOT + "dlinear", run)
    assert label == "dlinear (untrained heads; untrained, random:0)"
    assert method_label(ZERO_SHOT + "moment", run) == "moment (untrained heads)"
    assert method_label("mean", run) == "mean (1 of 2 experts untrained)"


def test_parameters_are_trainable_and_total_and_untrained_heads_have_no_trainable_ones(
    run: RunResults,
):
    assert find_row(paper_table(run, "2"), "moment")[PARAMETERS] == "1,200 / 34,000"
    assert find_row(paper_table(run, "1"), "moment")[PARAMETERS] == "0 / 34,000"
    assert find_row(paper_table(run, "3"), "mean")[PARAMETERS] == "not counted"
    assert "heads and gate only, without the frozen experts" in to_markdown(
        tables_with_notes(run, "2")
    )


@pytest.mark.parametrize(
    ("number", "row", "values"),
    [
        ("1", "moment (paper)", ("62.61 ± 0.37", "0.34 ± 0.00", "0.03 ± 0.02")),
        ("2", "EnECG (paper)", ("12.97 ± 0.61", "0.69 ± 0.01", "0.76 ± 0.01")),
        ("2", "tempo (paper)", ("13.52 ± 0.31", "0.54 ± 0.01", "0.54 ± 0.14")),
        ("3", "confidence (paper)", (NOT_APPLICABLE, "0.60 ± 0.05", "0.21 ± 0.03")),
        ("3", "weight generator (paper)", ("13.07 ± 1.03", "0.57 ± 0.01", "0.78 ± 0.02")),
    ],
)
def test_tables_have_the_values_of_the_paper(
    run: RunResults, number: str, row: str, values: tuple[str, ...]
):
    found = find_row(paper_table(run, number), row)
    assert (found["Age"], found["Sex"], found["Arrhythmia"]) == values
    assert found["Sex AUROC"] == found[PARAMETERS] == NOT_APPLICABLE
    text = to_markdown(tables_with_notes(run, number))
    assert "Paper: values of arXiv 2511.22935" in text
    assert "not these ECGs" not in text


def test_paper_rows_are_below_their_methods_and_others_at_the_end(run: RunResults):
    names = [row[0] for row in paper_table(run, "2").rows]
    assert names == [
        *(CONSTANT, CHANCE, "dlinear (untrained, random:0)", "dlinear (paper)"),
        *("moment", "moment (paper)", method_label(ENSEMBLE, run), "EnECG (paper)"),
        *("timesnet (paper)", "tempo (paper)", "ecg-fm (paper)", "test records (patients)"),
    ]


def test_run_without_tasks_of_the_paper_has_no_paper_rows(tmp_path: Path):
    made = make_run(tmp_path / "run", tasks=("sex",))
    document = json.loads((made / "results.json").read_text())
    text = json.dumps(document).replace('"sex"', '"gender"')
    (made / "results.json").write_text(text)
    assert "(paper)" not in to_markdown(all_tables(read_results(made)))


def test_paper_rows_do_not_change_the_best_methods(
    run: RunResults, monkeypatch: pytest.MonkeyPatch
):
    with_rows = paper_table(run, "2")
    best = {with_rows.rows[row][0] for row, _ in with_rows.best}
    monkeypatch.setattr(
        "pipeline.report.paper_tables._paper", lambda: {"tables": {"2": {}}, "source": ""}
    )
    without = paper_table(run, "2")
    assert "(paper)" not in str(without.rows)
    assert {without.rows[row][0] for row, _ in without.best} == best
    assert not any("(paper)" in name for name in best)


def test_best_is_the_smallest_error_or_the_largest_score(run: RunResults):
    table = paper_table(run, "2")
    for title, task in zip(("Age", "Sex", "Arrhythmia"), run.tasks.values(), strict=True):
        means = {method: run.score(method, task.name) for method in (CONSTANT, *EXPERTS, ENSEMBLE)}
        pick = max if task.higher_is_better else min
        expected = pick(means, key=lambda method: means[method].mean)  # type: ignore[union-attr]
        best = [name for name, head in marked_cells(table) if head.startswith(title)]
        assert set(best) == {method_label(expected, run)}


def test_auroc_of_binary_tasks_is_beside_f1(run: RunResults):
    for number in "123":
        assert [head.partition(" ↑")[0] for head in paper_table(run, number).heading[2:4]] == [
            *("Sex, macro-F1", "Sex, AUROC")
        ]
    score = run.score(ENSEMBLE, "sex")
    assert score is not None
    auroc = next(measure for measure in score.others if measure.metric == "AUROC")
    assert find_row(paper_table(run, "2"), ENSEMBLE)["Sex AUROC"] == format_measure(auroc)


def every_table(run: RunResults) -> list[Table]:
    return [*all_tables(run), *other_metrics_tables(run, run.methods)]


def test_no_cell_is_marked_if_labels_are_shuffled(tmp_path: Path):
    run = read_results(make_run(tmp_path / "run", shuffled=True, records=200))
    # The constant predictor is not a lower bound of macro-F1: its interval is below that of
    # methods without any signal.
    constant, best = run.score(CONSTANT, "sex"), run.score(ENSEMBLE, "sex")
    assert constant is not None
    assert best is not None
    assert best.low > constant.high
    assert marked_cells(*every_table(run)) == []
    assert "Bold" not in to_html(every_table(run))


def test_every_metric_is_marked_if_there_is_signal(tmp_path: Path):
    run = read_results(make_run(tmp_path / "run", records=200))
    tables = every_table(run)
    unmarked = [
        head
        for table in tables
        for position, head in enumerate(table.heading)
        if position and position not in {column for _, column in table.best}
    ]
    # The constant predictor is calibrated by definition.
    assert set(unmarked) == {PARAMETERS + ", trainable / total", "ECE ↓"}
    assert "Bold: best method of a column, if its 95% interval is disjoint" in to_html(tables)


@pytest.mark.parametrize("baseline", [CONSTANT, CHANCE])
def test_cell_is_marked_only_if_its_interval_is_disjoint_from_each_baseline(
    tmp_path: Path, baseline: str
):
    folder = make_run(tmp_path / "run")
    before = marked_cells(paper_table(read_results(folder), "2"))
    document = json.loads((folder / "results.json").read_text())
    best = next(s for s in document["scores"] if (s["method"], s["task"]) == (ENSEMBLE, "sex"))
    for score in document["scores"]:
        if (score["method"], score["task"]) == (baseline, "sex"):
            assert score["mean"] < best["mean"]
            score["high"] = best["low"]
    (folder / "results.json").write_text(json.dumps(document))
    after = marked_cells(paper_table(read_results(folder), "2"))
    assert {head for _, head in before} - {head for _, head in after} == {"Sex, macro-F1 ↑"}


def test_regression_tasks_have_no_chance_level(run: RunResults):
    assert run.score(CHANCE, "age") is None
    row = find_row(paper_table(run, "2"), CHANCE)
    assert row["Age"] == NOT_APPLICABLE
    assert "±" in row["Sex"]
    assert "±" in row["Arrhythmia"]
    assert "compare them with the constant predictor" in to_markdown(tables_with_notes(run, "2"))


def test_results_without_a_chance_level_are_read_and_mark_no_classification(tmp_path: Path):
    run = read_results(remove_chance(make_run(tmp_path / "run", records=200)))
    assert {head for _, head in marked_cells(*every_table(run))} == {
        *("Age, MAE years ↓", "RMSE years ↓", "R2 ↑")
    }
    assert CHANCE not in [row[0] for row in paper_table(run, "2").rows]
    text = to_markdown(all_tables(run))
    assert "written by a version without the chance level" in text
    assert "Chance:" not in text


def test_positive_class_is_named(run: RunResults):
    assert "Positive class of binary tasks: male (Sex)." in to_markdown(all_tables(run))
    titles = [table.title for table in other_metrics_tables(run, run.methods)]
    assert "Sex: other metrics (positive class: male)" in titles


def test_unsupported_task_has_an_empty_cell(run: RunResults):
    row = find_row(paper_table(run, "3"), "confidence")
    assert row["Age"] == NOT_APPLICABLE
    assert "±" in row["Sex"]


def test_notes_name_seeds_intervals_and_skipped_records(run: RunResults):
    text = to_markdown(tables_with_notes(run, "2"))
    assert "2 repeats (seeds 0, 1): mean ± SD over repeats [95% interval, bootstrap by" in text
    assert "with the trained models fixed" in text
    assert "is given by the SD over repeats." in text
    assert "Skipped 3 unreadable ECGs." in text
    assert "The data set has no labels for potassium." in text
    assert text.count("arXiv 2511.22935") == 1


def test_single_repeat_has_no_sd(run: RunResults, tmp_path: Path):
    single = read_results(make_run(tmp_path / "one", repeats=1))
    text = to_markdown(all_tables(single))
    assert "1 repeat (seed 0): score [95% interval, bootstrap by patient, 1,000 draws]." in text
    assert "cannot be estimated from one repeat" in text
    assert "SD" not in text.partition("Paper: values of")[0]
    assert "SD" not in to_markdown(compare_runs([single, single]))
    assert "Mean ± SD over repeats" in to_markdown(compare_runs([single, run]))


def test_thresholds_are_kept_by_repeat_and_may_be_infinite(run: RunResults):
    assert run.thresholds == {ENSEMBLE: {"sex": (0.25, math.inf)}}
    assert describe_thresholds(run, "sex") == (
        "Decision thresholds per repeat for male, chosen without test patients: "
        "0.250, ∞ (never predicted)."
    )
    assert describe_thresholds(run, "age") == describe_thresholds(run, "sex", "mean") == ""


def test_extra_adds_every_other_metric_of_every_task(run: RunResults):
    text = to_markdown(tables_with_notes(run, "2", extra=True))
    for task in run.tasks.values():
        assert f"{task.title}: other metrics" in text
        assert all(metric.name in text for metric in SECONDARY_METRICS[task.kind])
    assert "10 equal-width bins" in text
    assert "200 draws" in text
    assert "other metrics" not in to_markdown(tables_with_notes(run, "2"))


def test_undefined_metric_is_explained(tmp_path: Path):
    folder = make_run(tmp_path / "run")
    document = json.loads((folder / "results.json").read_text())
    for score in document["scores"]:
        for measure in score["others"]:
            if measure["metric"] == "AUROC":
                measure |= {"mean": None, "low": None, "high": None, "values": [None, None]}
    (folder / "results.json").write_text(json.dumps(document))
    text = to_markdown(tables_with_notes(read_results(folder), "2", extra=True))
    assert " undefined " in text
    assert "Sex: AUROC is undefined in 2 of 2 repeats" in text


def test_figure_3_has_rates_and_marks_values_that_are_not_recorded(run: RunResults):
    (table,) = tables_with_notes(run, "figure3")
    row = find_row(table, "extraction: moment")
    assert row["ECGs/s"] == "30.0 on cuda"
    assert row["kB per ECG in the store"] == "1.0"
    assert row["peak memory"] == "not recorded"
    assert row[PARAMETERS] == NOT_APPLICABLE
    assert find_row(table, "extraction: dlinear (untrained")["ECGs/s"] == "not recorded"
    training = find_row(table, "training")
    assert (training["ECGs/s"], training["peak memory"]) == ("80", "1.50 GB")
    assert training[PARAMETERS] == "1,500 / 37,000"
    paper = find_row(table, "EnECG (paper)")
    assert (paper["ECGs/s"], paper["peak memory"]) == ("> 10", "< 10 GB on the GPU")


def test_csv_and_html_have_the_same_cells(run: RunResults):
    tables = tables_with_notes(run, "2")
    cell = find_row(tables[0], ENSEMBLE)["Age"]
    assert cell in to_csv(tables).replace('"', "")
    assert cell.partition(" [")[0] in to_html(tables)
    assert 'class="best"' in to_html(tables)


def test_table_without_methods_is_an_error(tmp_path: Path):
    run = read_results(make_run(tmp_path / "run", methods=(CONSTANT, *EXPERTS, ENSEMBLE)))
    for number in "13":
        with pytest.raises(UserError, match=f" for table {number}. "):
            paper_table(run, number)
    assert [table.title[:7] for table in all_tables(run)] == ["Table 2"]


@pytest.mark.parametrize("name", ["config.json", "provenance.json", "results.json"])
def test_missing_or_damaged_file_is_named(tmp_path: Path, name: str):
    folder = make_run(tmp_path / "run")
    for damaged in ("[]", "{}", '{"cut'):
        (folder / name).write_text(damaged)
        with pytest.raises(UserError, match=rf"{folder / name} is damaged or was written"):
            read_results(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match=r"is not a run folder|is incomplete"):
        read_results(folder)


@pytest.mark.parametrize("name", ["config.json", "provenance.json", "results.json"])
def test_file_without_read_permission_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    file = make_run(tmp_path / "run") / name
    original_open = os.open

    # Root may read all files, so `chmod` would have no effect.
    def deny(path: Path, *arguments: Any, **options: Any) -> int:
        if path == file:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return original_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", deny)
    with pytest.raises(
        UserError, match=rf"{file} cannot be read \(Permission denied\); correct its permissions"
    ):
        read_results(file.parent)


def test_runs_are_found_below_a_folder_but_not_inside_each_other(tmp_path: Path):
    expected = [make_run(tmp_path / "night" / "a"), make_run(tmp_path / "z")]
    make_run(tmp_path / "z" / "repeat-0" / "inner")
    assert list(find_runs(tmp_path)) == expected
    assert list(find_runs(tmp_path / "z")) == [tmp_path / "z"]


def test_list_has_a_column_per_paper_task_and_one_for_custom_tasks(run: RunResults, tmp_path: Path):
    assert "custom tasks" not in list_runs([run]).heading
    folder = make_run(tmp_path / "own")
    text = (folder / "results.json").read_text()
    for name, own in (("age", "qrs_axis"), ("sex", "smoker")):
        text = text.replace(f'"name": "{name}"', f'"name": "{own}"')
        text = text.replace(f'"task": "{name}"', f'"task": "{own}"')
    (folder / "results.json").write_text(text)
    table = list_runs([read_results(folder), run])
    assert [name.partition(" ")[0] for name in table.heading[5:]] == [
        *("age", "sex", "arrhythmia", "custom")
    ]
    age = run.score(ENSEMBLE, "age")
    assert age is not None
    assert table.rows[0][5:7] == (NOT_APPLICABLE, NOT_APPLICABLE)
    assert table.rows[0][-1].startswith(f"qrs_axis {age.mean:.3f} ± ")
    assert table.rows[0][-1].endswith(", 1 more")
    assert table.rows[1][-1] == NOT_APPLICABLE


def test_comparison_starts_with_the_settings_that_differ(run: RunResults, tmp_path: Path):
    other = read_results(make_run(tmp_path / "second", settings={"fit": {"rank": 4}}))
    settings, *scores = compare_runs([run, other])
    assert settings.heading == ("", "first", "second")
    assert settings.rows == (("fit rank", "8", "4"),)
    assert settings.notes == ("All runs have the same training and test patients.",)
    assert [table.title.partition(",")[0] for table in scores] == ["Age", "Sex", "Arrhythmia"]
    row = find_row(scores[0], ENSEMBLE)
    assert row["first"] == row["second"] == find_row(paper_table(run, "2"), ENSEMBLE)["Age"]


def test_comparison_warns_about_other_patients_and_rejects_other_data(
    run: RunResults, tmp_path: Path
):
    others = read_results(make_run(tmp_path / "second", cohorts_digest="ef" * 32))
    note = compare_runs([run, others])[0].notes[-1]
    assert note.startswith("WARNING: the runs have different seeds or patients")
    elsewhere = read_results(make_run(tmp_path / "third", dataset="ludb/1.0.1"))
    with pytest.raises(UserError, match=r"first of mimic-iv-ecg/1.0, third of ludb/1.0.1"):
        compare_runs([run, elsewhere])


def test_runs_with_equal_names_are_listed_by_path(run: RunResults, tmp_path: Path):
    other = read_results(make_run(tmp_path / "first", repeats=1))
    assert compare_runs([run, other])[0].heading == ("", str(run.folder), str(other.folder))


def test_predictions_table_keeps_probabilities_with_their_record():
    sex, age = predict("sex", ENSEMBLE, 0), predict("age", ENSEMBLE, 0)
    table = predictions_table([age, sex]).to_pandas()
    assert table.loc[table["task"] == "age", "probability"].isna().all()
    rows = table[table["task"] == "sex"].set_index("record_id")
    assert sex.probability is not None
    for record in (0, 17):
        probability = rows.loc[sex.record_id[record], "probability"]
        np.testing.assert_allclose(probability, sex.probability[record], rtol=1e-6)
    assert TASKS["sex"].classes == ("female", "male")
