"""What a training leaves behind: everything needed to read, repeat and use it again.

config.json         the settings, the versions of the libraries, the time it took
provenance.json     what defines each store it read
cohorts.json        record ids of every repeat, by part
results.json        every score; results.md, results.html: the same to look at
predictions.parquet every answer on a test record
repeat-K/           targets.json (classes, scales, thresholds), and for each expert's heads
                    and the gate: base.safetensors (frozen) and peft's adapter
"""

import errno
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from peft import PeftModel
from safetensors.torch import save_file
from torch import nn

from enecg.errors import UserError
from pipeline.evaluate import Score, predictions_table
from pipeline.repeat import Inputs, Repeat

CONFIG = "config.json"
_LIBRARIES = ("enecg", "torch", "peft", "zarr", "numpy", "scikit-learn")


def check(folder: Path) -> Path:
    """The folder of a run to be; an earlier run there will be written over.

    Raises UserError where something else lies there.
    """
    folder = folder.expanduser()
    taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if taken and not (folder / CONFIG).is_file():
        found = f"the file {next(folder.iterdir()).name}" if folder.is_dir() else "a file"
        raise UserError(f"{folder} is no run: there is {found}; give another --out.")
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
    inputs: Inputs,
    repeats: Sequence[Repeat],
    scores: Sequence[Score],
    markdown: str,
    seconds: float,
) -> None:
    """Write all of a run but its page."""
    config = {
        "dataset": inputs.dataset.namespace,
        "index_digest": inputs.dataset.index().digest,
        "settings": asdict(settings),
        "tasks": [task.name for task in inputs.tasks],
        "experts": list(inputs.cache.experts),
        "records": len(inputs.record_id),
        "records_left_out": inputs.left_out,
        "seconds": round(seconds, 2),
        "versions": {name: version(name) for name in _LIBRARIES},
    }
    stores = {store.identity: store.provenance for store in inputs.cache.stores}
    cohorts = [
        {
            "seed": one.cohort.seed,
            "train": one.cohort.train.tolist(),
            "validation": one.cohort.validation.tolist(),
            "test": one.cohort.test.tolist(),
        }
        for one in repeats
    ]
    _write_json(folder / CONFIG, config)
    _write_json(folder / "provenance.json", stores)
    _write_json(folder / "cohorts.json", cohorts)
    _write_json(folder / "results.json", [asdict(one) for one in scores])
    (folder / "results.md").write_text(markdown)
    predictions_table([one for repeat in repeats for one in repeat.predictions]).to_parquet(
        folder / "predictions.parquet", index=False
    )
    for earlier in folder.glob("repeat-*"):
        shutil.rmtree(earlier)
    for number, repeat in enumerate(repeats):
        _write_repeat(folder / f"repeat-{number}", repeat)


def _write_repeat(folder: Path, repeat: Repeat) -> None:
    folder.mkdir(exist_ok=True)
    targets = {
        name: {"classes": one.classes, "mean": one.mean, "scale": one.scale}
        for name, one in repeat.targets.items()
    }
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
