"""A run as a live model: its experts, and their embeddings compared with the stored ones."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from quick_runs import TrainedRun

from enecg.errors import UserError
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.prediction.live_run import load_run
from pipeline.runs.predictor import read_run_features


@pytest.fixture
def run(trained_run: TrainedRun) -> Path:
    return trained_run.folder


def edit(folder: Path, copy: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Copy a run and change the provenance of its dlinear store."""
    shutil.copytree(folder, copy)
    file = copy / "provenance.json"
    document = json.loads(file.read_text())
    change(next(store for store in document.values() if store["expert"] == "dlinear"))
    file.write_text(json.dumps(document))
    return copy


def test_live_embeddings_equal_the_stored_ones(trained_run: TrainedRun):
    dataset = MimicIvEcg(trained_run.data)
    live = load_run(trained_run.folder)
    rows = [2, 3, 4]
    features = live.embed(torch.from_numpy(np.stack([dataset.read(row) for row in rows])))
    stored = read_run_features(
        trained_run.folder, trained_run.store, dataset.index().record_id[rows]
    )
    assert list(features.experts) == list(live.saved.experts)
    for name, embedding in stored.experts.items():
        assert features.experts[name].dtype == embedding.dtype == torch.float16
        torch.testing.assert_close(features.experts[name], embedding, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(features.leads, stored.leads, rtol=1e-3, atol=1e-3)
    for predictor in live.repeats:
        now, before = predictor.outputs(features), predictor.outputs(stored)
        for task, output in now["EnECG"].items():
            torch.testing.assert_close(output, before["EnECG"][task], rtol=1e-2, atol=1e-2)


def test_gradients_flow_from_a_head_to_the_waveform(run: Path):
    live = load_run(run, repeat=1)
    (predictor,) = live.repeats
    ecg = torch.randn(2, 12, 5000, requires_grad=True)
    output = predictor.heads["dlinear"](live.experts["dlinear"].embed(ecg))["age"]
    (gradient,) = torch.autograd.grad(output.sum(), ecg)
    assert gradient.abs().amax((1, 2)).gt(0).all()


def test_another_code_version_is_rejected(run: Path, tmp_path: Path):
    other = edit(run, tmp_path / "run", lambda store: store.update(code_version=99))
    with pytest.raises(UserError, match="dlinear with code_version 99, but the installed version"):
        load_run(other).experts  # noqa: B018


def test_other_weights_are_rejected(run: Path, tmp_path: Path):
    other = edit(run, tmp_path / "run", lambda store: store.update(weights_sha256="0" * 64))
    with pytest.raises(UserError, match=r"weights of dlinear differ .* instead of 000000000000"):
        load_run(other).experts  # noqa: B018
    other = edit(run, tmp_path / "random", lambda store: store.update(weights="random:1"))
    with pytest.raises(UserError, match="weights of dlinear differ"):
        load_run(other).experts  # noqa: B018


def test_other_architecture_is_rejected(run: Path, tmp_path: Path):
    other = edit(
        run, tmp_path / "run", lambda store: store["architecture"].update(forecast_steps=1)
    )
    with pytest.raises(UserError, match=r"differs .*\(architecture .*instead of"):
        load_run(other).experts  # noqa: B018


def test_unregistered_expert_is_reported(run: Path, tmp_path: Path):
    shutil.copytree(run, tmp_path / "run")
    for file in (tmp_path / "run").rglob("*.json"):
        file.write_text(file.read_text().replace('"dlinear"', '"amplitudes"'))
    for folder in [*(tmp_path / "run").glob("repeat-0/*/dlinear")]:
        folder.rename(folder.with_name("amplitudes"))
    with pytest.raises(UserError, match="'amplitudes', which is not registered"):
        load_run(tmp_path / "run", 0).experts  # noqa: B018
