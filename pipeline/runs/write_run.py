"""Write a run folder.

It contains these files:

- `config.json`: settings, name and digest of the table of folds, library versions, duration, peak
  memory, and the stores with their extraction rates. Random baselines have their own list.
- `provenance.json`: provenance of each store, by identity.
- `cohorts.json`: for each repeat, the record ids of each part and the training and validation
  patients.
- `results.json`: tasks, numbers of parameters, all metrics of all methods, paired differences,
  scores by label fraction, and the decision thresholds of binary tasks.
- `results.md` and `results.html`: the same numbers as tables and plots (`pipeline.report`).
- `MODEL_CARD.md`: intended use, data, weights, metrics and limits (`pipeline.report.model_card`).
- `predictions.parquet`: predictions for test records, with class probabilities in the order of the
  classes in `targets.json`.
- `validation.parquet`: EnECG's predictions for validation records, with which new predictions are
  calibrated; same columns.
- `gate_weights.parquet` and `learning_curves.json`: the gate's weights for test records, and
  validation losses by epoch (`pipeline.runs.training_details`).
- `log.txt`: progress with timestamps, and validation losses of heads and gates
  (`pipeline.runs.run_log`).
- `EXPERT.patients.txt`: list of the patients of a pretraining run on the same data set
  (`pipeline.training.pretraining_patients`).
- `repeat-K/`: `targets.json` (classes, scales, constants, thresholds, and the experts of the ridge
  regressions), `domain.safetensors` (`pipeline.training.domain`) and the subfolders of heads, ridge
  regressions and gate (`pipeline.runs.checkpoints`).

`write_run` writes all files except `log.txt`, `results.md`, `results.html`, `MODEL_CARD.md` and the
lists of patients.
"""

import hashlib
import json
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import torch

from pipeline.evaluation.differences import Difference
from pipeline.evaluation.label_fractions import LabelFraction
from pipeline.evaluation.predictions import predictions_table
from pipeline.evaluation.scores import Score
from pipeline.runs.calibration import VALIDATION
from pipeline.runs.checkpoints import save_gate, save_heads
from pipeline.runs.domains import DOMAIN, save_domains
from pipeline.runs.output_folder import translate_write_errors
from pipeline.runs.results import CONFIG, PREDICTIONS, PROVENANCE, RESULTS
from pipeline.runs.results_document import Thresholds, results_document
from pipeline.runs.training_details import (
    GATE_WEIGHTS,
    LEARNING_CURVES,
    gate_weights_table,
    learning_curves_document,
)
from pipeline.training.domain import EmbeddingDomain
from pipeline.training.inputs import Inputs
from pipeline.training.repeat import Repeat
from pipeline.training.settings import TrainSettings
from stores.embeddings import EmbeddingStore
from stores.record_ids import as_ids
from stores.runs import read_runs

_LIBRARIES = ("enecg", "torch", "peft", "zarr", "numpy", "scikit-learn")


def write_run(
    folder: Path,
    settings: TrainSettings,
    device: str,
    inputs: Inputs,
    repeats: Sequence[Repeat],
    scores: Sequence[Score],
    seconds: float,
    *,
    differences: Sequence[Difference] = (),
    label_fractions: Sequence[LabelFraction] = (),
    folds: Mapping[str, Any] | None = None,
    domains: Sequence[Mapping[str, EmbeddingDomain]] = (),
) -> None:
    """Write the files of a run folder that contain its settings, results and models.

    See the module docstring for the files that other modules write.

    Args:
        folder: Existing folder without these files.
        settings: Settings of the run.
        device: Resolved device, such as ``"cuda:0"``.
        inputs: Stores, records, labels and tasks of the run.
        repeats: The trained repeats.
        scores: Scores of all methods and tasks.
        seconds: Duration of the run before this call.
        differences: Differences between EnECG and other methods.
        label_fractions: Scores after training on fractions of the patients.
        folds: Provenance of the table of folds; None if the patients were drawn at random.
        domains: Distributions of the training embeddings by expert, for each repeat.

    Raises:
        UserError: The folder is not writable.
    """
    cohorts = [
        {
            "seed": repeat.cohort.seed,
            "train": repeat.cohort.train.tolist(),
            "validation": repeat.cohort.validation.tolist(),
            "test": repeat.cohort.test.tolist(),
            "patients_seen": _patients_seen(repeat, inputs),
        }
        for repeat in repeats
    ]
    config = {
        "dataset": inputs.dataset.namespace,
        "index_digest": inputs.dataset.index().digest,
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
        "settings": asdict(settings),
        "device": device,
        "seeds": [repeat.cohort.seed for repeat in repeats],
        "cohorts_digest": hashlib.sha256(json.dumps(cohorts).encode()).hexdigest(),
        "tasks": [task.name for task in inputs.tasks],
        "notes": list(inputs.notes),
        "experts": list(inputs.cache.experts),
        "records": len(inputs.record_id),
        "repeat_records": [len(repeat.cohort.record_id) for repeat in repeats],
        "patients": int(inputs.labels["patient_id"].nunique()),
        "records_left_out": inputs.skipped,
        "seconds": round(seconds, 2),
        "peak_memory_bytes": _peak_memory(device),
        "stores": [_describe_store(store) for store in inputs.cache.stores],
        "versions": {name: version(name) for name in _LIBRARIES},
    }
    if folds is not None:
        config["folds"] = dict(folds)
    if inputs.baselines:
        config["random_baselines"] = [
            _describe_store(store)
            | {"weights": store.provenance["weights"], "provenance": store.provenance}
            for store in inputs.baselines.values()
        ]
    stores = {store.identity: store.provenance for store in inputs.cache.stores}
    results = results_document(
        inputs.tasks,
        repeats[0].parameters,
        scores,
        _thresholds(repeats),
        differences=differences,
        label_fractions=label_fractions,
    )
    with translate_write_errors(folder):
        _write_json(folder / CONFIG, config)
        _write_json(folder / PROVENANCE, stores)
        _write_json(folder / "cohorts.json", cohorts)
        _write_json(folder / RESULTS, results)
        pyarrow.parquet.write_table(
            predictions_table(
                [prediction for repeat in repeats for prediction in repeat.predictions]
            ),
            folder / PREDICTIONS,
        )
        pyarrow.parquet.write_table(
            predictions_table(
                [prediction for repeat in repeats for prediction in repeat.validation]
            ),
            folder / VALIDATION,
        )
        pyarrow.parquet.write_table(gate_weights_table(repeats), folder / GATE_WEIGHTS)
        _write_json(folder / LEARNING_CURVES, learning_curves_document(repeats))
        for number, repeat in enumerate(repeats):
            _write_repeat(folder / f"repeat-{number}", repeat)
        for number, by_expert in enumerate(domains):
            save_domains(by_expert, folder / f"repeat-{number}" / DOMAIN)


def _peak_memory(device: str) -> dict[str, int]:
    """Return the peak memory in bytes of this process and, for a GPU, of torch's allocations."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # ru_maxrss is in kilobytes on Linux, in bytes on macOS.
    memory = {"process": peak if sys.platform == "darwin" else 1024 * peak}
    if device.startswith("cuda"):
        memory["gpu"] = torch.cuda.max_memory_allocated(device)
    return memory


def _describe_store(store: EmbeddingStore) -> dict[str, Any]:
    """Return the location, embedding size and extraction rates of a store."""
    keys = ("started", "device", "embedded", "embedding_seconds")
    return {
        "expert": store.provenance["expert"],
        "identity": store.identity,
        "location": str(store.location),
        "features": store.features,
        "extractions": [{key: run.get(key) for key in keys} for run in read_runs(store)],
    }


def _patients_seen(repeat: Repeat, inputs: Inputs) -> list[int | str]:
    """Return the ids of the training and validation patients, who are excluded from evaluations."""
    seen = np.concatenate([repeat.cohort.train, repeat.cohort.validation])
    patients: list[int | str] = np.unique(as_ids(inputs.labels.loc[seen, "patient_id"])).tolist()
    return patients


def _thresholds(repeats: Sequence[Repeat]) -> Thresholds:
    """Collect the thresholds of binary tasks."""
    collected: dict[str, dict[str, list[float]]] = {}
    for repeat in repeats:
        for method, by_task in repeat.thresholds.items():
            for task, value in by_task.items():
                if isinstance(value, float):
                    collected.setdefault(method, {}).setdefault(task, []).append(value)
    return collected


def _write_repeat(folder: Path, repeat: Repeat) -> None:
    folder.mkdir()
    documents = {name: targets.to_document() for name, targets in repeat.targets.items()}
    # A threshold is infinite if class 1 is never predicted. JSON has no infinity, so write null.
    thresholds = {
        method: {
            task: value if np.isfinite(value).all() else None for task, value in by_task.items()
        }
        for method, by_task in repeat.thresholds.items()
    }
    _write_json(
        folder / "targets.json",
        {"targets": documents, "thresholds": thresholds, "ridge": repeat.ridge.chosen},
    )
    for name, heads in repeat.ridge.heads.items():
        save_heads(heads, folder / "ridge" / name)
    for name, fit in repeat.heads.items():
        save_heads(fit.module, folder / "heads" / name)
    save_gate(repeat.gate.module, folder / "gate")


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, allow_nan=False), encoding="utf-8")
