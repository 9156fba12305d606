"""The user's own tasks, from a file of labels through training to evaluation on other data."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from quick_runs import QUICK, RANDOM, copy_stores, extract_random
from test_train import EXPERTS, run

from enecg.errors import UserError
from pipeline.datasets.base import same_patients
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.evaluate import evaluate
from pipeline.evaluation.predictions import CHANCE, CONSTANT, ENSEMBLE, RIDGE
from pipeline.runs.predictor import load_predictor, read_run_features
from pipeline.runs.saved_run import SavedRun
from pipeline.synthetic.synthesize import synthesize
from pipeline.train import Results
from pipeline.training.features import Features, read_features
from pipeline.training.settings import FitSettings
from pipeline.training.store_selection import open_by_provenance
from stores.errors import StoreError

OWN = ("heart_rate:regression:bpm", "fast:binary:no", "rhythm group:multiclass", "male:binary")
NAMES = [task.split(":")[0] for task in OWN]


@pytest.fixture(scope="module")
def dataset(synthetic_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the synthetic data set without waveforms and labels."""
    bare = tmp_path_factory.mktemp("bare") / "data"
    left_out = shutil.ignore_patterns("files", "hosp", "machine_measurements.csv")
    shutil.copytree(synthetic_dir, bare, ignore=left_out)
    return bare


@pytest.fixture(scope="module")
def store(synthetic_stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_stores(synthetic_stores, tmp_path_factory.mktemp("stores"), *EXPERTS)


def own_labels(dataset: Path) -> pd.DataFrame:
    """Return labels that are numbers, words and booleans, some of them missing."""
    known = MimicIvEcg(dataset).labels()
    rate = 60_000 / known["rr_interval"]
    return pd.DataFrame(
        {
            "study_id": known.index,
            "heart_rate": rate.round(1),
            "fast": np.where(rate.isna(), None, np.where(rate > 75, "yes", "no")),
            "rhythm group": known["diagnosis"].str.split().str[0].str.lower(),
            "male": known["sex"].map({1.0: True, 0.0: False}),
            "age": known["age"],
        }
    )


@pytest.fixture(scope="module")
def labels(synthetic_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels") / "mine.csv"
    own_labels(synthetic_dir).sample(frac=1, random_state=0).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def results(
    dataset: Path, store: Path, labels: Path, tmp_path_factory: pytest.TempPathFactory
) -> Results:
    out = tmp_path_factory.mktemp("runs") / "own"
    options = {"tasks": ("all",), "own_tasks": OWN, "labels": str(labels)}
    return run(dataset, store, out, page=True, **options)


def predictions(results: Results) -> pd.DataFrame:
    return pd.read_parquet(results.folder / "predictions.parquet")


def test_own_tasks_are_trained_with_paper_tasks_in_the_file(results: Results):
    assert list(dict.fromkeys(score.task for score in results.scores)) == ["age", *NAMES]


def test_truth_of_own_tasks_belongs_to_its_record(results: Results, synthetic_dir: Path):
    labels = own_labels(synthetic_dir).set_index("study_id")
    rows = predictions(results).set_index("record_id")
    for name, truth in (
        ("heart_rate", labels["heart_rate"]),
        ("fast", labels["fast"].map({"yes": 0.0, "no": 1.0})),
        ("male", labels["male"].astype(float)),
    ):
        mine = rows[rows["task"] == name]
        assert len(mine) > 20
        np.testing.assert_allclose(mine["truth"], truth[mine.index], rtol=1e-5)


def test_own_tasks_are_reported_with_unit_and_positive_class(results: Results):
    page = (results.folder / "results.html").read_text()
    for text in (results.markdown, page.replace("&#39;", "'")):
        for expected in ("heart rate", "MAE bpm ↓", "rhythm group"):
            assert expected in text
        assert "Positive class of binary tasks: no (fast), true (male)." in text
        assert "fast: other metrics (positive class: no)" in text or text is results.markdown
        assert "male: 'true' is the positive class by default" in text
        assert "fast: 'no' is the positive class by default" not in text
        assert re.search(r"Labels from mine.csv \(SHA-256 [0-9a-f]{12}\)", text)
    assert "has no labels for" not in results.markdown
    papers = next(row for row in results.markdown.splitlines() if "(paper)" in row)
    assert [cell.strip() for cell in papers.split("|")[3:-2]] == ["–"] * (
        len(OWN) + 2
    )  # two columns per binary task


def test_own_tasks_are_trained_in_addition_to_named_tasks(
    dataset: Path, store: Path, labels: Path, tmp_path: Path
):
    chosen = {"own_tasks": OWN[:1], "labels": str(labels), "repeats": 1, "fit": QUICK}
    both = run(dataset, store, tmp_path / "both", tasks=("age",), **chosen)
    assert {score.task for score in both.scores} == {"age", "heart_rate"}
    for number, tasks in enumerate([("heart_rate",), ()]):
        alone = run(dataset, store, tmp_path / f"alone{number}", tasks=tasks, **chosen)
        assert {score.task for score in alone.scores} == {"heart_rate"}
    with pytest.raises(UserError, match=r"mine.csv has no labels for sex; add labels in sex, or"):
        run(dataset, store, tmp_path / "sex", tasks=("sex",), **chosen)
    none = pd.read_csv(labels)[["study_id"]].assign(note="x")
    none.to_csv(tmp_path / "none.csv", index=False)
    with pytest.raises(UserError, match=r"none.csv has no labels for any task; add a column"):
        run(dataset, store, tmp_path / "none", labels=str(tmp_path / "none.csv"))
    none.assign(sex="Unknown").to_csv(tmp_path / "unknown.csv", index=False)
    with pytest.raises(UserError, match=r"no labels for any task; .* such as 'Unknown' of record"):
        run(dataset, store, tmp_path / "none", labels=str(tmp_path / "unknown.csv"))


def test_single_training_class_and_missing_test_labels_are_reported_before_training(
    dataset: Path, store: Path, tmp_path: Path, results: Results, labels: Path
):
    test = json.loads((results.folder / "cohorts.json").read_text())[0]["test"]
    file = pd.read_csv(labels)[["study_id"]].assign(rare=0)
    file.loc[file["study_id"].isin(test), "rare"] = 1
    file.to_csv(tmp_path / "rare.csv", index=False)
    with pytest.raises(UserError, match="rare has 1 distinct labels among the training patients"):
        run(dataset, store, tmp_path / "run", own_tasks=("rare:binary",),
            labels=str(tmp_path / "rare.csv"))  # fmt: skip
    file = file.assign(rare=lambda rows: rows.index.to_numpy() % 2)
    file[~file["study_id"].isin(test)].to_csv(tmp_path / "rare.csv", index=False)
    with pytest.raises(UserError, match="Repeat with seed 0: no test patient has a label for rare"):
        run(dataset, store, tmp_path / "run", own_tasks=("rare:binary",),
            labels=str(tmp_path / "rare.csv"))  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_labels_of_a_single_training_patient_are_reported(
    dataset: Path, store: Path, tmp_path: Path, results: Results, labels: Path
):
    train = json.loads((results.folder / "cohorts.json").read_text())[0]["train"]
    index = MimicIvEcg(dataset).index()
    patients = pd.Series(index.patient_id, index=index.record_id)[train]
    others = patients[patients != patients.mode()[0]].index
    assert len(train) - len(others) > 1
    file = pd.read_csv(labels)[["study_id"]].assign(dose=lambda rows: rows.index * 1.0)
    file[~file["study_id"].isin(others)].to_csv(tmp_path / "dose.csv", index=False)
    with pytest.raises(UserError, match="Repeat with seed 0: only one training patient has a"):
        run(dataset, store, tmp_path / "run", own_tasks=("dose:regression:mg",),
            labels=str(tmp_path / "dose.csv"))  # fmt: skip


def test_class_without_training_patients_is_excluded_and_reported(
    dataset: Path, store: Path, tmp_path: Path, results: Results, labels: Path
):
    test = json.loads((results.folder / "cohorts.json").read_text())[0]["test"]
    file = pd.read_csv(labels)[["study_id"]].assign(kind=lambda rows: rows.index.to_numpy() % 3)
    file.loc[file["study_id"] == test[0], "kind"] = 9
    file.to_csv(tmp_path / "kinds.csv", index=False)
    made = run(
        *(dataset, store, tmp_path / "run"),
        **{"own_tasks": ("kind:multiclass",), "labels": str(tmp_path / "kinds.csv"), "repeats": 1},
    )
    assert test[0] not in set(predictions(made)["record_id"])
    assert "kind: excluded 1 test records of classes that no training patient has" in made.markdown


def features_of(results: Results, store: Path, namespace: str, ids: np.ndarray) -> Features:
    stores = SavedRun(results.folder).stores
    return read_features(open_by_provenance(store, namespace, stores, "an extraction"), ids, "cpu")


SETTINGS = {
    "lora": {},
    "linear": {"adaptation": "linear"},
    "shared-lora": {"adaptation": "shared-lora"},
    "full": {"adaptation": "full", "gate_depth": 2, "mixture": "logits"},
    "weights per class": {"gate_weights": "output", "top_k": 1},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_loaded_run_reproduces_predictions(
    name: str, dataset: Path, store: Path, labels: Path, results: Results, tmp_path: Path
):
    tasks, repeats = ["age", *NAMES], 2
    if name != "lora":
        # A task of each kind.
        tasks, repeats = NAMES[:3], 1
        fit = FitSettings(epochs=3, hidden=16, **SETTINGS[name])  # type: ignore[arg-type]
        options = {"own_tasks": OWN[:3], "labels": str(labels), "repeats": repeats, "fit": fit}
        results = run(dataset, store, tmp_path / "run", tasks=tuple(tasks), **options)
    rows = predictions(results)
    for repeat in range(repeats):
        mine = rows[rows["repeat"] == repeat]
        ids = mine["record_id"].unique()
        features = features_of(results, store, MimicIvEcg(dataset).namespace, ids)
        predicted = load_predictor(results.folder, repeat).predict(features)
        assert list(predicted) == [*EXPERTS, ENSEMBLE, RIDGE]
        for method, of_tasks in predicted.items():
            assert list(of_tasks) == tasks
            for task, values in of_tasks.items():
                given = mine[(mine["method"] == method) & (mine["task"] == task)]
                now = pd.Series(values, ids)[given["record_id"]]
                np.testing.assert_allclose(now, given["predicted"], rtol=1e-4, atol=1e-4)


def test_incomplete_run_is_reported(results: Results, tmp_path: Path):
    with pytest.raises(UserError, match=r"is not a run folder: config.json is missing"):
        load_predictor(tmp_path)
    with pytest.raises(UserError, match="has no repeat 2; valid repeats are 0 to 1"):
        load_predictor(results.folder, 2)
    broken = tmp_path / "broken"
    shutil.copytree(results.folder, broken)
    (broken / "repeat-0" / "gate" / "base.safetensors").unlink()
    with pytest.raises(UserError, match=r"is incomplete, .*base.safetensors.*Train again"):
        load_predictor(broken)
    for name in ("gate/adapter_config.json", "heads/dlinear/age/adapter_config.json",
                 "heads/dlinear/age/adapter_model.safetensors"):  # fmt: skip
        shutil.copytree(results.folder, broken, dirs_exist_ok=True)
        (broken / "repeat-0" / name).unlink()
        with pytest.raises(UserError, match=f"is incomplete, .*{Path(name).name}"):
            load_predictor(broken)
    targets = broken / "repeat-1" / "targets.json"
    targets.write_text(targets.read_text().replace('"constant"', '"another"'))
    with pytest.raises(
        UserError, match=r"or was written by another version of EnECG \(KeyError: 'const"
    ):
        load_predictor(broken, 1)


@pytest.mark.parametrize("text", ["{}", "[]", "{", ""])
@pytest.mark.parametrize("name", ["config.json", "cohorts.json", "repeat-0/targets.json"])
def test_damaged_run_is_reported(
    name: str, text: str, results: Results, dataset: Path, store: Path, tmp_path: Path
):
    broken = tmp_path / "broken"
    shutil.copytree(results.folder, broken)
    (broken / name).write_text(text)
    with pytest.raises(UserError, match=r"[Tt]rain"):
        evaluate(broken, f"mimic-iv-ecg:{dataset}", store)


def test_records_without_embedding_are_reported(results: Results, store: Path, synthetic_dir: Path):
    index = MimicIvEcg(synthetic_dir).index().record_id
    ids = SavedRun(results.folder).cohorts[0]["test"][:2]
    features = read_run_features(results.folder, store, np.array(ids))
    assert features.record_id.tolist() == ids
    with pytest.raises(UserError, match=r"no embeddings for 1 of 3 records, such as 7;"):
        read_run_features(results.folder, store, np.array([*ids, 7]))
    spoiled = set(index.tolist()) - set(records_with_leads(store, results))
    with pytest.raises(UserError, match=r"no embeddings for 1 of 1 records"):
        read_run_features(results.folder, store, np.array([min(spoiled)]))
    without = replace(features, experts={"dlinear": features.experts["dlinear"]})
    with pytest.raises(UserError, match=r"expects \d+ features of timesnet, but got none"):
        load_predictor(results.folder).predict(without)


def records_with_leads(store: Path, results: Results) -> list[int]:
    stores = SavedRun(results.folder).stores
    leads = open_by_provenance(store, stores[0]["dataset"], stores, "").leads
    complete: list[int] = leads.record_id[leads.status() == 1].tolist()
    return complete


def test_evaluation_on_own_data_reproduces_test_scores(
    results: Results, dataset: Path, store: Path, labels: Path, tmp_path: Path
):
    """The cohort has all patients, so the patients unseen by a repeat are its test patients."""
    evaluated = evaluate(
        results.folder, f"mimic-iv-ecg:{dataset}", store, labels=labels, out=tmp_path / "evaluated"
    )
    before = {(score.method, score.task): score for score in results.scores}
    assert {score.task for score in evaluated.scores} == {"age", *NAMES}
    assert {score.method for score in evaluated.scores} == {
        CONSTANT,
        CHANCE,
        RIDGE,
        *EXPERTS,
        ENSEMBLE,
    }
    for score in evaluated.scores:
        then = before[score.method, score.task]
        assert (score.n, score.patients) == (then.n, then.patients)
        np.testing.assert_allclose(score.values, then.values, rtol=1e-4)
    assert (tmp_path / "evaluated" / "results.md").read_text() == evaluated.markdown
    rows = pd.read_parquet(tmp_path / "evaluated" / "predictions.parquet")
    for number, cohort in enumerate(SavedRun(results.folder).cohorts):
        mine = rows.loc[rows["repeat"] == number]
        assert set(mine["record_id"]) <= set(cohort["test"])
        assert not set(mine["patient_id"]) & set(cohort["patients_seen"])


def test_releases_of_mimic_share_patients():
    assert same_patients("mimic-iv-ecg/1.0", "mimic-iv-ecg-demo/0.1")
    assert not same_patients("mimic-iv-ecg/1.0", "ludb/1.0.1")
    assert not same_patients("synthetic/v1-seed0-patients30", "synthetic/v1-seed1-patients30")


@pytest.fixture(scope="module")
def other_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("other_data") / "data"
    synthesize(directory, patients=8, seed=1)
    return directory


@pytest.fixture(scope="module")
def both_stores(store: Path, other_data: Path) -> Path:
    extract_random(f"mimic-iv-ecg:{other_data}", store, *EXPERTS)
    return store


def test_evaluation_on_other_data_uses_all_patients_and_reports_missing_labels(
    results: Results, other_data: Path, both_stores: Path
):
    evaluated = evaluate(results.folder, f"mimic-iv-ecg:{other_data}", both_stores)
    assert {score.task for score in evaluated.scores} == {"age"}
    skipped = "Skipped tasks without labels: heart_rate, fast, rhythm group, male"
    assert skipped in evaluated.markdown
    known = MimicIvEcg(other_data).labels()["age"]
    for prediction in evaluated.predictions:
        np.testing.assert_allclose(prediction.truth, known[prediction.record_id], rtol=1e-5)
    constants = [
        prediction for prediction in evaluated.predictions if prediction.method == CONSTANT
    ]
    for repeat, prediction in enumerate(constants):
        assert set(prediction.predicted) == {
            load_predictor(results.folder, repeat).targets["age"].constant
        }
        assert len(prediction.truth) > 10


def test_own_tasks_need_the_same_classes_on_other_data(
    results: Results, other_data: Path, both_stores: Path, tmp_path: Path
):
    mine = own_labels(other_data)
    mine.to_csv(tmp_path / "mine.csv", index=False)
    given = (results.folder, f"mimic-iv-ecg:{other_data}", both_stores)
    evaluated = evaluate(*given, labels=tmp_path / "mine.csv")
    assert {score.task for score in evaluated.scores} == {"age", *NAMES}
    mine["rhythm group"] = "unknown class"
    mine.to_csv(tmp_path / "mine.csv", index=False)
    evaluated = evaluate(*given, labels=tmp_path / "mine.csv")
    assert "rhythm group is skipped: for at least one repeat, no label is" in evaluated.markdown
    mine.loc[mine.index[:2], "fast"] = "perhaps"
    mine.to_csv(tmp_path / "mine.csv", index=False)
    evaluated = evaluate(*given, labels=tmp_path / "mine.csv")
    assert "mine.csv: values of fast other than 'yes' and 'no', such as 'perhaps' of" in (
        evaluated.markdown
    )
    mine["fast"] = "perhaps"
    mine.to_csv(tmp_path / "mine.csv", index=False)
    with pytest.raises(
        UserError, match=r"column fast has neither 'yes' nor 'no', but values such as 'perhaps'"
    ):
        evaluate(*given, labels=tmp_path / "mine.csv")


def test_missing_embeddings_are_reported_with_the_command_to_extract_them(
    results: Results, synthetic_dir: Path, other_data: Path, tmp_path: Path
):
    given = (results.folder, f"mimic-iv-ecg:{other_data}", tmp_path / "lab")
    with pytest.raises(StoreError, match=r"no embeddings of dlinear .*available: none"):
        evaluate(*given)
    extract_random(f"mimic-iv-ecg:{other_data}", tmp_path / "lab", "dlinear", dtype="float32")
    with pytest.raises(StoreError, match=r"available: dtype 'float32' instead of 'float16'"):
        evaluate(*given)
    extract_random(f"mimic-iv-ecg:{other_data}", tmp_path / "lab", *EXPERTS, limit=6)
    message = r"no embeddings for \d+ of \d+ records; extract them .* --experts dlinear,timesnet "
    with pytest.raises(StoreError, match=message + f"--weights {RANDOM[0]} .* --dtype float16"):
        evaluate(*given)
    assert evaluate(*given, limit=6).scores[0].n[0] <= 6


def test_evaluation_needs_unseen_patients(
    results: Results, dataset: Path, store: Path, labels: Path, tmp_path: Path
):
    seen = set(SavedRun(results.folder).cohorts[0]["patients_seen"])
    seen &= set(SavedRun(results.folder).cohorts[1]["patients_seen"])
    index = MimicIvEcg(dataset).index()
    of_seen = index.record_id[np.isin(index.patient_id, list(seen))]
    file = pd.read_csv(labels)
    file[file["study_id"].isin(of_seen)].to_csv(tmp_path / "seen.csv", index=False)
    with pytest.raises(UserError, match="has no task that can be evaluated"):
        evaluate(results.folder, f"mimic-iv-ecg:{dataset}", store, labels=tmp_path / "seen.csv")


def test_evaluation_does_not_overwrite_a_run(
    results: Results, dataset: Path, store: Path, labels: Path
):
    with pytest.raises(UserError, match="does not contain an earlier evaluation"):
        evaluate(
            results.folder, f"mimic-iv-ecg:{dataset}", store, labels=labels, out=results.folder
        )
