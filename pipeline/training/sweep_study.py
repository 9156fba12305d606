"""The Optuna study of a sweep, kept in a folder so that a later sweep can resume it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

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
DEFINITION = "question.json"
"""Everything that the results of a sweep depend on; a resumed sweep must have the same."""


def open_study(
    folder: Path, settings: TrainSettings, space: Space, inputs: dict[str, Inputs]
) -> optuna.Study:
    """Create the study of a folder, or open it to add trials.

    Args:
        folder: Folder of the sweep.
        settings: Settings that all trials share.
        space: Values to try.
        inputs: Inputs by pooling.

    Returns:
        The study.

    Raises:
        UserError: The folder holds a different sweep or other files, or is not writable.
    """
    definition = {
        "settings": asdict(replace(settings, device="")),
        "space": asdict(space),
        "stores": {
            pooling: [store.identity for store in given.cache.stores]
            for pooling, given in inputs.items()
        },
        "labels": {pooling: _digest_labels(given) for pooling, given in inputs.items()},
        "versions": {name: version(name) for name in ("enecg", "torch")},
    }
    text = json.dumps(definition, indent=1)
    file = folder / DEFINITION
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if file.exists() and file.read_text() != text:
            raise UserError(
                f"{folder} holds a sweep with other options, data or library versions (see "
                f"{DEFINITION}); repeat its options to resume it, or choose another --out."
            )
        if not file.exists() and any(folder.iterdir()):
            raise UserError(f"{folder} is not a sweep and not empty; choose another --out.")
        file.write_text(text)
    except OSError as error:
        raise UserError(
            f"{folder} is not writable ({error.strerror}); choose another --out."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name="sweep",
        storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL))),
        load_if_exists=True,
    )
    # `constant_liar`: trials of one batch are suggested before any of them has a result. A
    # resumed sweep needs another seed, or it would suggest the first trials again.
    seed = settings.seed + len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    return study


def count_finished(study: optuna.Study) -> int:
    """Return the number of finished trials."""
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def tabulate_trials(trials: Sequence[FrozenTrial]) -> pd.DataFrame:
    """Return a table of the finished trials, the lowest loss first.

    Args:
        trials: Trials of a study.

    Returns:
        Columns ``trial``, ``loss`` and one per setting; missing where a setting does not apply.
    """
    rows = [
        {"trial": trial.number, "loss": trial.value} | trial.params
        for trial in trials
        if trial.state == TrialState.COMPLETE
    ]
    table = pd.DataFrame(rows)
    if "rank" in table:
        # A missing rank would make the column float.
        table["rank"] = table["rank"].astype("Int64")
    return table.sort_values("loss", kind="stable").reset_index(drop=True)


def _digest_labels(inputs: Inputs) -> str:
    """Return the SHA-256 of the patients and labels of all records."""
    columns = ["patient_id", *(task.column for task in inputs.tasks)]
    hashed = pd.util.hash_pandas_object(inputs.labels[columns])
    return hashlib.sha256(hashed.to_numpy().tobytes()).hexdigest()
