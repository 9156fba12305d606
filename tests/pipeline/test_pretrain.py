"""Pretraining: patients, resuming, and protection of test patients."""

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from quick_runs import QUICK, extract_random
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import enecg
from enecg import PretrainSettings, TrainSettings
from enecg.errors import UserError
from enecg.pretraining import Pretraining
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.training.cohorts import Cohort
from pipeline.training.pretraining_patients import PretrainedExpert, count_validation_patients
from pipeline.training.sweep import Sweep, SweepSettings, sweep
from pipeline.training.sweep_space import Space
from stores.opening import open_stores

SMALL = (
    *("model_size=4", "feed_forward_size=4", "layers=1", "kernels=1", "top_k=1"),
    "channels=12",
)


class Killed(BaseException):
    pass


def kill_at(records: int):
    """Return a progress callback that raises `Killed` once this many records are done."""

    def progress(done: int, total: int) -> None:
        if done >= records:
            raise Killed

    return progress


def read_list(path: Path) -> set[str]:
    return set(path.read_text().splitlines())


def read_patients(dataset: MimicIvEcg, run: Path, part: str = "test") -> list[set[str]]:
    """Return the ids of the patients of a part, for each repeat of a run."""
    index = dataset.index()
    patient_of = dict(zip(index.record_id.tolist(), index.patient_id.tolist(), strict=True))
    cohorts = json.loads((run / "cohorts.json").read_text())
    return [{str(patient_of[record]) for record in cohort[part]} for cohort in cohorts]


@pytest.fixture(scope="module")
def lab(synthetic_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """DLinear pretrained for one training repeat with seed 0, and its embeddings in a store."""
    folder = tmp_path_factory.mktemp("pretrained")
    dataset = f"mimic-iv-ecg:{synthetic_dir}"
    settings = PretrainSettings(epochs=2, repeats=1)
    result = enecg.pretrain(dataset, folder / "dlinear", "dlinear", settings=settings)
    weights = (f"dlinear@{result.weights}",)
    enecg.extract(
        dataset,
        folder / "store",
        ("dlinear",),
        options=enecg.ExtractOptions(weights=weights, pooling=("mean",)),
    )
    train_settings = TrainSettings(
        tasks=("age",),
        experts=("dlinear",),
        weights=weights,
        pooling=("mean",),
        repeats=1,
        fit=QUICK,
    )
    return SimpleNamespace(
        dataset=dataset,
        store=folder / "store",
        result=result,
        settings=settings,
        train=train_settings,
    )


@pytest.fixture
def run(lab: SimpleNamespace, tmp_path: Path) -> Path:
    enecg.train(lab.dataset, lab.store, tmp_path / "run", settings=lab.train, page=False)
    return tmp_path / "run"


def test_error_decreases_and_the_curve_is_written(lab: SimpleNamespace):
    folder = lab.result.weights.parent
    curve = pd.read_csv(folder / "curve.csv")
    assert curve["epoch"].tolist() == [0, 1, 2]
    assert curve["validation_error"].is_monotonic_decreasing
    assert lab.result.best.epoch == 2
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_weights_state_their_origin(lab: SimpleNamespace):
    patients = lab.result.patients_file.read_bytes()
    with safe_open(lab.result.weights, "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["pretraining"]) == {
        "dataset": "synthetic/v1-seed0-patients30",
        "patients": lab.result.patients,
        "patients_sha256": hashlib.sha256(patients).hexdigest(),
    }
    provenance = json.loads(metadata["provenance"])
    assert provenance["expert"] == "dlinear"
    assert provenance["settings"]["mask_ratio"] == [0.125, 0.5]
    assert provenance["epoch"] == 2
    assert provenance["versions"]["torch"] == torch.__version__
    assert metadata["moving_avg"] == "25"


def test_store_states_the_pretraining_but_not_the_patients(lab: SimpleNamespace):
    store = next(
        opened
        for opened in open_stores(lab.store).stores
        if opened.provenance["expert"] == "dlinear"
    )
    stated = Pretraining.from_json(store.provenance["pretraining"], "store")
    assert stated.patients == lab.result.patients
    documents = [path.read_text() for path in lab.store.rglob("*.json")]
    first = min(read_list(lab.result.patients_file))
    assert not any(first in document for document in documents)


def test_unreadable_records_are_counted_and_listed(lab: SimpleNamespace, synthetic_dir: Path):
    listed = pd.read_csv(lab.result.weights.parent / "unreadable.csv")
    assert len(listed) == lab.result.unreadable > 0
    assert set(listed["reason"]) <= {"cut_file", "missing_file", "nan_samples", "flat_lead"}
    assert set(listed["record_id"]) <= set(MimicIvEcg(synthetic_dir).index().record_id)


def test_files_are_private_by_default(lab: SimpleNamespace):
    folder = lab.result.weights.parent
    assert folder.stat().st_mode & 0o777 == 0o700
    private = [lab.result.weights, lab.result.patients_file, folder / "state.pt"]
    assert {path.stat().st_mode & 0o077 for path in private} == {0}


def test_test_patients_of_all_repeats_are_not_used(
    lab: SimpleNamespace, synthetic_dir: Path, tmp_path: Path
):
    # A patient without a readable record changes the patients that training draws.
    data = tmp_path / "data"
    shutil.copytree(synthetic_dir, data)
    index = MimicIvEcg(data).index()
    for patient in np.unique(index.patient_id)[[3, 11]]:
        for path in data.glob(f"files/*/p{patient}/*/*.dat"):
            path.unlink()
    dataset = f"mimic-iv-ecg:{data}"
    extract_random(dataset, tmp_path / "store", "dlinear")
    settings = TrainSettings(tasks=("age",), weights=("random:0",), repeats=3, seed=5, fit=QUICK)
    enecg.train(dataset, tmp_path / "store", tmp_path / "run", settings=settings, page=False)
    result = enecg.pretrain(
        dataset, tmp_path / "out", "dlinear", settings=PretrainSettings(epochs=1, seed=5)
    )
    used = read_list(result.patients_file)
    tested = set.union(*read_patients(MimicIvEcg(data), tmp_path / "run"))
    assert not used & tested
    # Training never draws the patients without a readable record, so they may be listed as used.
    assert used | tested == set(map(str, index.patient_id))


def test_resumed_pretraining_run_equals_an_uninterrupted_one(lab: SimpleNamespace, tmp_path: Path):
    settings = PretrainSettings(sizes=SMALL, epochs=2, repeats=1, batch_size=8)
    enecg.pretrain(lab.dataset, tmp_path / "whole", settings=settings)
    for records in (20, 60, 75):
        with pytest.raises(Killed):
            enecg.pretrain(
                lab.dataset,
                tmp_path / "killed",
                settings=PretrainSettings(**vars(settings) | {"checkpoint_minutes": 0.0}),
                progress=kill_at(records),
            )
        assert not (tmp_path / "killed" / "timesnet.safetensors").exists()
    enecg.pretrain(lab.dataset, tmp_path / "killed", settings=settings)
    whole, killed = (
        load_file(tmp_path / name / "timesnet.safetensors") for name in ("whole", "killed")
    )
    assert whole.keys() == killed.keys()
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    for name in ("curve.csv", "unreadable.csv", "timesnet.patients.txt"):
        assert (tmp_path / "whole" / name).read_text() == (tmp_path / "killed" / name).read_text()


def test_finished_pretraining_run_is_not_repeated_and_continues_with_more_epochs(
    lab: SimpleNamespace, tmp_path: Path
):
    folder = tmp_path / "dlinear"
    shutil.copytree(lab.result.weights.parent, folder)
    before = (folder / "dlinear.safetensors").read_bytes()
    calls: list[int] = []
    enecg.pretrain(
        *(lab.dataset, folder, "dlinear"),
        settings=lab.settings,
        progress=lambda done, total: calls.append(done),
    )
    assert not calls
    assert (folder / "dlinear.safetensors").read_bytes() == before
    more = PretrainSettings(**vars(lab.settings) | {"epochs": 3})
    result = enecg.pretrain(lab.dataset, folder, "dlinear", settings=more)
    assert [epoch.epoch for epoch in result.epochs] == [0, 1, 2, 3]


def test_folder_of_a_different_pretraining_run_is_rejected(lab: SimpleNamespace):
    folder = lab.result.weights.parent
    other = PretrainSettings(**vars(lab.settings) | {"mask_length": 5})
    with pytest.raises(UserError, match=r"contains a pretraining run with other options.*settings"):
        enecg.pretrain(lab.dataset, folder, "dlinear", settings=other)


@pytest.mark.parametrize(
    ("expert", "sizes", "message"),
    [
        ("moment", (), "moment cannot be pretrained; available: dlinear, timesnet"),
        ("dlinear", ("layers=2",), "dlinear has no size 'layers'; available: individual, moving"),
        ("timesnet", ("layers=0",), "layers = 0 is not an integer from 1 to 24"),
    ],
)
def test_invalid_options_are_rejected(
    lab: SimpleNamespace, tmp_path: Path, expert: str, sizes: tuple[str, ...], message: str
):
    with pytest.raises(UserError, match=message):
        enecg.pretrain(
            lab.dataset, tmp_path / "out", expert, settings=PretrainSettings(sizes=sizes)
        )
    assert not (tmp_path / "out").exists()


def test_patients_of_given_records_are_not_used(
    lab: SimpleNamespace, synthetic_dir: Path, tmp_path: Path
):
    index = MimicIvEcg(synthetic_dir).index()
    (tmp_path / "records.csv").write_text(f"record_id\n{index.record_id[0]}\n{index.record_id[-1]}")
    settings = PretrainSettings(epochs=1, exclude_records=str(tmp_path / "records.csv"))
    result = enecg.pretrain(lab.dataset, tmp_path / "out", "dlinear", settings=settings)
    excluded = {str(index.patient_id[row]) for row in (0, -1)}
    assert read_list(result.patients_file) == set(map(str, index.patient_id)) - excluded


def test_training_with_the_same_split_states_the_pretraining(
    lab: SimpleNamespace, run: Path, synthetic_dir: Path
):
    (tested,) = read_patients(MimicIvEcg(synthetic_dir), run)
    assert not tested & read_list(lab.result.patients_file)
    note = f"pretrained on the ECGs of {lab.result.patients} patients of synthetic/v1-seed0"
    assert note in (run / "results.md").read_text()
    assert "none of whom is a test patient" in (run / "results.md").read_text()


def test_training_rejects_test_patients_in_the_pretraining_data(
    lab: SimpleNamespace, tmp_path: Path
):
    settings = TrainSettings(**vars(lab.train) | {"seed": 1})
    with pytest.raises(
        UserError, match=r"3 test patients of repeat 0 .* pretraining data of dlinear"
    ):
        enecg.train(lab.dataset, lab.store, tmp_path / "run", settings=settings)
    assert not (tmp_path / "run").exists()


def test_training_counts_validation_patients_in_the_pretraining_data(
    lab: SimpleNamespace, run: Path, synthetic_dir: Path
):
    used = read_list(lab.result.patients_file)
    (validated,) = read_patients(MimicIvEcg(synthetic_dir), run, "validation")
    counts = f"{len(validated & used)} of {len(validated)}"
    note = f"Validation patients in the pretraining data of dlinear: {counts}. Validation losses"
    assert note in (run / "results.md").read_text()


def test_validation_patients_are_counted_for_each_repeat():
    patient_id = pd.Series([7, 7, 8, 9, 10], index=[1, 2, 3, 4, 5])
    none = np.array([], int)
    cohorts = [
        Cohort(0, none, np.array(validation), none) for validation in ([1, 2, 3], [3, 4], [4, 5])
    ]
    origin = Pretraining("mimic-iv-ecg/1.0", 2, "0" * 64)
    seen = PretrainedExpert("dlinear", origin, b"7\n8\n")
    without_list = PretrainedExpert("timesnet", origin, None)
    (note,) = count_validation_patients(cohorts, [seen, without_list], patient_id)
    assert note.startswith(
        "Validation patients in the pretraining data of dlinear: 2 of 2, 1 of 2, 0 of 2 (by "
        "repeat). "
    )
    assert not count_validation_patients(cohorts[2:], [seen, without_list], patient_id)


def sweep_once(lab: SimpleNamespace, out: Path, **options: object) -> Sweep:
    settings = TrainSettings(**vars(lab.train) | options)
    space = Space(rank=(2,), adaptation=("linear",), gate_depth=(1,), pooling=("mean",))
    return sweep(lab.dataset, lab.store, out, SweepSettings(settings, space, trials=1))


def test_sweep_rejects_or_excludes_test_patients_in_the_pretraining_data(
    lab: SimpleNamespace, tmp_path: Path
):
    # With this seed, some of the test patients were in the pretraining data, and some were not.
    with pytest.raises(
        UserError, match=r"test patients of repeat 0 .* pretraining data of dlinear"
    ):
        sweep_once(lab, tmp_path / "sweep", seed=2)
    assert not (tmp_path / "sweep").exists()
    excluded, same_split = (
        sweep_once(lab, tmp_path / "excluded", seed=2, exclude_pretrained=True),
        sweep_once(lab, tmp_path / "same"),
    )
    assert any(
        "because these patients were in the pretraining data" in note
        for note in excluded.summary.notes
    )
    validation = "Validation patients in the pretraining data of dlinear: "
    assert any(note.startswith(validation) for note in same_split.summary.notes)


def test_sweep_rejects_weights_without_their_list(lab: SimpleNamespace, tmp_path: Path):
    copied = tmp_path / "copied.safetensors"
    shutil.copy(lab.result.weights, copied)
    weights = {"weights": (f"dlinear@{copied}",)}
    with pytest.raises(UserError, match=r"is not available.*--pretraining-patients"):
        sweep_once(lab, tmp_path / "sweep", **weights)
    given = {"pretraining_patients": (str(lab.result.patients_file),)}
    assert len(sweep_once(lab, tmp_path / "sweep", **weights, **given).trials) == 1


def test_training_excludes_test_patients_in_the_pretraining_data(
    lab: SimpleNamespace, synthetic_dir: Path, tmp_path: Path
):
    used = read_list(lab.result.patients_file)
    # With this seed, some of the test patients were in the pretraining data, and some were not.
    settings = TrainSettings(**vars(lab.train) | {"seed": 2, "exclude_pretrained": True})
    enecg.train(lab.dataset, lab.store, tmp_path / "run", settings=settings, page=False)
    (tested,) = read_patients(MimicIvEcg(synthetic_dir), tmp_path / "run")
    assert tested
    assert not tested & used
    assert (
        "from repeat 0 (seed 2), because these patients were in the pretraining data"
        in (tmp_path / "run" / "results.md").read_text()
    )


@pytest.mark.parametrize("contents", [None, b"1\n2\n"])
def test_training_rejects_weights_whose_list_is_missing_or_different(
    lab: SimpleNamespace, tmp_path: Path, contents: bytes | None
):
    copied = tmp_path / "copied.safetensors"
    shutil.copy(lab.result.weights, copied)
    if contents is not None:
        copied.with_suffix(".patients.txt").write_bytes(contents)
    settings = TrainSettings(**vars(lab.train) | {"weights": (f"dlinear@{copied}",)})
    with pytest.raises(UserError, match=r"is not available.*--pretraining-patients"):
        enecg.train(lab.dataset, lab.store, tmp_path / "run", settings=settings)
    given = {"pretraining_patients": (str(lab.result.patients_file),)}
    settings = TrainSettings(**vars(settings) | given)
    enecg.train(lab.dataset, lab.store, tmp_path / "run", settings=settings, page=False)


def test_evaluation_rejects_or_excludes_patients_in_the_pretraining_data(
    lab: SimpleNamespace, run: Path, synthetic_dir: Path, tmp_path: Path
):
    # A run on few patients leaves patients of the pretraining data for the evaluation.
    settings = TrainSettings(
        **vars(lab.train) | {"patients": 12, "exclude_pretrained": True, "seed": 10}
    )
    few = tmp_path / "few"
    enecg.train(lab.dataset, lab.store, few, settings=settings, page=False)
    with pytest.raises(
        UserError, match=r"in the pretraining data of dlinear.*--exclude-pretrained"
    ):
        enecg.evaluate(few, lab.dataset, lab.store)
    evaluation = enecg.evaluate(few, lab.dataset, lab.store, exclude_pretrained=True)
    patients = {
        str(patient) for prediction in evaluation.predictions for patient in prediction.patient_id
    }
    assert patients
    assert not patients & read_list(lab.result.patients_file)
    assert "pretrained on the ECGs of" in evaluation.markdown


def test_damaged_metadata_of_weights_is_an_error(lab: SimpleNamespace, tmp_path: Path):
    tensors = load_file(lab.result.weights)
    for number, text in enumerate(("{", "[]", '{"dataset": "a/1", "patients": 0}')):
        path = tmp_path / f"{number}.safetensors"
        save_file(tensors, path, {"pretraining": text, "moving_avg": "25"})
        with pytest.raises(UserError, match="pretraining metadata is damaged"):
            enecg.experts.load_expert("dlinear", str(path))
