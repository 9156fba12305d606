"""Results of the same experts with random weights, and of EnECG without each expert."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from quick_runs import QUICK, copy_stores
from safetensors.torch import save_file

import enecg
from enecg import TrainSettings
from enecg.errors import UserError
from enecg.experts import load_expert
from flows.cli import enecg as enecg_app
from flows.run_app import run_app
from pipeline.evaluation.predictions import ENSEMBLE, RANDOM, WITHOUT
from pipeline.report.paper_tables import tables_with_notes
from pipeline.runs.results import read_results

TASKS = ("age", "sex")


def predictions(folder: Path, method: str) -> pd.DataFrame:
    table = pd.read_parquet(folder / "predictions.parquet")
    table = table[table["method"] == method].drop(columns="method").reset_index(drop=True)
    assert len(table)
    return table.assign(probability=table["probability"].map(str))


@pytest.fixture(scope="module")
def lab(
    synthetic_dir: Path, synthetic_stores: Path, tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """A run of dlinear (weights from a file) and measurements, with both kinds of baselines."""
    folder = tmp_path_factory.mktemp("baselines")
    dataset, store = f"mimic-iv-ecg:{synthetic_dir}", folder / "store"
    weights = folder / "dlinear.safetensors"
    model = load_expert("dlinear", "random:7").model
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, weights)
    options = enecg.ExtractOptions(weights=(f"dlinear@{weights}",))
    copy_stores(synthetic_stores, store, "dlinear", "measurements")
    enecg.extract(dataset, store, ("dlinear",), options=options)
    settings = TrainSettings(
        tasks=TASKS,
        experts=("dlinear", "measurements"),
        weights=(f"dlinear@{weights}",),
        repeats=2,
        fit=QUICK,
    )
    both = replace(settings, baselines="random", leave_one_out=True)
    run = enecg.train(dataset, store, folder / "run", settings=both)
    return SimpleNamespace(
        dataset=dataset, store=store, weights=weights, settings=settings, run=run, folder=folder
    )


def train(lab: SimpleNamespace, out: Path, **options: object) -> Path:
    settings = replace(lab.settings, **options)
    return enecg.train(lab.dataset, lab.store, out, settings=settings, page=False).folder


def test_baseline_equals_the_expert_of_a_run_with_random_weights(
    lab: SimpleNamespace, tmp_path: Path
):
    other = train(lab, tmp_path / "run", weights=("random:0",))
    baseline = predictions(lab.run.folder, RANDOM + "dlinear")
    pd.testing.assert_frame_equal(baseline, predictions(other, "dlinear"))
    assert not baseline.equals(predictions(lab.run.folder, "dlinear"))


def test_other_methods_do_not_depend_on_the_options(lab: SimpleNamespace, tmp_path: Path):
    plain = read_results(train(lab, tmp_path / "run"))
    run = read_results(lab.run.folder)
    added = {RANDOM + "dlinear", WITHOUT + "dlinear", WITHOUT + "measurements"}
    assert set(run.methods) - set(plain.methods) == added
    assert [score for score in run.scores if score.method not in added] == list(plain.scores)
    assert run.ensembles == plain.ensembles
    assert plain.random_baselines == {}


def test_without_one_of_two_experts_enecg_equals_the_other(lab: SimpleNamespace):
    for expert, other in (("dlinear", "measurements"), ("measurements", "dlinear")):
        pd.testing.assert_frame_equal(
            predictions(lab.run.folder, WITHOUT + expert), predictions(lab.run.folder, other)
        )


def test_tables_and_page_show_baselines_and_differences(lab: SimpleNamespace):
    run = read_results(lab.run.folder)
    label = "dlinear (untrained, random:0)"
    (table,) = tables_with_notes(run, "2")
    names = [row[0] for row in table.rows if not row[0].endswith("(paper)")]
    assert names.index(label) == names.index("dlinear") + 1
    (table,) = tables_with_notes(run, "random-weights")
    assert [row[0] for row in table.rows] == [f"dlinear − {label}"]
    difference = next(one for one in run.differences if one.method == "dlinear")
    scores = [run.score(method, difference.task) for method in ("dlinear", RANDOM + "dlinear")]
    assert scores[0] is not None
    assert scores[1] is not None
    assert difference.mean == pytest.approx(scores[0].mean - scores[1].mean)
    (table,) = tables_with_notes(run, "leave-one-out")
    assert [row[0] for row in table.rows] == [
        ENSEMBLE,
        f"{ENSEMBLE} without dlinear",
        f"{ENSEMBLE} without measurements",
    ]
    scores = [run.score(method, "age") for method in (ENSEMBLE, WITHOUT + "dlinear")]
    difference = next(one for one in run.differences if one.reference == WITHOUT + "dlinear")
    assert scores[0] is not None
    assert scores[1] is not None
    assert difference.mean == pytest.approx(scores[0].mean - scores[1].mean)
    text = (lab.run.folder / "results.md").read_text()
    page = (lab.run.folder / "results.html").read_text()
    for shown in (text, page):
        assert label in shown
        assert "Leave one out" in shown
        assert "Untrained weights" not in shown
    names = [row[0] for row in tables_with_notes(run, "differences")[0].rows]
    assert not any("without" in name or "dlinear" in name for name in names)


def test_config_contains_the_store_of_the_baseline(lab: SimpleNamespace):
    config = json.loads((lab.run.folder / "config.json").read_text())
    (baseline,) = config["random_baselines"]
    assert (baseline["expert"], baseline["weights"]) == ("dlinear", "random:0")
    assert baseline["identity"] in baseline["location"]
    assert "random:0" not in (lab.run.folder / "provenance.json").read_text()


def test_error_for_a_missing_store_contains_the_command_that_extracts_it(
    lab: SimpleNamespace, tmp_path: Path
):
    with pytest.raises(UserError, match="no float16 embeddings of dlinear with weights random:3"):
        train(lab, tmp_path / "run", baselines="random:3")
    message = ""
    try:
        train(lab, tmp_path / "run", baselines="random:3", limit=30)
    except UserError as error:
        message = str(error)
    command = message.partition("extract them with ")[2]
    assert command.startswith("enecg extract ")
    assert "dlinear.moving_avg=25" in command
    assert run_app(enecg_app(), shlex.split(command)[1:]) == 0
    train(lab, tmp_path / "run", baselines="random:3", limit=30)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baselines": "seed"}, "--baselines seed is not valid; use random or random:SEED"),
        ({"baselines": "random:-1"}, "--baselines random:-1 is not valid"),
        (
            {"baselines": "random", "weights": ("random:0",)},
            "needs an expert with published weights.*have random weights or none",
        ),
        (
            {"leave_one_out": True, "experts": ("dlinear",)},
            "--leave-one-out requires at least two experts, but the only one is dlinear",
        ),
    ],
)
def test_invalid_options_are_rejected(
    lab: SimpleNamespace, tmp_path: Path, options: dict[str, object], message: str
):
    with pytest.raises(UserError, match=message):
        train(lab, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_options_of_the_command_line_reach_the_run(lab: SimpleNamespace, tmp_path: Path):
    arguments = [
        *("train", "--dataset", lab.dataset, "--store", str(lab.store), "--out"),
        *(str(tmp_path / "run"), "--experts", "dlinear,measurements", "--tasks", "age"),
        *("--weights", f"dlinear@{lab.weights}", "--repeats", "1", "--epochs", "1", "--no-page"),
        *("--baselines", "random", "--leave-one-out"),
    ]
    assert run_app(enecg_app(), arguments) == 0
    methods = read_results(tmp_path / "run").methods
    assert {RANDOM + "dlinear", WITHOUT + "measurements"} <= set(methods)
