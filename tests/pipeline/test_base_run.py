"""Training of new tasks on the frozen hidden layers of a base run."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from quick_runs import QUICK
from safetensors.torch import load_file
from test_own_tasks import dataset, labels, store  # noqa: F401  (fixtures)
from test_train import run

from enecg.errors import UserError
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.runs.predictor import load_predictor
from pipeline.runs.saved_run import SavedRun
from pipeline.train import Results
from pipeline.training.features import read_features
from pipeline.training.store_selection import open_by_provenance

SHARED = replace(QUICK, adaptation="shared-lora")


def hash_files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def first(
    dataset: Path,  # noqa: F811
    store: Path,  # noqa: F811
    labels: Path,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Results:
    out = tmp_path_factory.mktemp("runs") / "first"
    own_tasks = ("heart_rate:regression:bpm", "male:binary")
    return run(
        *(dataset, store, out), tasks=("all",), own_tasks=own_tasks, labels=str(labels), fit=SHARED
    )


@pytest.fixture(scope="module")
def second(
    dataset: Path,  # noqa: F811
    store: Path,  # noqa: F811
    labels: Path,  # noqa: F811
    first: Results,
) -> Results:
    hashes = hash_files(first.folder)
    out = first.folder.parent / "second"
    new = run(
        *(dataset, store, out),
        own_tasks=("rhythm group:multiclass",),
        labels=str(labels),
        tasks=("rhythm group",),
        base=str(first.folder),
        # The base run overrides `repeats` and `hidden`.
        repeats=1,
        fit=replace(QUICK, hidden=5, rank=2),
    )
    assert hash_files(first.folder) == hashes
    return new


def test_new_task_adds_an_adapter_to_the_hidden_layers_of_the_base(first: Results, second: Results):
    assert {score.task for score in second.scores} == {"rhythm group"}
    for repeat in range(2):
        for expert in ("dlinear", "timesnet"):
            old, new = (run.folder / f"repeat-{repeat}/heads/{expert}" for run in (first, second))
            bases = [load_file(folder / "base.safetensors") for folder in (old, new)]
            assert bases[0].keys() == bases[1].keys() >= {"hidden.weight", "standardise.mean"}
            for name, tensor in bases[0].items():
                assert tensor.equal(bases[1][name]), name
            assert {path.name for path in old.iterdir() if path.is_dir()} == {
                *("age", "heart_rate", "male")
            }
            (adapter,) = (path for path in new.iterdir() if path.is_dir())
            size = sum(path.stat().st_size for path in adapter.iterdir())
            assert size < (new / "base.safetensors").stat().st_size / 2


def test_new_run_uses_the_cohorts_of_its_base(first: Results, second: Results):
    for old, new in zip(
        SavedRun(first.folder).cohorts, SavedRun(second.folder).cohorts, strict=True
    ):
        assert old == new


@pytest.mark.parametrize("repeat", [0, 1])
def test_loaded_runs_reproduce_their_predictions(
    first: Results,
    second: Results,
    store: Path,  # noqa: F811
    dataset: Path,  # noqa: F811
    repeat: int,
):
    for results in (first, second):
        stores = SavedRun(results.folder).stores
        cache = open_by_provenance(store, MimicIvEcg(dataset).namespace, stores, "")
        saved = pd.read_parquet(results.folder / "predictions.parquet")
        saved = saved[(saved["repeat"] == repeat) & (saved["method"] == "dlinear")]
        for task, expected in saved.groupby("task"):
            ids = expected["record_id"].to_numpy()
            predicted = load_predictor(results.folder, repeat).predict(
                read_features(cache, ids, "cpu")
            )
            np.testing.assert_allclose(predicted["dlinear"][task], expected["predicted"], rtol=1e-4)


def test_base_without_shared_hidden_layers_is_rejected(
    dataset: Path,  # noqa: F811
    store: Path,  # noqa: F811
    labels: Path,  # noqa: F811
    tmp_path: Path,
):
    settings = {"own_tasks": ("male:binary",), "labels": str(labels), "repeats": 1}
    lora = run(dataset, store, tmp_path / "lora", tasks=("male",), **settings)
    with pytest.raises(
        UserError, match="with --adaptation linear-lora, so its tasks share no hidden layer"
    ):
        run(dataset, store, tmp_path / "new", base=str(lora.folder), **settings)
    assert not (tmp_path / "new").exists()
