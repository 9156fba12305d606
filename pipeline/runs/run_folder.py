"""What a training leaves behind: everything needed to read, repeat and use it again.

config.json         the settings, the versions of the libraries, the time and memory it took, and
                    the stores with the rates at which they were extracted
provenance.json     what defines each store it read
cohorts.json        record ids of every repeat, by part, and the patients it has seen
results.json        every metric of every method, and the thresholds of binary tasks by repeat;
                    results.md, results.html: the same to look at
predictions.parquet every answer on a test record, by record id, with the classes' probabilities
                    in the order of the classes in targets.json
log.txt             what was done when, and how well the heads and gates did on validation
repeat-K/           targets.json (classes, scales, constants, thresholds); for each expert's heads
                    base.safetensors (frozen; one hidden layer where all tasks share it) and peft's
                    adapter of each task in a folder of its name; the gate, with one adapter
"""

import hashlib
import json
import resource
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import torch

from enecg.errors import UserError
from pipeline.evaluation.evaluate import Score, predictions_table
from pipeline.runs.finished import CONFIG, PROVENANCE, RESULTS, Thresholds, results
from pipeline.runs.saved_models import save_gate, save_heads
from pipeline.training.repeat import Inputs, Repeat
from stores.embeddings import EmbeddingStore
from stores.record_ids import as_ids
from stores.runs import read_runs

RUN = (CONFIG, PROVENANCE, RESULTS)
"""The files that a run has, of whatever version."""

UNFINISHED = "unfinished"
"""The folder inside a run's in which the next one is made."""

_LIBRARIES = ("enecg", "torch", "peft", "zarr", "numpy", "scikit-learn")


def check(folder: Path, markers: Collection[str] = RUN, what: str = "run") -> Path:
    """The folder of a run to be; an earlier run there will be written over.

    What lacks a file of `markers` is none. Raises UserError where something else lies there.
    """
    folder = folder.expanduser()
    if folder.is_file():
        raise UserError(f"{folder} is no {what}: there is a file; give another --out.")
    there = {one.name for one in folder.iterdir()} if folder.is_dir() else set()
    if there - {UNFINISHED} and not there.issuperset(markers):
        raise UserError(
            f"{folder} is no {what}, and not empty: there is {min(there)}; give another --out."
        )
    return folder


@contextmanager
def replacing(folder: Path, marker: str = CONFIG) -> Iterator[Path]:
    """A folder inside `folder` to write into; what is in it takes the place of an earlier run when
    all of it is there, and is gone if this fails. Raises UserError where it cannot be written.
    """
    made = folder / UNFINISHED
    with writing(folder):
        new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
    try:
        yield made
        with writing(folder):
            # Without its marker the folder is no run, so that it is never taken for a mixture.
            (folder / marker).unlink(missing_ok=True)
            for earlier in folder.glob("repeat-[0-9]*"):
                shutil.rmtree(earlier)
            for one in sorted(made.iterdir(), key=lambda one: one.name == marker):
                one.replace(folder / one.name)
    finally:
        shutil.rmtree(made, ignore_errors=True)
        if new and not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what keeps a folder from being written into a sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}); give another --out."
        ) from error


def write(
    folder: Path,
    settings: Any,
    device: str,
    inputs: Inputs,
    repeats: Sequence[Repeat],
    scores: Sequence[Score],
    seconds: float,
) -> None:
    """Write all of a run but its log, its tables and its page."""
    cohorts = [
        {
            "seed": one.cohort.seed,
            "train": one.cohort.train.tolist(),
            "validation": one.cohort.validation.tolist(),
            "test": one.cohort.test.tolist(),
            "patients_seen": _patients_seen(one, inputs),
        }
        for one in repeats
    ]
    config = {
        "dataset": inputs.dataset.namespace,
        "index_digest": inputs.dataset.index().digest,
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
        "settings": asdict(settings),
        "device": device,
        "seeds": [one.cohort.seed for one in repeats],
        "cohorts_digest": hashlib.sha256(json.dumps(cohorts).encode()).hexdigest(),
        "tasks": [task.name for task in inputs.tasks],
        "notes": list(inputs.notes),
        "experts": list(inputs.cache.experts),
        "records": len(inputs.record_id),
        "patients": int(inputs.labels["patient_id"].nunique()),
        "records_left_out": inputs.left_out,
        "seconds": round(seconds, 2),
        "peak_memory_bytes": _peak_memory(device),
        "stores": [_told(store) for store in inputs.cache.stores],
        "versions": {name: version(name) for name in _LIBRARIES},
    }
    stores = {store.identity: store.provenance for store in inputs.cache.stores}
    with writing(folder):
        _write_json(folder / CONFIG, config)
        _write_json(folder / PROVENANCE, stores)
        _write_json(folder / "cohorts.json", cohorts)
        judged = results(inputs.tasks, repeats[0].parameters, scores, _thresholds(repeats))
        _write_json(folder / RESULTS, judged)
        pyarrow.parquet.write_table(
            predictions_table([one for repeat in repeats for one in repeat.predictions]),
            folder / "predictions.parquet",
        )
        for number, repeat in enumerate(repeats):
            _write_repeat(folder / f"repeat-{number}", repeat)


def _peak_memory(device: str) -> dict[str, int]:
    """The most that this process has had in memory since it began, and on its GPU, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in kB, macOS in bytes.
    memory = {"process": peak if sys.platform == "darwin" else 1024 * peak}
    if device.startswith("cuda"):
        memory["gpu"] = torch.cuda.max_memory_allocated(device)
    return memory


def _told(store: EmbeddingStore) -> dict[str, Any]:
    """Where a store lies, how large a record is there, and how fast it was extracted."""
    kept = ("started", "device", "embedded", "embedding_seconds")
    return {
        "expert": store.provenance["expert"],
        "identity": store.identity,
        "location": str(store.location),
        "features": store.features,
        "extractions": [{key: run.get(key) for key in kept} for run in read_runs(store)],
    }


def _patients_seen(repeat: Repeat, inputs: Inputs) -> list[int | str]:
    """Who was trained or validated on, so that nobody of them is ever judged on."""
    seen = np.concatenate([repeat.cohort.train, repeat.cohort.validation])
    patients: list[int | str] = np.unique(as_ids(inputs.labels.loc[seen, "patient_id"])).tolist()
    return patients


def _thresholds(repeats: Sequence[Repeat]) -> Thresholds:
    return {
        method: {task: [one.thresholds[method][task] for one in repeats] for task in of_tasks}
        for method, of_tasks in repeats[0].thresholds.items()
        if of_tasks
    }


def _write_repeat(folder: Path, repeat: Repeat) -> None:
    folder.mkdir()
    targets = {name: one.to_document() for name, one in repeat.targets.items()}
    # No threshold is where class 1 is never said: JSON has no infinity.
    thresholds = {
        method: {task: value if np.isfinite(value) else None for task, value in of_tasks.items()}
        for method, of_tasks in repeat.thresholds.items()
    }
    _write_json(folder / "targets.json", {"targets": targets, "thresholds": thresholds})
    for name, fit in repeat.heads.items():
        save_heads(fit.module, folder / "heads" / name)
    save_gate(repeat.gate.module, folder / "gate")


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, allow_nan=False))
