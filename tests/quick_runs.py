"""Extractions with random weights, and settings of short trainings."""

from pathlib import Path
from typing import Any

from pipeline.extract import extract
from pipeline.extraction.options import ExtractOptions
from pipeline.training.settings import FitSettings

RANDOM = ("random:0",)
QUICK = FitSettings(epochs=3, hidden=16)


def extract_random(dataset: str, store: Path, *experts: str, **options: Any) -> None:
    """Extract embeddings by experts with random weights."""
    extract(dataset, store, experts, options=ExtractOptions(weights=RANDOM, **options))
