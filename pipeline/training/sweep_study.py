"""Optuna study of a sweep, stored in its folder so that the sweep can be resumed."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from enecg.errors import UserError
from pipeline.training.inputs import Inputs
from pipeline.training.settings import TrainSettings
from pipeline.training.sweep_space import Space

JOURNAL = "trials.journal"
DEFINITION = "sweep.json"
"""File with everything that the results of a sweep depend on. It is compared before resuming."""


def open_study(
    folder: Path,
    settings: TrainSettings,
    space: Space,
    inputs: dict[str, Inputs],
    folds: str = "",
) -> optuna.Study:
    """Open the study in a folder, or create it if the folder is new or empty.

    Args:
        folder: Folder of the sweep.
        settings: Settings that all trials share.
        space: Search space.
        inputs: Inputs, by pooling.
        folds: SHA-256 of the table of folds; empty without one.

    Returns:
        The study.

    Raises:
        UserError: The folder contains a different sweep or other files, or is not writable.
    """
    definition: dict[str, Any] = {
        "settings": asdict(replace(settings, device="", threads=0)),
        "space": asdict(space),
        "stores": {
            pooling: [store.identity for store in pooling_inputs.cache.stores]
            for pooling, pooling_inputs in inputs.items()
        },
        "labels": {
            pooling: _digest_labels(pooling_inputs) for pooling, pooling_inputs in inputs.items()
        },
        "versions": {name: version(name) for name in ("enecg", "torch")},
    }
    if folds:
        definition["folds"] = folds
    text = json.dumps(definition, indent=1)
    file, unfinished = folder / DEFINITION, folder / f"unfinished-{DEFINITION}"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with translate_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if file.exists():
            if _add_defaults(file.read_text(encoding="utf-8")) != json.loads(text):
                raise UserError(
                    f"{folder} contains a sweep with other options, data or library versions (see "
                    f"{DEFINITION}); repeat its options to resume it, or choose another --out."
                )
        elif set(folder.iterdir()) - {unfinished}:
            raise UserError(
                f"{folder} is not empty and does not contain a sweep; choose another --out."
            )
        else:
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(file)
        journal = folder / JOURNAL
        if journal.exists():
            _remove_incomplete_line(journal)
        study = optuna.create_study(
            study_name="sweep",
            storage=JournalStorage(JournalFileBackend(str(journal))),
            load_if_exists=True,
        )
    # `constant_liar` diversifies a batch, whose trials are sampled before any has a result. A
    # resumed sweep needs a new seed: the old one would sample the first trials again.
    seed = settings.seed + len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    return study


@contextmanager
def translate_write_errors(folder: Path) -> Iterator[None]:
    """Convert errors of writing files to a UserError that names the folder of the sweep."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}); free some space or change its "
            "permissions, and repeat the command to resume the sweep."
        ) from error


def count_finished(study: optuna.Study) -> int:
    """Return the number of finished trials."""
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def tabulate_trials(trials: Sequence[FrozenTrial]) -> pd.DataFrame:
    """Build a table of the finished trials, sorted by loss.

    Args:
        trials: Trials of a study, at least one of them finished.

    Returns:
        Columns ``trial``, ``loss`` and one per hyperparameter, missing where it is not used.
    """
    rows = [
        {"trial": trial.number, "loss": trial.value} | trial.params
        for trial in trials
        if trial.state == TrialState.COMPLETE
    ]
    table = pd.DataFrame(rows)
    if "rank" in table:
        # With missing ranks, pandas would convert the column to float.
        table["rank"] = table["rank"].astype("Int64")
    return table.sort_values("loss", kind="stable").reset_index(drop=True)


def _remove_incomplete_line(journal: Path) -> None:
    """Remove the last line if a kill or a full disk interrupted writing it.

    Optuna ignores such a line when it reads the journal, but would append the next one to it.
    """
    contents = journal.read_bytes()
    size = contents.rfind(b"\n") + 1
    if size < len(contents):
        os.truncate(journal, size)


def _add_defaults(text: str) -> Any:
    """Parse a definition and add defaults of newer settings; return None if it is invalid."""
    defaults = json.loads(json.dumps(asdict(TrainSettings())))
    try:
        definition = json.loads(text)
        settings = definition["settings"]
        for group in ("fit", "decoding"):
            settings[group] = defaults[group] | settings.get(group, {})
        definition["settings"] = defaults | settings
    except (ValueError, TypeError, KeyError):
        return None
    return definition


def _digest_labels(inputs: Inputs) -> str:
    """Return the SHA-256 digest of the patients and labels of all records."""
    columns = ["patient_id", *(task.column for task in inputs.tasks)]
    hashed = pd.util.hash_pandas_object(inputs.labels[columns])
    return hashlib.sha256(hashed.to_numpy().tobytes()).hexdigest()
