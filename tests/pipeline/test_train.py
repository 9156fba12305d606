"""Training on the stores of the synthetic data set, and the resulting run folder."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PeftModel
from quick_runs import QUICK, RANDOM, copy_stores, extract_random
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from enecg.ensembles import ENSEMBLES
from enecg.errors import UserError
from enecg.heads import FFN, compress_outliers
from enecg.laplace_kernel import laplace_kernels
from enecg.metrics import SECONDARY_METRICS
from enecg.quantile_bins import QuantileBins, encoded_size
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.datasets.registry import open_dataset
from pipeline.evaluate import evaluate
from pipeline.evaluation.predictions import CHANCE, CONSTANT, ENSEMBLE, RIDGE, ZERO_SHOT
from pipeline.evaluation.scores import Score
from pipeline.labels import make_labels
from pipeline.report.formats import to_markdown
from pipeline.report.notes import NOT_A_DEVICE
from pipeline.report.paper_tables import all_tables, other_metrics_tables, tables_with_notes
from pipeline.runs import results as runs
from pipeline.runs.predictor import load_predictor, read_run_features
from pipeline.runs.saved_run import SavedRun
from pipeline.train import Results, train
from pipeline.training import matching_stores, store_selection
from pipeline.training.features import read_features
from pipeline.training.settings import TrainSettings
from stores.embeddings import EmbeddingStore
from stores.errors import StoreError
from stores.opening import open_stores
from stores.status import WHOLE

EXPERTS = ("dlinear", "timesnet")


@pytest.fixture(scope="module")
def dataset(synthetic_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the synthetic data set without waveforms, which training must not read."""
    bare = tmp_path_factory.mktemp("bare") / "data"
    shutil.copytree(synthetic_dir, bare, ignore=shutil.ignore_patterns("files"))
    return bare


@pytest.fixture(scope="module")
def store(synthetic_stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_stores(synthetic_stores, tmp_path_factory.mktemp("stores"), *EXPERTS)


def run(
    dataset: Path, store: Path, out: Path, *, page: bool = False, **overrides: object
) -> Results:
    options = {"weights": RANDOM, "repeats": 2, "fit": QUICK} | overrides
    settings = TrainSettings(**options)  # type: ignore[arg-type]
    return train(f"mimic-iv-ecg:{dataset}", store, out, settings=settings, page=page)


@pytest.fixture(scope="module")
def results(dataset: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run(dataset, store, tmp_path_factory.mktemp("runs") / "first", page=True)


def read_predictions(results: Results, task: str) -> pd.DataFrame:
    table = pd.read_parquet(results.folder / "predictions.parquet")
    return table[table["task"] == task]


def find_score(results: Results, task: str, method: str) -> Score:
    return next(score for score in results.scores if (score.task, score.method) == (task, method))


def test_run_of_one_expert_has_no_gate_and_no_ensembles(dataset: Path, store: Path, tmp_path: Path):
    alone = run(dataset, store, tmp_path / "run", experts=("dlinear",), tasks=("sex", "age"))
    assert {score.method for score in alone.scores} == {
        *(CONSTANT, CHANCE, RIDGE, ENSEMBLE),
        *(f"{ZERO_SHOT}dlinear", "dlinear"),
    }
    for task in ("sex", "age"):
        expert, mixture = (find_score(alone, task, name) for name in ("dlinear", ENSEMBLE))
        assert replace(mixture, method="dlinear") == expert
    assert "no gate and no ensembles" in alone.markdown
    assert "| EnECG (1 of 1" not in alone.markdown
    assert not list(alone.folder.rglob("gate"))
    record_id = open_stores(store).stores[0].record_id[:5]
    predicted = load_predictor(alone.folder).predict(
        read_run_features(alone.folder, store, record_id)
    )
    assert np.array_equal(predicted[ENSEMBLE]["age"], predicted["dlinear"]["age"])
    with pytest.raises(UserError, match="has one expert"):
        tables_with_notes(runs.read_results(alone.folder), "3")


def test_results_do_not_depend_on_the_memory_limit(dataset: Path, store: Path, tmp_path: Path):
    scores = [
        run(dataset, store, tmp_path / str(limit), fit=fit, tasks=("age", "sex")).scores
        for limit in (QUICK.memory_limit, 1e-6)
        for fit in [replace(QUICK, memory_limit=limit)]
    ]
    assert scores[0] == scores[1]


def test_embeddings_beyond_the_limit_are_read_when_they_are_used(
    results: Results, store: Path, monkeypatch: pytest.MonkeyPatch
):
    stores = SavedRun(results.folder).stores
    opened = store_selection.open_by_provenance(store, stores[0]["dataset"], stores, "")
    record_id = opened.leads.record_id[opened.leads.status() == WHOLE]
    eager = read_features(opened, record_id, "cpu")
    read: list[str] = []

    def record_read(self: EmbeddingStore, *args: object, **kwargs: object) -> np.ndarray:
        read.append(self.provenance["expert"])
        return original(self, *args, **kwargs)  # type: ignore[arg-type]

    original = EmbeddingStore.read
    monkeypatch.setattr(EmbeddingStore, "read", record_read)
    lazy = read_features(opened, record_id, "cpu", max_bytes=1000)
    assert read == ["leads"]
    assert list(lazy.experts) == list(eager.experts)
    assert torch.equal(lazy.experts["timesnet"], eager.experts["timesnet"])
    assert read == ["leads", "timesnet"]


def test_run_without_page_writes_no_html_and_reports_progress(
    dataset: Path, store: Path, tmp_path: Path
):
    steps: list[tuple[int, int]] = []
    settings = TrainSettings(weights=RANDOM, repeats=1, fit=QUICK, tasks=("sex",))
    plain = train(
        f"mimic-iv-ecg:{dataset}",
        store,
        tmp_path / "run",
        settings=settings,
        progress=lambda done, total: steps.append((done, total)),
        page=False,
    )
    assert plain.page is None
    assert not list(plain.folder.rglob("*.html"))
    assert (plain.folder / "results.md").read_text() == plain.markdown
    assert steps == [(done, 4) for done in range(5)]


def test_training_without_waveforms_scores_every_method_and_task(results: Results):
    assert {score.task for score in results.scores} == {
        "rr_interval",
        "age",
        "sex",
        "potassium",
        "arrhythmia",
    }
    methods = [score.method for score in results.scores if score.task == "age"]
    untrained = [ZERO_SHOT + name for name in EXPERTS]
    ensembles = [name for name in ENSEMBLES if name != "confidence"]  # supports no regression tasks
    assert methods == [CONSTANT, *untrained, RIDGE, *EXPERTS, *ensembles, ENSEMBLE]
    assert all(score.low <= score.mean <= score.high for score in results.scores)


def test_scores_with_a_label_file_equal_those_with_its_source_tables(
    results: Results, dataset: Path, store: Path, tmp_path: Path
):
    label_file = make_labels(open_dataset(f"mimic-iv-ecg:{dataset}"), tmp_path / "labels.parquet")
    bare = tmp_path / "data"
    bare.mkdir()
    for name in ("record_list.csv", "synthetic.json"):
        shutil.copy(dataset / name, bare)
    from_file = run(bare, store, tmp_path / "run", labels=str(label_file.path))
    assert from_file.scores == results.scores
    assert f"label digest {label_file.digest[:12]}" in from_file.markdown


def test_training_builds_no_expert(
    dataset: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise AssertionError("an expert was built")

    monkeypatch.setattr("enecg.experts.base.FrozenExpert.__init__", fail)
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


def test_config_has_the_number_of_records_of_each_cohort(
    dataset: Path, store: Path, tmp_path: Path
):
    run(dataset, store, tmp_path / "run", repeats=2, tasks=("age",), patients=20)
    few = runs.read_results(tmp_path / "run")
    parts = ("train", "validation", "test")
    cohorts = json.loads((few.folder / "cohorts.json").read_text())
    used = [sum(len(cohort[part]) for part in parts) for cohort in cohorts]
    assert few.config["repeat_records"] == used
    assert max(used) < few.config["records"]


def test_saved_predictions_have_the_truth_of_their_record(results: Results, dataset: Path):
    rr = read_predictions(results, "rr_interval")
    measured = pd.read_csv(dataset / "machine_measurements.csv").set_index("study_id")
    np.testing.assert_allclose(rr["truth"], measured.loc[rr["record_id"], "rr_interval"], rtol=1e-5)
    cohorts = json.loads((results.folder / "cohorts.json").read_text())
    for repeat, cohort in enumerate(cohorts):
        assert set(rr.loc[rr["repeat"] == repeat, "record_id"]) <= set(cohort["test"])
    score = find_score(results, "rr_interval", ENSEMBLE)
    first = rr[(rr["method"] == ENSEMBLE) & (rr["repeat"] == 0)]
    assert score.values[0] == pytest.approx((first["truth"] - first["predicted"]).abs().mean())


def test_run_folder_has_all_metrics_and_probabilities(results: Results):
    document = json.loads((results.folder / "results.json").read_text())
    kinds = {task["name"]: task["kind"] for task in document["tasks"]}
    assert len(document["scores"]) == len(results.scores)
    for score in document["scores"]:
        expected = [metric.name for metric in SECONDARY_METRICS[kinds[score["task"]]]]
        if score["method"] == CHANCE:
            expected.remove("ECE")
        assert [other["metric"] for other in score["others"]] == expected
    sex = read_predictions(results, "sex")
    np.testing.assert_allclose(np.stack(sex["probability"]).sum(1), 1, rtol=1e-4)
    first = sex[(sex["method"] == ENSEMBLE) & (sex["repeat"] == 0)]
    auroc = roc_auc_score(first["truth"], np.stack(first["probability"])[:, 1])
    score = find_score(results, "sex", ENSEMBLE)
    assert score.others[0].values[0] == pytest.approx(auroc)


def test_tables_of_a_loaded_run_equal_the_original(results: Results):
    run = runs.read_results(results.folder)
    assert run.scores == results.scores
    assert results.markdown == f"{to_markdown(all_tables(run))}\n{NOT_A_DEVICE}\n"
    (resources,) = tables_with_notes(run, "figure3")
    assert [row[0].split()[1] for row in resources.rows[:-2]] == ["dlinear", "timesnet", "leads"]
    assert "GB" in resources.rows[-1][3]


def test_rr_interval_29999_is_treated_as_missing(results: Results, dataset: Path):
    unknown = json.loads((dataset / "synthetic.json").read_text())["spoiled"]["unknown_rr"]
    rr = read_predictions(results, "rr_interval")
    assert unknown
    assert not set(unknown) & set(rr["record_id"])
    assert rr["truth"].max() < 3000


def test_tables_and_page_mark_experts_with_random_weights(results: Results):
    for file in ("results.md", "results.html"):
        text = (results.folder / file).read_text()
        assert "dlinear (untrained, random:0)" in text
        assert "EnECG (2 of 2 experts untrained)" in text


def test_tables_have_constant_predictor_counts_seeds_and_intervals(results: Results):
    assert f"| {CONSTANT}" in results.markdown
    assert "test records (patients)" in results.markdown
    assert "seeds 0, 1" in results.markdown
    assert "95% interval, bootstrap by patient" in results.markdown
    assert " unreadable ECGs." in results.markdown


def shuffle_over_patients(dataset: Path, out: Path) -> None:
    """Write a label file in which the labels are permuted over patients."""
    labels = open_dataset(f"mimic-iv-ecg:{dataset}").labels()
    tasks = ["rr_interval", "age", "sex", "potassium", "diagnosis"]
    patients = labels["patient_id"].unique()
    order = np.random.default_rng(0).permutation(patients)
    shuffled = []
    for patient, other in zip(patients, order, strict=True):
        given = labels.loc[labels["patient_id"] == other, tasks]
        ids = labels.index[labels["patient_id"] == patient]
        rows = given.iloc[np.arange(len(ids)) % len(given)]
        shuffled.append(rows.set_axis(ids))
    pd.concat(shuffled).rename_axis("study_id").to_csv(out)


@pytest.mark.slow
def test_no_cell_is_marked_if_labels_are_shuffled_over_patients(
    dataset: Path, store: Path, tmp_path: Path
):
    shuffle_over_patients(dataset, tmp_path / "shuffled.csv")
    labels = str(tmp_path / "shuffled.csv")
    shuffled = run(dataset, store, tmp_path / "run", page=True, labels=labels)
    read = runs.read_results(shuffled.folder)
    tables = [*all_tables(read), *other_metrics_tables(read, read.methods)]
    marked = [
        (table.rows[row][0], table.heading[column])
        for table in tables
        for row, column in table.best
    ]
    assert marked == []
    assert "| chance " in shuffled.markdown
    assert 'class="best"' not in (shuffled.folder / "results.html").read_text()


def test_training_is_reproducible(dataset: Path, store: Path, tmp_path: Path):
    first, again, other = (
        run(dataset, store, tmp_path / str(number), seed=seed, tasks=("age",), repeats=1).scores
        for number, seed in enumerate((0, 0, 7))
    )
    assert again == first
    assert other != first


def open_dlinear(root: Path) -> EmbeddingStore:
    return next(
        store
        for store in open_stores(root, "synthetic/v1-seed0-patients30").stores
        if store.provenance["expert"] == "dlinear"
    )


def test_standardization_and_classes_are_fitted_on_training_records(
    results: Results, dataset: Path, store: Path
):
    training = json.loads((results.folder / "cohorts.json").read_text())[0]["train"]
    folder = results.folder / "repeat-0"
    saved = load_file(folder / "heads" / "dlinear" / "base.safetensors")
    embeddings = open_dlinear(store)
    rows = embeddings.read(embeddings.rows_by_id(np.array(training))).astype(np.float32)
    np.testing.assert_allclose(saved["standardise.mean"], rows.mean(0), rtol=1e-4, atol=1e-5)
    targets = json.loads((folder / "targets.json").read_text())["targets"]
    measured = pd.read_csv(dataset / "machine_measurements.csv").set_index("study_id")
    rr = measured.loc[training, "rr_interval"]
    assert targets["rr_interval"]["mean"] == pytest.approx(rr[rr < 3000].mean())
    reports = measured.loc[training, "report_0"].str.rstrip(".").str.lower()
    assert set(targets["arrhythmia"]["classes"]) - {"Others"} <= set(reports)


def test_saved_heads_load_with_peft_and_reproduce_predictions(results: Results, store: Path):
    folder = results.folder / "repeat-0" / "heads" / "dlinear"
    age = json.loads((folder.parents[1] / "targets.json").read_text())["targets"]["age"]
    base = load_file(folder / "base.safetensors")
    encode = QuantileBins(2328)
    encode.load_state_dict({"edges": base["encode.edges"]})
    ffn = FFN(2328, QUICK.hidden, 1, QUICK.dropout, linear_features=encoded_size(2328))
    assert ffn.linear is not None
    ffn.linear.load_state_dict(
        {part: base[f"ffn.age.linear.{part}"] for part in ("weight", "bias")}
    )
    ffn.hidden.load_state_dict(
        {part: base[f"ffn.age.hidden.{part}"] for part in ("weight", "bias")}
    )
    model = PeftModel.from_pretrained(ffn, str(folder / "age")).eval()
    embeddings = open_dlinear(store)
    saved = read_predictions(results, "age").query("method == 'dlinear' and repeat == 0")
    rows = embeddings.rows_by_id(saved["record_id"].to_numpy())
    with torch.inference_mode():
        embedding = torch.from_numpy(embeddings.read(rows)).float()
        embedding = (embedding - base["standardise.mean"]) / base["standardise.scale"]
        features = compress_outliers(embedding)
        rates, weight = base["kernel.rates.age"], base["kernel.weight.age"]
        kernels = laplace_kernels(features, base["kernel.landmarks"], rates.unsqueeze(0))
        output = model(features, encode(features)) + kernels[0] @ weight.T
        standardized = output[:, 0].numpy()
    years = standardized * age["scale"] + age["mean"]
    np.testing.assert_allclose(years, saved["predicted"], rtol=1e-4)


def test_stores_with_other_weights_or_dtype_are_not_used(
    dataset: Path, store: Path, tmp_path: Path
):
    with pytest.raises(UserError, match=r"no float16 embeddings .* random:1 .*dlinear \(random:0"):
        run(dataset, store, tmp_path / "run", weights=("random:1",))
    with pytest.raises(UserError, match="no float32 embeddings of dlinear"):
        run(dataset, store, tmp_path / "run", dtype="float32", experts=("dlinear",))


def test_stores_of_another_decode_version_are_named(
    dataset: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(matching_stores, "DECODE_VERSION", 99)
    with pytest.raises(UserError, match=r"dlinear \(random:0, float16, decode_version \d+ .* 99\)"):
        run(dataset, store, tmp_path / "run")


def test_error_for_missing_records_contains_the_extract_command(
    synthetic_dir: Path, tmp_path: Path
):
    extract_random(f"mimic-iv-ecg:{synthetic_dir}", tmp_path / "lab", "dlinear", limit=20)
    message = r"no embeddings for \d+ of \d+ records; extract them with enecg extract"
    with pytest.raises(StoreError, match=message):
        run(synthetic_dir, tmp_path / "lab", tmp_path / "run")
    few = run(synthetic_dir, tmp_path / "lab", tmp_path / "run", limit=20, tasks=("age",))
    assert few.scores[0].n[0] < 10


def test_records_of_a_file_are_used_for_training_and_evaluation(
    dataset: Path, store: Path, tmp_path: Path
):
    index = MimicIvEcg(dataset).index()
    chosen = index.record_id[np.isin(index.patient_id, np.unique(index.patient_id)[:15])]
    file = tmp_path / "chosen.txt"
    file.write_text("\n".join(map(str, chosen)))
    given = {"records": str(file), "tasks": ("age",), "repeats": 1}
    few = run(dataset, store, tmp_path / "run", **given)
    (cohort,) = json.loads((few.folder / "cohorts.json").read_text())
    used = {record for part in ("train", "validation", "test") for record in cohort[part]}
    assert used
    assert used <= set(chosen.tolist())
    assert json.loads((few.folder / "config.json").read_text())["settings"]["records"] == str(file)

    others = tmp_path / "others.csv"
    unused = index.record_id[~np.isin(index.record_id, chosen)][:7]
    pd.DataFrame({"record_id": unused}).to_csv(others, index=False)
    evaluation = evaluate(few.folder, f"mimic-iv-ecg:{dataset}", store, records=others)
    found = {
        record for prediction in evaluation.predictions for record in prediction.record_id.tolist()
    }
    assert found <= set(unused.tolist())
    file.write_text("12345")
    with pytest.raises(UserError, match=r"chosen.txt lists 1 records that are not in the data set"):
        run(dataset, store, tmp_path / "other", **given)


def test_part_without_labels_is_rejected_before_training(
    dataset: Path, store: Path, tmp_path: Path, results: Results
):
    bare = tmp_path / "bare"
    shutil.copytree(dataset, bare)
    tests = json.loads((results.folder / "cohorts.json").read_text())[0]["test"]
    table = pd.read_csv(bare / "machine_measurements.csv")
    table.loc[table["study_id"].isin(tests), "rr_interval"] = 29999
    table.to_csv(bare / "machine_measurements.csv", index=False)
    message = "Repeat with seed 0: no test patient has a label for rr_interval"
    with pytest.raises(UserError, match=message):
        run(bare, store, tmp_path / "run", tasks=("rr_interval",))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"tasks": ("height",)}, "Unknown task 'height'; available: rr_interval, age"),
        ({"limit": 2}, "too few to split 70/20/10"),
    ],
)
def test_invalid_settings_raise_user_error(
    overrides: dict[str, object], message: str, dataset: Path, store: Path, tmp_path: Path
):
    with pytest.raises(UserError, match=message):
        run(dataset, store, tmp_path / "run", **overrides)


def test_task_without_labels_is_rejected_by_name_and_skipped_by_default(
    dataset: Path, store: Path, tmp_path: Path
):
    bare = tmp_path / "bare"
    shutil.copytree(dataset, bare)
    (bare / "hosp" / "labevents.csv").unlink()
    with pytest.raises(
        UserError,
        match=r"synthetic/\S+ has no labels for potassium \(available: rr_.*columns potassium as",
    ):
        run(bare, store, tmp_path / "run", tasks=("potassium",))
    results = run(bare, store, tmp_path / "run", repeats=1)
    assert "potassium" not in {score.task for score in results.scores}
    assert "The data set has no labels for potassium." in results.markdown


def test_folder_with_other_files_is_not_overwritten(dataset: Path, store: Path, tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("all my work")
    with pytest.raises(
        UserError, match=r"does not contain an earlier run \(it contains thesis.tex"
    ):
        run(dataset, store, tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "all my work"
