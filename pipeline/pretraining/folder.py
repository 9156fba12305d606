"""Folder of a pretraining run: its definition, curve, unreadable records and weights."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from enecg.errors import UserError
from enecg.experts import get_definition
from enecg.pretraining import METADATA_KEY, Pretraining
from pipeline.datasets.base import Dataset, decoding_of
from pipeline.pretraining.settings import PretrainSettings
from pipeline.pretraining.state import (
    UNREADABLE_COLUMNS,
    EpochErrors,
    PretrainingState,
)
from pipeline.runs.output_folder import translate_write_errors, write_file
from pipeline.runs.run_documents import read_document
from pipeline.waveforms.decode import DECODE_VERSION
from stores.errors import UnsafeFile

DEFINITION = "pretraining.json"
"""File with the result of `define`. It is compared before resuming."""
CURVE = "curve.csv"
PLOT = "curve.png"
UNREADABLE = "unreadable.csv"
_NOT_COMPARED = ("sizes", "epochs", "patience", "device", "threads", "checkpoint_minutes")
"""Settings that only determine where and how long to train. ``sizes`` is compared separately,
including defaults."""


def define(
    dataset: Dataset, expert: str, sizes: dict[str, int], settings: PretrainSettings
) -> dict[str, Any]:
    """Return all options, data and versions that the weights depend on, as JSON values.

    Args:
        dataset: The data set.
        expert: Name of the expert.
        sizes: Sizes of the model.
        settings: Settings of the pretraining.

    Returns:
        The definition, without settings that only determine where and how long to train.

    Raises:
        UserError: A file of record ids or folds cannot be read.
    """
    settings = replace(settings, decoding=decoding_of(dataset))
    document = {
        "expert": expert,
        "code_version": get_definition(expert).code_version,
        "sizes": sizes,
        "dataset": dataset.namespace,
        "index_digest": dataset.index().digest,
        "decode_version": DECODE_VERSION,
        "settings": {
            name: value for name, value in asdict(settings).items() if name not in _NOT_COMPARED
        },
        "files": {
            name: _file_digest(path)
            for name, path in (
                ("folds", None if settings.folds is None else settings.folds.file),
                ("exclude_records", settings.exclude_records),
                ("records", settings.records),
            )
            if path is not None
        },
        "versions": {name: version(name) for name in ("enecg", "torch")},
    }
    plain_document: dict[str, Any] = json.loads(json.dumps(document))
    return plain_document


def _file_digest(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); correct the path or its permissions."
        ) from error


def check_folder(folder: Path, definition: dict[str, Any]) -> None:
    """Check that a folder is new, empty, or contains the same pretraining run.

    Args:
        folder: The folder; need not exist.
        definition: Definition of the requested pretraining.

    Raises:
        UserError: `folder` is a file, is inaccessible, or contains other files, another run or a
            damaged definition.
    """
    file = folder / DEFINITION
    with translate_write_errors(folder):
        if folder.is_file():
            raise UserError(f"{folder} is a file, not a folder; choose another --out.")
        if not file.exists():
            if folder.is_dir() and any(folder.iterdir()):
                raise UserError(
                    f"{folder} is not empty and does not contain a pretraining run; choose another "
                    "--out."
                )
            return
    try:
        found = read_document(file)
    except (OSError, ValueError, UnsafeFile) as error:
        raise UserError(f"{file} is damaged ({error}); choose another --out.") from error
    if found != definition:
        names = definition.keys() if isinstance(found, dict) else ()
        different = [name for name in names if found.get(name) != definition[name]]
        raise UserError(
            f"{folder} contains a pretraining run with other options, data or versions (different: "
            f"{', '.join(different) or 'all'}); repeat its options to resume it, or choose another "
            "--out."
        )


def write_definition(folder: Path, definition: dict[str, Any], *, share: bool) -> None:
    """Write the definition, which identifies the folder as that of a pretraining run.

    Args:
        folder: Folder of the pretraining.
        definition: Definition of the pretraining.
        share: Whether other users may read the file, subject to the umask.
    """
    text = json.dumps(definition, indent=1)
    write_file(
        folder / DEFINITION, lambda path: path.write_text(text, encoding="utf-8"), share=share
    )


def write_curve(folder: Path, epochs: Sequence[EpochErrors], *, share: bool) -> None:
    """Write the errors of all epochs as CSV.

    Args:
        folder: Folder of the pretraining.
        epochs: Errors by epoch.
        share: Whether other users may read the file, subject to the umask.
    """
    table = pd.DataFrame(
        {
            "epoch": [errors.epoch for errors in epochs],
            "training_error": [errors.training for errors in epochs],
            "validation_error": [errors.validation for errors in epochs],
        }
    )
    write_file(folder / CURVE, lambda path: table.to_csv(path, index=False), share=share)


def write_unreadable(
    folder: Path, dataset: Dataset, state: PretrainingState, *, share: bool
) -> None:
    """Write the unreadable records and the reasons as CSV.

    Args:
        folder: Folder of the pretraining.
        dataset: The data set.
        state: State of the training.
        share: Whether other users may read the file, subject to the umask.
    """
    ids = dataset.index().record_id
    rows = [(ids[row], *reason) for row, reason in sorted(state.unreadable.items())]
    table = pd.DataFrame(rows, columns=list(UNREADABLE_COLUMNS))
    write_file(folder / UNREADABLE, lambda path: table.to_csv(path, index=False), share=share)


def write_weights(
    path: Path,
    state: PretrainingState,
    definition: dict[str, Any],
    patients: bytes,
    *,
    share: bool,
) -> None:
    """Write the best weights and their provenance as safetensors, unless the file contains them.

    Args:
        path: The file.
        state: State of the finished training.
        definition: Definition of the pretraining.
        patients: Contents of the list of patients, one id per line.
        share: Whether other users may read the file, subject to the umask.
    """
    pretraining = Pretraining(
        definition["dataset"], patients.count(b"\n"), hashlib.sha256(patients).hexdigest()
    )
    best = state.best_epoch
    provenance = definition | {
        "epoch": best.epoch,
        "validation_error": best.validation,
        "validation_error_before": state.epochs[0].validation,
        "validation_error_of_interpolation": state.interpolation,
        "records": {"train": len(state.train), "validation": len(state.validation)},
        "unreadable": len(state.unreadable),
    }
    settings = {setting.name for setting in get_definition(definition["expert"]).settings}
    metadata = {
        METADATA_KEY: json.dumps(pretraining.as_json()),
        "provenance": json.dumps(provenance),
        **{name: str(size) for name, size in definition["sizes"].items() if name in settings},
    }
    # Keep an equal file: the order of the metadata is undefined, so a new file with the same
    # contents could have another SHA-256.
    if not _contains(path, state.best, metadata):
        tensors = {name: tensor.contiguous() for name, tensor in state.best.items()}
        write_file(path, lambda unfinished: save_file(tensors, unfinished, metadata), share=share)


def _contains(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> bool:
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() == metadata and all(
                torch.equal(file.get_tensor(name), tensor) for name, tensor in tensors.items()
            )
    except (OSError, SafetensorError):
        return False
