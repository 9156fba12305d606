"""Tables from run folders, without training."""

import json
import math
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from made_runs import EXPERTS, METHODS, make_run, predict

from enecg.errors import UserError
from enecg.metrics import SECONDARY_METRICS
from enecg.tasks import TASKS
from pipeline.evaluation.predictions import CONSTANT, ENSEMBLE, ZERO_SHOT, predictions_table
from pipeline.report.comparison import compare, listed
from pipeline.report.formats import comma_separated, html, markdown
from pipeline.report.paper_tables import (
    NOT_AT_HAND,
    all_other_metrics,
    all_tables,
    blocks,
    paper_table,
)
from pipeline.report.prediction_plots import thresholds
from pipeline.report.table import NOT_FOR_THIS, Table, label
from pipeline.runs.results import RunResults, find_runs, read_results

PARAMETERS = "parameters of heads and gate"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    return read_results(make_run(tmp_path_factory.mktemp("runs") / "first"))


def row(table: Table, name: str) -> dict[str, str]:
    """The cells of the row whose name begins so, by the first word of their heading."""
    found = next(one for one in table.rows if one[0].startswith(name))
    return dict(zip((head.partition(",")[0] for head in table.heading), found, strict=True))


def test_a_run_is_read_back_as_it_was_written(run: RunResults):
    assert run.methods == list(METHODS)
    assert run.untrained == ["dlinear"]
    assert run.ensembles == ["mean", "confidence", ENSEMBLE]
    age = run.score(ENSEMBLE, "age")
    assert age is not None
    errors = [np.abs(one.truth - one.predicted).mean() for one in _predictions("age")]
    assert age.values == pytest.approx(errors)
    assert run.score("confidence", "age") is None


def _predictions(task: str):
    return [predict(task, ENSEMBLE, repeat) for repeat in (0, 1)]


@pytest.mark.parametrize(
    ("which", "methods"),
    [
        ("1", [CONSTANT, *(ZERO_SHOT + name for name in EXPERTS)]),
        ("2", [CONSTANT, *EXPERTS, ENSEMBLE]),
        ("3", [CONSTANT, "mean", "confidence", ENSEMBLE]),
    ],
)
def test_each_of_the_papers_tables_has_its_methods_and_the_constant(
    run: RunResults, which: str, methods: list[str]
):
    table = paper_table(run, which)
    ours = [one for one in table.rows if "as the paper has it" not in one[0]]
    assert [one[0] for one in ours[:-1]] == [label(method, run) for method in methods]
    assert ours[-1][0] == "test records (patients)"
    assert ours[-1][1] == "60 (30) / 60 (30)"
    assert table.heading[-1] == "parameters of heads and gate, trained / all"


def test_what_is_untrained_is_named_heads_and_weights(run: RunResults):
    assert label("dlinear", run) == "dlinear (untrained, random:0)"
    assert label("moment", run) == "moment"
    assert label(ZERO_SHOT + "dlinear", run) == "dlinear (untrained heads; untrained, random:0)"
    assert label(ZERO_SHOT + "moment", run) == "moment (untrained heads)"
    assert label("mean", run) == "mean (of 1 untrained experts of 2)"


def test_parameters_are_told_trained_and_all_and_untrained_heads_train_none(run: RunResults):
    assert row(paper_table(run, "2"), "moment")[PARAMETERS] == "1,200 / 34,000"
    assert row(paper_table(run, "1"), "moment")[PARAMETERS] == "0 / 34,000"
    assert row(paper_table(run, "3"), "mean")[PARAMETERS] == "not counted"
    assert "the frozen experts' own are not counted" in markdown(blocks(run, "2"))


def test_the_papers_figures_are_those_of_the_file_and_all_others_are_not_at_hand(run: RunResults):
    paper = json.loads((files("pipeline.report") / "paper.json").read_text())["figures"]
    assert paper == {"EnECG": {"age": "12.97"}}
    told = row(paper_table(run, "2"), "EnECG, as the paper has it")
    assert told["Age"] == "12.97"
    assert told["Sex"] == told["Arrhythmia"] == told[PARAMETERS] == NOT_AT_HAND
    assert not [one for one in paper_table(run, "1").rows if "as the paper" in one[0]]


def test_without_a_figure_for_any_of_the_runs_tasks_the_paper_has_no_row(tmp_path: Path):
    run = read_results(make_run(tmp_path / "run", tasks=("sex",)))
    text = markdown(blocks(run, "2"))
    assert "as the paper has it" not in text
    assert "Its figures are not at hand." in text


def test_a_figure_of_the_paper_stands_below_our_row_and_moves_no_mark(
    run: RunResults, monkeypatch: pytest.MonkeyPatch
):
    without = paper_table(run, "2")
    marked = {without.rows[row][0] for row, _ in without.best}
    figures = {"dlinear": {"sex": "0.5"}, ENSEMBLE: {"age": "12.97"}}
    monkeypatch.setattr("pipeline.report.paper_tables._paper", lambda: {"figures": figures})
    table = paper_table(run, "2")
    names = [one[0] for one in table.rows]
    assert names[1:3] == ["dlinear (untrained, random:0)", "dlinear, as the paper has it"]
    assert names[4:6] == [label(ENSEMBLE, run), "EnECG, as the paper has it"]
    assert {names[row] for row, _ in table.best} == marked


def test_the_best_of_each_task_is_marked_the_smallest_error_and_the_largest_share(run: RunResults):
    table = paper_table(run, "2")
    for column, task in enumerate(run.tasks.values(), start=1):
        (best,) = (r for r, c in table.best if c == column)
        means = {method: run.score(method, task.name) for method in (CONSTANT, *EXPERTS, ENSEMBLE)}
        pick = max if task.higher_is_better else min
        wanted = pick(means, key=lambda method: means[method].mean)  # type: ignore[union-attr]
        assert table.rows[best][0] == label(wanted, run)


def test_the_constant_predictor_is_never_marked_and_nothing_else_where_it_is_best(tmp_path: Path):
    folder = make_run(tmp_path / "run")
    document = json.loads((folder / "results.json").read_text())
    for score in document["scores"]:
        if (score["method"], score["task"]) == (CONSTANT, "age"):
            score["mean"] = 0.001
        if score["method"] == CONSTANT:
            for one in score["others"]:
                one["mean"] = 0.0 if one["metric"] == "ECE" else one["mean"]
    (folder / "results.json").write_text(json.dumps(document))
    run = read_results(folder)
    columns = [column for _, column in paper_table(run, "2").best if _ >= 0]
    assert sorted(columns) == [2, 3]
    of_sex = next(one for one in all_other_metrics(run, run.methods) if "Sex" in one.title)
    ece = [name.partition(" ")[0] for name in of_sex.heading].index("ECE")
    assert not [row for row, column in of_sex.best if column == ece and row >= 0]
    assert "Bold: a column's best, where it is better than the constant" in html([of_sex])


def test_a_method_that_is_not_for_a_task_leaves_its_cell_empty(run: RunResults):
    told = row(paper_table(run, "3"), "confidence")
    assert told["Age"] == NOT_FOR_THIS
    assert "±" in told["Sex"]


def test_notes_tell_seeds_intervals_and_what_is_left_out(run: RunResults):
    text = markdown(blocks(run, "2"))
    assert "2 repeats (seeds 0, 1): mean ± SD over repeats [95 % interval, bootstrap by" in text
    assert "The intervals are by patient, given these repeats' heads" in text
    assert "3 ECGs could not be had and are left out." in text
    assert "The data set has no labels for potassium." in text
    assert text.count("arXiv 2511.22935") == 1


def test_one_repeat_has_no_sd_and_none_is_spoken_of(run: RunResults, tmp_path: Path):
    one = read_results(make_run(tmp_path / "one", repeats=1))
    text = markdown(all_tables(one))
    assert "1 repeat (seed 0): score [95 % interval, bootstrap by patient, 1,000 draws]." in text
    assert "one repeat cannot tell" in text
    assert "SD" not in text
    assert "SD" not in markdown(compare([one, one]))
    assert "Mean ± SD over repeats" in markdown(compare([one, run]))


def test_thresholds_are_kept_by_repeat_and_that_of_a_class_never_said_is_infinite(run: RunResults):
    assert run.thresholds == {ENSEMBLE: {"sex": (0.25, math.inf)}}
    assert thresholds(run) == (
        "“male” is said from a probability of 0.250, ∞ (never) on "
        "(by repeat, chosen on validation patients)."
    )
    assert thresholds(run, "mean") == ""


def test_extra_has_every_other_metric_of_every_task(run: RunResults):
    text = markdown(blocks(run, "2", extra=True))
    for task in run.tasks.values():
        assert f"{task.title}: other metrics" in text
        assert all(metric.name in text for metric in SECONDARY_METRICS[task.kind])
    assert "10 equal bins" in text
    assert "200 draws" in text
    assert "other metrics" not in markdown(blocks(run, "2"))


def test_a_value_that_no_repeat_has_is_told_and_so_is_why(tmp_path: Path):
    folder = make_run(tmp_path / "run")
    document = json.loads((folder / "results.json").read_text())
    for score in document["scores"]:
        for one in score["others"]:
            if one["metric"] == "AUROC":
                one |= {"mean": None, "low": None, "high": None, "values": [None, None]}
    (folder / "results.json").write_text(json.dumps(document))
    text = markdown(blocks(read_results(folder), "2", extra=True))
    assert "not defined" in text
    assert "Sex: AUROC is not defined in 2 of 2 repeats" in text


def test_figure_3_tells_rates_and_what_is_not_recorded(run: RunResults):
    (table,) = blocks(run, "figure3")
    told = row(table, "extraction: moment")
    assert told["ECGs/s"] == "30.0 on cuda"
    assert told["kB an ECG in the store"] == "1.0"
    assert told["peak memory"] == "not recorded"
    assert told[PARAMETERS] == NOT_FOR_THIS
    assert row(table, "extraction: dlinear (untrained")["ECGs/s"] == "not recorded"
    training = row(table, "training")
    assert (training["ECGs/s"], training["peak memory"]) == ("120", "1.50 GB")
    assert training[PARAMETERS] == "1,500 / 37,000"
    assert "The paper's figure 3 is not at hand." in table.notes


def test_csv_and_html_hold_the_same_cells(run: RunResults):
    tables = blocks(run, "2")
    cell = row(tables[0], ENSEMBLE)["Age"]
    assert cell in comma_separated(tables).replace('"', "")
    assert cell.partition(" [")[0] in html(tables)
    assert 'class="best"' in html(tables)


def test_a_table_that_the_run_has_nothing_for_is_refused(tmp_path: Path):
    run = read_results(make_run(tmp_path / "run", methods=(CONSTANT, *EXPERTS, ENSEMBLE)))
    for which in "13":
        with pytest.raises(UserError, match=f"which is what table {which} is about"):
            paper_table(run, which)
    assert [table.title[:7] for table in all_tables(run)] == ["Table 2"]


@pytest.mark.parametrize("name", ["config.json", "provenance.json", "results.json"])
def test_a_folder_that_is_no_whole_run_is_told_in_a_sentence(tmp_path: Path, name: str):
    folder = make_run(tmp_path / "run")
    for damaged in ("[]", "{}", '{"cut'):
        (folder / name).write_text(damaged)
        with pytest.raises(UserError, match=rf"{folder / name} is damaged or was written"):
            read_results(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match=r"is not a run folder|is incomplete"):
        read_results(folder)


def test_runs_are_found_below_a_folder_and_not_within_each_other(tmp_path: Path):
    wanted = [make_run(tmp_path / "night" / "a"), make_run(tmp_path / "z")]
    make_run(tmp_path / "z" / "repeat-0" / "inner")
    assert list(find_runs(tmp_path)) == wanted
    assert list(find_runs(tmp_path / "z")) == [tmp_path / "z"]


def test_a_list_of_runs_has_a_column_for_each_of_the_papers_tasks_and_one_for_all_others(
    run: RunResults, tmp_path: Path
):
    assert "own tasks" not in listed([run]).heading
    folder = make_run(tmp_path / "own")
    text = (folder / "results.json").read_text()
    for name, own in (("age", "qrs_axis"), ("sex", "smoker")):
        text = text.replace(f'"name": "{name}"', f'"name": "{own}"')
        text = text.replace(f'"task": "{name}"', f'"task": "{own}"')
    (folder / "results.json").write_text(text)
    table = listed([read_results(folder), run])
    assert [name.partition(" ")[0] for name in table.heading[5:]] == [
        *("age", "sex", "arrhythmia", "own")
    ]
    age = run.score(ENSEMBLE, "age")
    assert age is not None
    assert table.rows[0][5:7] == (NOT_FOR_THIS, NOT_FOR_THIS)
    assert table.rows[0][-1].startswith(f"qrs_axis {age.mean:.3f} ± ")
    assert table.rows[0][-1].endswith(", 1 more")
    assert table.rows[1][-1] == NOT_FOR_THIS


def test_comparing_tells_settings_first_and_only_those_that_differ(run: RunResults, tmp_path: Path):
    other = read_results(make_run(tmp_path / "second", settings={"fit": {"rank": 4}}))
    settings, *scores = compare([run, other])
    assert settings.heading == ("", "first", "second")
    assert settings.rows == (("fit rank", "8", "4"),)
    assert settings.notes == ("The same patients were trained and tested on in all of them.",)
    assert [table.title.partition(",")[0] for table in scores] == ["Age", "Sex", "Arrhythmia"]
    here = row(scores[0], ENSEMBLE)
    assert here["first"] == here["second"] == row(paper_table(run, "2"), ENSEMBLE)["Age"]


def test_comparing_warns_of_other_patients_and_refuses_other_data(run: RunResults, tmp_path: Path):
    others = read_results(make_run(tmp_path / "second", cohorts_digest="ef" * 32))
    assert compare([run, others])[0].notes[-1].startswith("WARNING: these runs were trained and")
    elsewhere = read_results(make_run(tmp_path / "third", dataset="ludb/1.0.1"))
    with pytest.raises(UserError, match=r"first of mimic-iv-ecg/1.0, third of ludb/1.0.1"):
        compare([run, elsewhere])


def test_runs_of_one_name_are_told_apart_by_their_folders(run: RunResults, tmp_path: Path):
    other = read_results(make_run(tmp_path / "first", repeats=1))
    assert compare([run, other])[0].heading == ("", str(run.folder), str(other.folder))


def test_predictions_hold_the_probabilities_of_their_own_record():
    one, age = predict("sex", ENSEMBLE, 0), predict("age", ENSEMBLE, 0)
    table = predictions_table([age, one]).to_pandas()
    assert table.loc[table["task"] == "age", "probability"].isna().all()
    of_sex = table[table["task"] == "sex"].set_index("record_id")
    assert one.probability is not None
    for record in (0, 17):
        told = of_sex.loc[one.record_id[record], "probability"]
        np.testing.assert_allclose(told, one.probability[record], rtol=1e-6)
    assert TASKS["sex"].classes == ("female", "male")
