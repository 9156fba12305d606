"""Splits by a table of folds: reading, cohorts, and their effect on a run."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from quick_runs import QUICK, RANDOM, copy_stores
from test_train import run

from enecg.errors import UserError
from pipeline.datasets.base import RecordIndex
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.evaluate import evaluate
from pipeline.labels.folds import Folds, fold_options, read_folds
from pipeline.train import Results
from pipeline.training.cohorts import split_by_part
from pipeline.training.settings import TrainSettings
from pipeline.training.sweep import SweepSettings, sweep
from pipeline.training.sweep_space import Space

INDEX = RecordIndex(np.arange(1, 9), np.array([10, 10, 20, 20, 30, 30, 40, 40]))


def write(path: Path, **columns: object) -> Path:
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def test_named_folds_need_no_mapping(tmp_path: Path):
    file = write(
        tmp_path / "folds.csv",
        record_id=[8, 7, 1, 2, 3, 4],
        fold=["test", "test", "train", "train", "validation", "validation"],
    )
    part = read_folds(Folds(str(file)), INDEX).part
    assert part[[1, 2, 3, 4, 7, 8]].tolist() == ["train"] * 2 + ["validation"] * 2 + ["test"] * 2
    assert part[[5, 6]].isna().all()


def test_numbered_folds_are_mapped_and_others_are_training(tmp_path: Path):
    file = write(
        tmp_path / "ptbxl_database.csv",
        ecg_id=[1, 2, 3, 4, 5, 6, 7, 8, 99],
        strat_fold=[9, 9, 10, 10, 1, 2, 1, 1, 3],
    )
    folds = Folds(str(file), "strat_fold", validation=(9,), test=(10,))  # type: ignore[arg-type]
    found = read_folds(folds, INDEX)
    expected = ["validation"] * 2 + ["test"] * 2 + ["train"] * 4
    assert found.part.tolist() == expected
    assert found.unknown_records == 1
    assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    only = Folds(str(file), "strat_fold", validation=("9",), test=("10",), train=("1",))
    limited = read_folds(only, INDEX)
    assert limited.part[[5, 7]].tolist() == ["train"] * 2
    assert limited.unused == {"2": 1}


def test_patient_in_two_parts_is_named_with_its_records(tmp_path: Path):
    file = write(tmp_path / "folds.csv", record_id=[1, 2, 3, 5], fold=[1, 2, 3, 4])
    folds = Folds(str(file), validation=("2",), test=("3",))
    with pytest.raises(
        UserError,
        match=r"1 patients in two parts .* such as 10 with record 1 in train and record 2 in val",
    ):
        read_folds(folds, INDEX)
    # A patient may be in two folds of the same part.
    both = Folds(str(file), validation=("3",), test=("4",))
    assert read_folds(both, INDEX).part[[1, 2]].tolist() == ["train", "train"]


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ({"column": "split"}, r"no column 'split', only record_id, fold; name the column .*--fold"),
        ({}, r"has no fold 'train' for train, only '1', '2', '3'"),
        ({"validation": ("2",)}, r"No fold of .* is selected for test \(folds: 1, 2, 3\)"),
        ({"validation": ("2",), "test": ("7",)}, r"has no fold '7' for test"),
        ({"validation": ("2",), "test": ("2",)}, r"Fold '2' .* selected for validation and for"),
    ],
)
def test_unusable_folds_are_errors(folds: dict[str, object], message: str, tmp_path: Path):
    file = write(tmp_path / "folds.csv", record_id=[1, 3, 5], fold=[1, 2, 3])
    with pytest.raises(UserError, match=message):
        read_folds(Folds(str(file), **folds), INDEX)  # type: ignore[arg-type]


def test_missing_file_and_options_without_file_are_errors(tmp_path: Path):
    with pytest.raises(UserError, match=r"none\.csv does not exist or is not a file"):
        read_folds(Folds(str(tmp_path / "none.csv")), INDEX)
    with pytest.raises(UserError, match="add --folds FILE"):
        fold_options(None, "fold", test=("10",))
    assert fold_options(None, "fold") is None


def test_file_with_other_patients_is_an_error(tmp_path: Path):
    file = write(tmp_path / "folds.csv", record_id=[1], patient_id=[11], fold=["test"])
    with pytest.raises(UserError, match="assigns 1 records to other patients"):
        read_folds(Folds(str(file)), INDEX, parts=("test",))


def test_one_ecg_per_patient_is_drawn_within_parts():
    part = pd.Series(["train"] * 4 + ["validation"] * 2 + ["test"] * 2, INDEX.record_id)
    cohort = split_by_part(INDEX.record_id, INDEX.patient_id, part, seed=0, ecgs="one")
    assert [len(cohort.train), len(cohort.validation), len(cohort.test)] == [2, 1, 1]
    every = split_by_part(INDEX.record_id, INDEX.patient_id, part, seed=0)
    assert every.record_id.tolist() == INDEX.record_id.tolist()
    with pytest.raises(UserError, match="No record of the test folds has an embedding"):
        split_by_part(INDEX.record_id[:6], INDEX.patient_id[:6], part, seed=0)


@pytest.fixture(scope="module")
def store(synthetic_stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_stores(synthetic_stores, tmp_path_factory.mktemp("stores"), "dlinear")


@pytest.fixture(scope="module")
def table(synthetic_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    index = MimicIvEcg(synthetic_dir).index()
    fold = pd.factorize(index.patient_id)[0] % 10 + 1
    frame = pd.DataFrame({"study_id": index.record_id, "strat_fold": fold})
    path = tmp_path_factory.mktemp("folds") / "folds.csv"
    pd.concat([frame[1:], pd.DataFrame({"study_id": [5], "strat_fold": [3]})]).to_csv(
        path, index=False
    )
    return path


@pytest.fixture(scope="module")
def folds(table: Path) -> Folds:
    return Folds(str(table), "strat_fold", validation=("9",), test=("10",))


@pytest.fixture(scope="module")
def results(
    synthetic_dir: Path, store: Path, folds: Folds, tmp_path_factory: pytest.TempPathFactory
) -> Results:
    out = tmp_path_factory.mktemp("runs") / "folds"
    return run(synthetic_dir, store, out, tasks=("age", "sex"), folds=folds)


def test_repeats_have_the_patients_of_the_folds_and_differ_in_seeds(results: Results, table: Path):
    fold = pd.read_csv(table).set_index("study_id")["strat_fold"]
    first, second = json.loads((results.folder / "cohorts.json").read_text())
    assert {part: first[part] for part in first if part != "seed"} == {
        part: second[part] for part in second if part != "seed"
    }
    assert (first["seed"], second["seed"]) == (0, 1)
    assert set(fold[first["test"]]) == {10}
    assert set(fold[first["validation"]]) == {9}
    assert set(fold[first["train"]]) == set(range(1, 9))
    age = next(score for score in results.scores if (score.task, score.method) == ("age", "EnECG"))
    assert age.values[0] != age.values[1]


def test_run_records_the_digest_and_counts_other_records(results: Results, table: Path):
    config = json.loads((results.folder / "config.json").read_text())
    digest = hashlib.sha256(table.read_bytes()).hexdigest()
    assert config["folds"] == {
        "file": "folds.csv",
        "sha256": digest,
        "column": "strat_fold",
        "train": [],
        "validation": ["9"],
        "test": ["10"],
    }
    text = results.markdown
    assert f"Split by column strat_fold of folds.csv (SHA-256 {digest[:12]})" in text
    assert "folds: validation 9; test 10; train all other folds." in text
    assert "1 records of folds.csv are not in the data set." in text
    assert "1 records with embeddings are in none of the selected folds." in text
    assert "Patients are split by folds" in text
    assert "70/20/10" not in text
    assert "variation with training is given by the SD" in text


def test_patients_cannot_be_combined_with_folds(
    synthetic_dir: Path, store: Path, folds: Folds, tmp_path: Path
):
    with pytest.raises(UserError, match="--patients draws patients at random, but --folds uses"):
        run(synthetic_dir, store, tmp_path / "run", folds=folds, patients=20)


def test_evaluation_is_restricted_to_the_test_folds(
    results: Results, synthetic_dir: Path, store: Path, table: Path
):
    data = f"mimic-iv-ecg:{synthetic_dir}"
    folds = Folds(str(table), "strat_fold", test=("10",))
    evaluation = evaluate(results.folder, data, store, folds=folds)
    fold = pd.read_csv(table).set_index("study_id")["strat_fold"]
    evaluated = np.concatenate([prediction.record_id for prediction in evaluation.predictions])
    assert set(fold[evaluated]) == {10}
    assert "of fold 10 in column strat_fold of folds.csv" in evaluation.markdown
    every = evaluate(results.folder, data, store)
    assert len(every.predictions[0].record_id) > len(evaluation.predictions[0].record_id)


def test_sweep_uses_the_folds_and_compares_their_digest(
    synthetic_dir: Path, store: Path, table: Path, tmp_path: Path
):
    copy = tmp_path / "folds.csv"
    copy.write_bytes(table.read_bytes())
    folds = Folds(str(copy), "strat_fold", validation=("9",), test=("10",))
    train = TrainSettings(tasks=("sex",), weights=RANDOM, folds=folds, fit=QUICK)
    settings = SweepSettings(train, Space(adaptation=("linear",), gate_depth=(1,)), trials=1)
    made = sweep(f"mimic-iv-ecg:{synthetic_dir}", store, tmp_path / "sweep", settings)
    assert made.summary.split == "by folds"
    assert any("Split by column strat_fold" in note for note in made.summary.notes)
    copy.write_text(copy.read_text().replace(",3\n", ",4\n"))
    with pytest.raises(UserError, match="contains a sweep with other options, data"):
        sweep(f"mimic-iv-ecg:{synthetic_dir}", store, tmp_path / "sweep", settings)
