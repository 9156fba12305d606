"""Extractions with random weights, and settings of short training runs."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.extract import extract
from pipeline.extraction.options import ExtractOptions
from pipeline.synthetic.synthesize import synthesize
from pipeline.train import train
from pipeline.training.settings import FitSettings, TrainSettings

RANDOM = ("random:0",)
QUICK = FitSettings(epochs=3, hidden=16)


def extract_random(dataset: str, store: Path, *experts: str, **options: Any) -> None:
    """Extract embeddings by experts with random weights."""
    extract(dataset, store, experts, options=ExtractOptions(weights=RANDOM, **options))


EXTRACTED = ("dlinear", "timesnet", "measurements")
"""Experts of the stores that tests share."""


def copy_stores(shared: Path, target: Path, *experts: str) -> Path:
    """Copy the stores of some experts, and of the gate's leads, from the shared root.

    Args:
        shared: The fixture `synthetic_stores`.
        target: Folder that becomes the root.
        experts: Names among `EXTRACTED`.

    Returns:
        The target.
    """
    others = shutil.ignore_patterns(*(name for name in EXTRACTED if name not in experts))
    return Path(shutil.copytree(shared, target, ignore=others, dirs_exist_ok=True))


class TrainedRun(NamedTuple):
    """Paths of a run of two repeats with dlinear (untrained) and measurements, and its inputs."""

    data: Path
    store: Path
    folder: Path

    @classmethod
    def in_folder(cls, folder: Path) -> "TrainedRun":
        """Return the paths in a folder."""
        return cls(folder / "data", folder / "store", folder / "run")


def train_quickly(folder: Path) -> None:
    """Write data, stores and a run of 50 patients, of whom 10 are validation patients."""
    made = TrainedRun.in_folder(folder)
    dataset = f"mimic-iv-ecg:{made.data}"
    synthesize(made.data, patients=50, seed=0)
    extract_random(dataset, made.store, "dlinear", "measurements")
    tasks = ("rr_interval", "age", "sex", "arrhythmia")
    settings = TrainSettings(weights=RANDOM, repeats=2, fit=QUICK, tasks=tasks)
    train(dataset, made.store, made.folder, settings=settings, page=False)
