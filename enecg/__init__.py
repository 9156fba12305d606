"""Frozen ECG experts, heads and gate, and the public API for extraction and training.

Public names are imported on first access, so ``import enecg`` loads neither torch nor the pipeline.
"""

import importlib
from typing import Any

_SOURCES = {
    "Evaluation": "pipeline.evaluate",
    "ExplainOptions": "pipeline.explanation.options",
    "ExtractOptions": "pipeline.extraction.options",
    "ExtractionSummary": "pipeline.extraction.summary",
    "FitSettings": "pipeline.training.settings",
    "Folds": "pipeline.labels.folds",
    "LabelRules": "pipeline.datasets.label_rules",
    "PretrainSettings": "pipeline.pretraining.settings",
    "PretrainedWeights": "pipeline.pretrain",
    "Results": "pipeline.train",
    "TrainSettings": "pipeline.training.settings",
    "evaluate": "pipeline.evaluate",
    "explain": "pipeline.explain",
    "extract": "pipeline.extract",
    "load_run": "pipeline.prediction.live_run",
    "make_labels": "pipeline.labels.label_step",
    "open_dataset": "pipeline.datasets.registry",
    "open_stores": "stores.opening",
    "predict": "pipeline.predict",
    "pretrain": "pipeline.pretrain",
    "read_run_features": "pipeline.runs.predictor",
    "synthesize": "pipeline.synthetic.synthesize",
    "train": "pipeline.train",
}
"""Module that defines each public name."""

__all__ = sorted(_SOURCES)


def __getattr__(name: str) -> Any:
    if name == "experts":
        return importlib.import_module("enecg.experts")
    if name not in _SOURCES:
        raise AttributeError(f"module 'enecg' has no attribute {name!r}")
    value = getattr(importlib.import_module(_SOURCES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), "experts", *_SOURCES})
