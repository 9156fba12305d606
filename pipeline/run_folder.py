"""What a training leaves behind: everything needed to read, repeat and use it again.

config.json         the settings, the versions of the libraries, the time and memory it took, and
                    the stores with the rates at which they were extracted
provenance.json     what defines each store it read
cohorts.json        record ids of every repeat, by part, and the patients it has seen
results.json        every metric of every method; results.md, results.html: the same to look at
predictions.parquet every answer on a test record, by record id, with the classes' probabilities
                    in the order of the classes in targets.json
repeat-K/           targets.json (classes, scales, constants, thresholds), and for each expert's
                    heads and the gate: base.safetensors (frozen) and peft's adapter
"""

import errno
import hashlib
import json
import os
import resource
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import torch
from peft import PeftModel
from safetensors.torch import save_file
from torch import nn

from enecg.errors import UserError
from pipeline.evaluate import Score, predictions_table
from pipeline.repeat import Inputs, Repeat
from pipeline.runs import CONFIG, PROVENANCE, RESULTS, results
from stores.embeddings import EmbeddingStore
from stores.runs import read_runs

_LIBRARIES = ("enecg", "torch", "peft", "zarr", "numpy", "scikit-learn")


def check(folder: Path, marker: str = CONFIG, what: str = "run") -> Path:
    """The folder of a run to be; an earlier run there will be written over.

    What has no file `marker` is none. Raises UserError where something else lies there.
    """
    folder = folder.expanduser()
    taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if taken and not (folder / marker).is_file():
        found = f"the file {next(folder.iterdir()).name}" if folder.is_dir() else "a file"
        raise UserError(f"{folder} is no {what}: there is {found}; give another --out.")
    return folder


def make(folder: Path) -> None:
    """Make the folder. Raises UserError where that cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
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
    """Write all of a run but its tables and its page."""
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
    _write_json(folder / CONFIG, config)
    _write_json(folder / PROVENANCE, stores)
    _write_json(folder / "cohorts.json", cohorts)
    _write_json(folder / RESULTS, results(inputs.tasks, repeats[0].parameters, scores))
    pyarrow.parquet.write_table(
        predictions_table([one for repeat in repeats for one in repeat.predictions]),
        folder / "predictions.parquet",
    )
    for earlier in folder.glob("repeat-*"):
        shutil.rmtree(earlier)
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


def _patients_seen(repeat: Repeat, inputs: Inputs) -> list[int]:
    """Who was trained or validated on, so that nobody of them is ever judged on."""
    seen = np.concatenate([repeat.cohort.train, repeat.cohort.validation])
    patients: list[int] = np.unique(inputs.labels.loc[seen, "patient_id"]).tolist()
    return patients


def _write_repeat(folder: Path, repeat: Repeat) -> None:
    folder.mkdir(exist_ok=True)
    targets = {name: one.document() for name, one in repeat.targets.items()}
    _write_json(folder / "targets.json", {"targets": targets, "thresholds": repeat.thresholds})
    for name, fit in repeat.heads.items():
        _write_model(folder / "heads" / name, fit.module)
    _write_model(folder / "gate", repeat.gate.module)


def _write_model(folder: Path, model: nn.Module) -> None:
    """The adapter in peft's format, and beside it the frozen base, which peft does not save.

    A module without LoRA is all base.
    """
    folder.mkdir(parents=True)
    if not isinstance(model, PeftModel):
        save_file(model.state_dict(), folder / "base.safetensors")
        return
    model.save_pretrained(str(folder))
    base = {
        name: tensor.contiguous()
        for name, tensor in model.get_base_model().state_dict().items()
        if "lora_" not in name and "modules_to_save" not in name
    }
    save_file(base, folder / "base.safetensors")


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1))
