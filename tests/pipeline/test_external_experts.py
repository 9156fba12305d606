"""Experts that are not built in: registered by an entry point, or passed as objects."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from quick_runs import QUICK, RANDOM, copy_stores

import enecg
from enecg.errors import UserError
from enecg.experts import ExpertSpec, Preprocessing
from pipeline.evaluation.predictions import ENSEMBLE
from stores.errors import StoreError

PACKAGE = '''
"""A toy expert: mean and standard deviation of each lead in each second."""
import torch
from enecg.experts import ExpertDefinition, ExpertSpec, Preprocessing


class Toy:
    def __init__(self, spec):
        self.spec = spec

    def embed(self, ecg):
        seconds = ecg.unflatten(-1, (10, 500))
        return torch.cat([seconds.mean(-1), seconds.std(-1)], dim=-1).flatten(1)


def build(definition, weights, pooling):
    return Toy(ExpertSpec(definition.name, 1, {}, definition.preprocessing, pooling, 240,
                          weights.label, "0" * 64))


TOY = ExpertDefinition(
    name="toy", code_version=1, preprocessing=Preprocessing(), pooling="none", poolings=("none",),
    license="MIT", source="a test", published=None, embedding_size=240, parameters=0, build=build,
)
'''

SCRIPT = """
import sys
from pipeline.extract import extract
from pipeline.extraction.options import ExtractOptions
from pipeline.training.settings import FitSettings
from pipeline.train import train
from pipeline.training.settings import TrainSettings

dataset, store, out = sys.argv[1:]
extract(dataset, store, ["toy"], options=ExtractOptions(weights=("random:0",)))
few = FitSettings(epochs=2)
settings = TrainSettings(weights=("random:0",), repeats=1, tasks=("age",), fit=few)
print(train(dataset, store, out, settings=settings, page=False).markdown)
"""


def test_expert_of_another_package_is_extracted_and_trained(
    tmp_path: Path, synthetic_dir: Path, synthetic_stores: Path
):
    copy_stores(synthetic_stores, tmp_path / "lab", "dlinear")
    package = tmp_path / "site"
    (package / "toy-1.0.dist-info").mkdir(parents=True)
    (package / "toy_expert.py").write_text(PACKAGE)
    (package / "toy-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n"
    )
    (package / "toy-1.0.dist-info" / "entry_points.txt").write_text(
        "[enecg.experts]\ntoy = toy_expert:TOY\n"
    )
    path = os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [
            *(sys.executable, "-c", SCRIPT, f"mimic-iv-ecg:{synthetic_dir}"),
            *(str(tmp_path / "lab"), str(tmp_path / "run")),
        ],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "| toy (untrained, random:0)" in run.stdout
    assert "| dlinear (untrained, random:0)" in run.stdout


class Amplitudes:
    """Standard deviation of each lead, times a factor that is part of the spec."""

    def __init__(self, factor: int = 1) -> None:
        architecture = {"factor": factor}
        self.spec = ExpertSpec(
            "amplitudes", 1, architecture, Preprocessing(), "none", 12, "none", ""
        )

    def embed(self, ecg: torch.Tensor) -> torch.Tensor:
        return ecg.std(-1) * self.spec.architecture["factor"]


def test_expert_object_is_extracted_trained_and_evaluated(tmp_path: Path, synthetic_dir: Path):
    dataset, store = f"mimic-iv-ecg:{synthetic_dir}", tmp_path / "lab"
    experts = [Amplitudes(), "dlinear"]
    enecg.extract(dataset, store, experts, options=enecg.ExtractOptions(weights=RANDOM))
    settings = enecg.TrainSettings(weights=RANDOM, repeats=1, tasks=("age",), fit=QUICK)
    out = tmp_path / "run"
    run = enecg.train(dataset, store, out, experts, settings=settings, page=False)
    assert "| amplitudes " in run.markdown
    assert "| dlinear (untrained, random:0)" in run.markdown
    predictor = enecg.load_run(run.folder).repeats[0]
    assert list(predictor.heads) == ["amplitudes", "dlinear"]
    record_id = enecg.open_stores(store).stores[0].record_id[:4]
    features = enecg.read_run_features(run.folder, store, record_id)
    assert np.isfinite(predictor.predict(features)[ENSEMBLE]["age"]).all()
    evaluation = enecg.evaluate(run.folder, dataset, store)
    assert {"amplitudes", ENSEMBLE} <= {score.method for score in evaluation.scores}


def test_expert_object_requires_its_store_and_a_unique_name(tmp_path: Path, synthetic_dir: Path):
    dataset, store = f"mimic-iv-ecg:{synthetic_dir}", tmp_path / "lab"
    enecg.extract(dataset, store, [Amplitudes()])
    other = Amplitudes(2)
    with pytest.raises(StoreError, match=r"'factor': 1\} instead of \{'factor': 2\}"):
        enecg.train(dataset, store, tmp_path / "run", [other])
    with pytest.raises(UserError, match="Two experts are named 'amplitudes'"):
        enecg.train(dataset, store, tmp_path / "run", [Amplitudes(), other])
