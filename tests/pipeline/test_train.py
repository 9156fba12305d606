import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from enecg.ensembles import ENSEMBLES
from enecg.errors import UserError
from enecg.heads import FFN
from enecg.metrics import SECONDARY_METRICS
from pipeline.datasets.registry import open_dataset
from pipeline.evaluation.predictions import CONSTANT, ENSEMBLE, ZERO_SHOT
from pipeline.extract import extract
from pipeline.extraction.options import ExtractOptions
from pipeline.labels import make_labels
from pipeline.report.formats import markdown
from pipeline.report.paper_tables import all_tables, blocks
from pipeline.runs import results as runs
from pipeline.train import Results, train
from pipeline.training.settings import FitSettings, TrainSettings
from stores.embeddings import EmbeddingStore
from stores.errors import StoreError
from stores.opening import find_stores

RANDOM = ("random:0",)
QUICK = FitSettings(epochs=3, hidden=16)
EXPERTS = ("dlinear", "timesnet")


def extract_random(dataset: str, store: Path, *experts: str, **options: Any) -> None:
    """Extract with untrained weights."""
    extract(dataset, store, experts, options=ExtractOptions(weights=RANDOM, **options))


@pytest.fixture(scope="module")
def dataset(synthetic_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic data set without a single waveform: what training may not open is not there."""
    bare = tmp_path_factory.mktemp("bare") / "data"
    shutil.copytree(synthetic_dir, bare, ignore=shutil.ignore_patterns("files"))
    return bare


@pytest.fixture(scope="module")
def store(synthetic_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stores")
    extract_random(f"mimic-iv-ecg:{synthetic_dir}", root, *EXPERTS)
    return root


def run(dataset: Path, store: Path, out: Path, **settings: object) -> Results:
    chosen = {"weights": RANDOM, "repeats": 2, "fit": QUICK} | settings
    return train(f"mimic-iv-ecg:{dataset}", store, out, settings=TrainSettings(**chosen))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def results(dataset: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run(dataset, store, tmp_path_factory.mktemp("runs") / "first")


def test_all_tasks_are_trained_from_the_store_with_no_waveform_there(results: Results):
    assert {score.task for score in results.scores} == {
        "rr_interval",
        "age",
        "sex",
        "potassium",
        "arrhythmia",
    }
    methods = [score.method for score in results.scores if score.task == "age"]
    untrained = [ZERO_SHOT + name for name in EXPERTS]
    ensembles = [name for name in ENSEMBLES if name != "confidence"]  # not for regressions
    assert methods == [CONSTANT, *untrained, *EXPERTS, *ensembles, ENSEMBLE]
    assert all(score.low <= score.mean <= score.high for score in results.scores)


def test_a_file_of_labels_trains_to_the_same_scores_as_the_tables_that_it_is_from(
    results: Results, dataset: Path, store: Path, tmp_path: Path
):
    made = make_labels(open_dataset(f"mimic-iv-ecg:{dataset}"), tmp_path / "labels.parquet")
    bare = tmp_path / "data"
    bare.mkdir()
    for name in ("record_list.csv", "synthetic.json"):
        shutil.copy(dataset / name, bare)
    again = run(bare, store, tmp_path / "run", labels=str(made.path))
    assert again.scores == results.scores
    assert f"label digest {made.digest[:12]}" in again.markdown


def test_no_expert_is_built_in_training(
    dataset: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def built(*_: object) -> None:
        raise AssertionError("an expert was built")

    monkeypatch.setattr("enecg.experts.base.FrozenExpert.__init__", built)
    run(dataset, store, tmp_path / "run", repeats=1, tasks=("age",))


def test_no_patient_is_in_two_parts_of_a_repeat(results: Results, dataset: Path):
    patient = pd.read_csv(dataset / "record_list.csv").set_index("study_id")["subject_id"]
    repeats = json.loads((results.folder / "cohorts.json").read_text())
    assert [repeat["seed"] for repeat in repeats] == [0, 1]
    for repeat in repeats:
        parts = [set(patient.loc[repeat[part]]) for part in ("train", "validation", "test")]
        assert all(parts)
        assert sum(map(len, parts)) == len(set.union(*parts))
        assert [round(len(part) / 30, 1) for part in parts] == [0.7, 0.2, 0.1]


def test_every_answer_is_kept_with_its_record_and_is_about_that_record(
    results: Results, dataset: Path
):
    answers = pd.read_parquet(results.folder / "predictions.parquet")
    measured = pd.read_csv(dataset / "machine_measurements.csv").set_index("study_id")
    of_rr = answers[answers["task"] == "rr_interval"]
    np.testing.assert_allclose(
        of_rr["truth"], measured.loc[of_rr["record_id"], "rr_interval"], rtol=1e-5
    )
    tests = json.loads((results.folder / "cohorts.json").read_text())
    for number, repeat in enumerate(tests):
        assert set(of_rr.loc[of_rr["repeat"] == number, "record_id"]) <= set(repeat["test"])
    score = next(s for s in results.scores if (s.task, s.method) == ("rr_interval", ENSEMBLE))
    mine = of_rr[(of_rr["method"] == ENSEMBLE) & (of_rr["repeat"] == 0)]
    assert score.values[0] == pytest.approx((mine["truth"] - mine["predicted"]).abs().mean())


def test_the_run_folder_has_every_metric_and_every_probability(results: Results):
    document = json.loads((results.folder / "results.json").read_text())
    kinds = {task["name"]: task["kind"] for task in document["tasks"]}
    assert len(document["scores"]) == len(results.scores)
    for score in document["scores"]:
        wanted = [metric.name for metric in SECONDARY_METRICS[kinds[score["task"]]]]
        assert [one["metric"] for one in score["others"]] == wanted
    answers = pd.read_parquet(results.folder / "predictions.parquet")
    told = answers[answers["task"] == "sex"]
    probability = np.stack(told["probability"])
    np.testing.assert_allclose(probability.sum(1), 1, rtol=1e-4)
    mine = told[(told["method"] == ENSEMBLE) & (told["repeat"] == 0)]
    area = roc_auc_score(mine["truth"], np.stack(mine["probability"])[:, 1])
    score = next(s for s in results.scores if (s.task, s.method) == ("sex", ENSEMBLE))
    assert score.others[0].values[0] == pytest.approx(area)


def test_the_run_read_back_makes_the_same_tables_with_rates_and_memory(results: Results):
    run = runs.read_results(results.folder)
    assert run.scores == results.scores
    assert markdown(all_tables(run)) == results.markdown
    (costs,) = blocks(run, "figure3")
    assert [one[0].split()[1] for one in costs.rows[:-1]] == ["dlinear", "timesnet", "leads"]
    assert "GB" in costs.rows[-1][3]


def test_an_unknown_rr_of_29999_is_nobodys_truth(results: Results, dataset: Path):
    spoiled = json.loads((dataset / "synthetic.json").read_text())["spoiled"]["unknown_rr"]
    answers = pd.read_parquet(results.folder / "predictions.parquet")
    assert spoiled
    of_rr = answers[answers["task"] == "rr_interval"]
    assert not set(spoiled) & set(of_rr["record_id"])
    assert of_rr["truth"].max() < 3000


def test_untrained_weights_are_named_in_every_table(results: Results):
    for file in ("results.md", "results.html"):
        text = (results.folder / file).read_text()
        assert "dlinear (untrained, random:0)" in text
        assert "EnECG (of 2 untrained experts of 2)" in text


def test_the_table_has_a_constant_row_counts_seeds_and_intervals(results: Results):
    assert f"| {CONSTANT}" in results.markdown
    assert "test records (patients)" in results.markdown
    assert "seeds 0, 1" in results.markdown
    assert "95 % interval, bootstrap by patient" in results.markdown
    assert " ECGs could not be had and are left out." in results.markdown


def test_the_same_training_gives_the_same_numbers(
    results: Results, dataset: Path, store: Path, tmp_path: Path
):
    again = run(dataset, store, tmp_path / "again")
    assert again.scores == results.scores
    other = run(dataset, store, tmp_path / "other", seed=7)
    assert other.scores != results.scores


def dlinear_in(store: Path) -> EmbeddingStore:
    return next(
        one
        for one in find_stores(store, "synthetic/v1-seed0-patients30").stores
        if one.provenance["expert"] == "dlinear"
    )


def test_scalers_and_classes_are_fitted_on_training_records_alone(
    results: Results, dataset: Path, store: Path
):
    training = json.loads((results.folder / "cohorts.json").read_text())[0]["train"]
    folder = results.folder / "repeat-0"
    saved = load_file(folder / "heads" / "dlinear" / "base.safetensors")
    embeddings = dlinear_in(store)
    rows = embeddings.read(embeddings.rows_by_id(np.array(training))).astype(np.float32)
    np.testing.assert_allclose(saved["standardise.mean"], rows.mean(0), rtol=1e-4, atol=1e-5)
    targets = json.loads((folder / "targets.json").read_text())["targets"]
    measured = pd.read_csv(dataset / "machine_measurements.csv").set_index("study_id")
    rr = measured.loc[training, "rr_interval"]
    assert targets["rr_interval"]["mean"] == pytest.approx(rr[rr < 3000].mean())
    words = measured.loc[training, "report_0"].str.rstrip(".")
    assert set(targets["arrhythmia"]["classes"]) - {"Others"} <= set(words)


def test_saved_heads_are_pefts_own_and_answer_as_they_did(results: Results, store: Path):
    folder = results.folder / "repeat-0" / "heads" / "dlinear"
    age = json.loads((folder.parents[1] / "targets.json").read_text())["targets"]["age"]
    base = load_file(folder / "base.safetensors")
    ffn = FFN(2328, QUICK.hidden, 1, QUICK.dropout)
    ffn.hidden.load_state_dict(
        {part: base[f"ffn.age.hidden.{part}"] for part in ("weight", "bias")}
    )
    model = PeftModel.from_pretrained(ffn, str(folder / "age")).eval()
    embeddings = dlinear_in(store)
    answers = pd.read_parquet(results.folder / "predictions.parquet").query(
        "task == 'age' and method == 'dlinear' and repeat == 0"
    )
    rows = embeddings.rows_by_id(answers["record_id"].to_numpy())
    with torch.inference_mode():
        embedding = torch.from_numpy(embeddings.read(rows)).float()
        embedding = (embedding - base["standardise.mean"]) / base["standardise.scale"]
        standard = model(embedding)[:, 0].numpy()
    years = standard * age["scale"] + age["mean"]
    np.testing.assert_allclose(years, answers["predicted"], rtol=1e-4)


def test_weights_are_exactly_those_that_are_told(dataset: Path, store: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"no float16 embeddings .* random:1 .*dlinear \(random:0"):
        run(dataset, store, tmp_path / "run", weights=("random:1",))
    with pytest.raises(UserError, match="no float32 embeddings of dlinear"):
        run(dataset, store, tmp_path / "run", dtype="float32", experts=("dlinear",))


def test_records_that_are_not_extracted_are_counted_with_the_command_that_fills_them(
    synthetic_dir: Path, tmp_path: Path
):
    extract_random(f"mimic-iv-ecg:{synthetic_dir}", tmp_path / "lab", "dlinear", limit=20)
    with pytest.raises(StoreError, match=r"no embeddings of \d+ of \d+ records; extract them"):
        run(synthetic_dir, tmp_path / "lab", tmp_path / "run")
    few = run(synthetic_dir, tmp_path / "lab", tmp_path / "run", limit=20, tasks=("age",))
    assert few.scores[0].n[0] < 10


def test_a_part_without_a_label_is_told_before_anything_is_trained(
    dataset: Path, store: Path, tmp_path: Path, results: Results
):
    bare = tmp_path / "bare"
    shutil.copytree(dataset, bare)
    tests = json.loads((results.folder / "cohorts.json").read_text())[0]["test"]
    table = pd.read_csv(bare / "machine_measurements.csv")
    table.loc[table["study_id"].isin(tests), "rr_interval"] = 29999
    table.to_csv(bare / "machine_measurements.csv", index=False)
    with pytest.raises(UserError, match="No test patient drawn with seed 0 has a label for rr"):
        run(bare, store, tmp_path / "run", tasks=("rr_interval",))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tasks": ("height",)}, "no task 'height'; there are rr_interval, age"),
        ({"limit": 2}, "too few to split 70/20/10"),
    ],
)
def test_what_cannot_be_trained_is_told_in_a_sentence(
    settings: dict[str, object], words: str, dataset: Path, store: Path, tmp_path: Path
):
    with pytest.raises(UserError, match=words):
        run(dataset, store, tmp_path / "run", **settings)


def test_a_task_whose_labels_the_data_set_lacks_is_refused_and_all_leaves_it_out(
    dataset: Path, store: Path, tmp_path: Path
):
    bare = tmp_path / "bare"
    shutil.copytree(dataset, bare)
    (bare / "hosp" / "labevents.csv").unlink()
    with pytest.raises(UserError, match=r"no labels for potassium \(available: rr_interval"):
        run(bare, store, tmp_path / "run", tasks=("potassium",))
    every = run(bare, store, tmp_path / "run", repeats=1)
    assert "potassium" not in {score.task for score in every.scores}
    assert "The data set has no labels for potassium." in every.markdown


def test_a_folder_that_is_no_run_is_not_written_over(dataset: Path, store: Path, tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("all my work")
    with pytest.raises(UserError, match=r"is not empty and holds no earlier run .*thesis.tex"):
        run(dataset, store, tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "all my work"
