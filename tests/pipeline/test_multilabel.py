"""Multilabel tasks, from a file of labels through training to evaluation."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from quick_runs import RANDOM, copy_stores
from sklearn.metrics import roc_auc_score
from test_train import find_score, run

from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.evaluate import evaluate
from pipeline.evaluation.predictions import CHANCE, CONSTANT, ENSEMBLE
from pipeline.runs.predictor import load_predictor, read_run_features
from pipeline.runs.saved_run import SavedRun
from pipeline.train import Results
from pipeline.training.settings import FitSettings, TrainSettings
from pipeline.training.sweep import SweepSettings, sweep
from pipeline.training.sweep_space import Space

TASKS = ("findings:multilabel", "pair:multilabel:slow+old")
EXPERTS = ("dlinear", "timesnet")


@pytest.fixture(scope="module")
def store(synthetic_stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_stores(synthetic_stores, tmp_path_factory.mktemp("stores"), *EXPERTS)


@pytest.fixture(scope="module")
def labels(synthetic_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with labels from heart rate, age and sex; those of three records are missing."""
    known = MimicIvEcg(synthetic_dir).labels()
    rate = (60_000 / known["rr_interval"]).to_numpy()
    findings = {
        "fast": rate > 75,
        "old": (known["age"] > 60).to_numpy(),
        "male": (known["sex"] == 1).to_numpy(),
        "never": np.zeros(len(known), bool),
        "always": np.ones(len(known), bool),
    }
    cells = [
        ";".join(name for name, has in findings.items() if has[row]) for row in range(len(known))
    ]
    frame = pd.DataFrame(
        {
            "study_id": known.index,
            "findings": cells,
            "slow": np.where(rate > 75, 0, 1),
            "old": findings["old"].astype(int),
        }
    )
    frame.loc[:2, ["findings", "slow", "old"]] = None
    path = tmp_path_factory.mktemp("labels") / "mine.csv"
    frame.to_csv(path, index=False)
    return path


SETTINGS = {"epochs": 4, "hidden": 16}


@pytest.fixture(scope="module")
def results(
    synthetic_dir: Path, store: Path, labels: Path, tmp_path_factory: pytest.TempPathFactory
) -> Results:
    out = tmp_path_factory.mktemp("runs") / "labels"
    options = {"own_tasks": TASKS, "labels": str(labels), "fit": FitSettings(**SETTINGS)}  # type: ignore[arg-type]
    return run(synthetic_dir, store, out, page=True, **options)


def test_labels_are_learned_and_scored_against_baselines(results: Results):
    score = find_score(results, "findings", ENSEMBLE)
    assert score.metric == "macro-AUROC"
    assert score.mean > find_score(results, "findings", CHANCE).mean + 0.1
    assert find_score(results, "findings", CONSTANT).mean == pytest.approx(0.5)
    assert {measure.metric for measure in score.others} == {"macro-F1", "macro-AUPRC"}
    assert score.low <= score.mean <= score.high


def test_score_is_the_mean_auroc_of_the_predictions_file(results: Results):
    table = pd.read_parquet(results.folder / "predictions.parquet")
    mine = table[(table["task"] == "findings") & (table["method"] == ENSEMBLE)]
    for repeat, value in enumerate(find_score(results, "findings", ENSEMBLE).values):
        areas = [
            roc_auc_score(one["truth"], np.stack(list(one["probability"]))[:, 1])
            for _, one in mine[mine["repeat"] == repeat].groupby("label")
            if one["truth"].nunique() == 2
        ]
        assert np.mean(areas) == pytest.approx(value, abs=1e-6)


def test_truth_of_labels_belongs_to_its_record(results: Results, labels: Path):
    frame = pd.read_csv(labels).set_index("study_id")
    table = pd.read_parquet(results.folder / "predictions.parquet").set_index("record_id")
    for label in ("fast", "old", "male"):
        mine = table[(table["task"] == "findings") & (table["label"] == label)]
        expected = frame["findings"][mine.index].str.split(";").map(set(label.split()).issubset)
        np.testing.assert_array_equal(mine["truth"], expected.astype(float))
    slow = table[(table["task"] == "pair") & (table["label"] == "slow")]
    np.testing.assert_array_equal(slow["truth"], frame["slow"][slow.index])
    assert len(slow) > 20


def test_label_lists_are_from_training_records_and_exclusions_are_counted(results: Results):
    targets = json.loads((results.folder / "repeat-0" / "targets.json").read_text())
    assert set(targets["targets"]["findings"]["classes"]) == {"fast", "old", "male"}
    assert targets["targets"]["pair"]["columns"] == ["slow", "old"]
    assert len(targets["thresholds"][ENSEMBLE]["findings"]) == 3
    assert (
        "findings: excluded 1 labels (always) that occur in none or all of the training records"
        in results.markdown
    )


def test_page_has_a_table_of_labels_and_tables_have_both_metrics(results: Results):
    page = (results.folder / "results.html").read_text()
    assert "findings: labels" in page
    assert "positive in training, %" in page.replace("\n", ", ")
    assert "positive test records, by repeat" in page.replace("\n", ", ")
    for text in (page.replace("\n", ", "), results.markdown):
        assert "findings, macro-AUROC ↑" in text
        assert "findings, macro-F1 ↑" in text
    assert "Multilabel tasks: macro-AUROC is the mean over the labels" in results.markdown


@pytest.mark.parametrize(
    "fit",
    [
        {},
        {"adaptation": "lora", "gate_weights": "output"},
        pytest.param({"adaptation": "shared-lora"}, marks=pytest.mark.slow),
        {"adaptation": "full", "gate_weights": "output", "top_k": 1},
    ],
    ids=lambda fit: " ".join(map(str, fit.values())) or "default",
)
def test_loaded_run_reproduces_predictions(
    fit: dict[str, object],
    synthetic_dir: Path,
    store: Path,
    labels: Path,
    results: Results,
    tmp_path: Path,
):
    if fit:
        settings = FitSettings(**SETTINGS, **fit)  # type: ignore[arg-type]
        options = {"own_tasks": TASKS[:1], "labels": str(labels), "fit": settings}
        results = run(synthetic_dir, store, tmp_path / "run", **options)
    table = pd.read_parquet(results.folder / "predictions.parquet")
    mine = table[(table["repeat"] == 1) & (table["task"] == "findings")]
    ids = mine["record_id"].unique()
    features = read_run_features(results.folder, store, ids)
    predictor = load_predictor(results.folder, 1)
    outputs, predicted = predictor.outputs(features), predictor.predict(features)
    for method in (*EXPERTS, ENSEMBLE):
        for number, label in enumerate(predictor.targets["findings"].classes):
            one = mine[(mine["method"] == method) & (mine["label"] == label)]
            one = one.set_index("record_id").loc[ids]
            saved = np.stack(list(one["probability"]))[:, 1]
            np.testing.assert_allclose(outputs[method]["findings"][:, number], saved, atol=1e-5)
            np.testing.assert_array_equal(
                predicted[method]["findings"][:, number], one["predicted"]
            )
    weights = predictor.gate_weights(features)["findings"]
    assert weights.shape[1] == (3 if fit.get("gate_weights") == "output" else 1)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)


def test_sweep_finds_a_lower_loss_than_the_constant_predictor(
    synthetic_dir: Path, store: Path, labels: Path, tmp_path: Path
):
    settings = TrainSettings(
        own_tasks=TASKS[:1],
        labels=str(labels),
        weights=RANDOM,
        fit=FitSettings(epochs=2, hidden=8),
    )
    space = Space(adaptation=("linear-lora",), gate_depth=(1,))
    made = sweep(
        f"mimic-iv-ecg:{synthetic_dir}",
        store,
        tmp_path / "sweep",
        SweepSettings(settings, space, 1),
    )
    assert 0.3 < made.loss < 1


def test_evaluation_reproduces_test_scores_and_ignores_unknown_labels(
    results: Results, synthetic_dir: Path, store: Path, labels: Path, tmp_path: Path
):
    data = f"mimic-iv-ecg:{synthetic_dir}"
    evaluated = evaluate(results.folder, data, store, labels=labels, out=tmp_path / "evaluated")
    for score in evaluated.scores:
        if score.task == "findings":
            before = find_score(results, score.task, score.method)
            np.testing.assert_allclose(score.values, before.values, rtol=1e-4)
    assert "findings: 1 labels, such as always (" in evaluated.markdown
    assert len(SavedRun(results.folder).targets(0)["pair"].classes) == 2
