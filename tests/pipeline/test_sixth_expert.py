"""An expert of another package, registered by an entry point."""

import os
import subprocess
import sys
from pathlib import Path

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
extract(dataset, store, ["toy", "dlinear"], options=ExtractOptions(weights=("random:0",)))
few = FitSettings(epochs=2)
settings = TrainSettings(weights=("random:0",), repeats=1, tasks=("age",), fit=few)
print(train(dataset, store, out, settings=settings).markdown)
"""


def test_expert_of_another_package_is_extracted_and_trained(tmp_path: Path, synthetic_dir: Path):
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
