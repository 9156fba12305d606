"""Reuse of a run's cohorts and frozen hidden layers to train new tasks."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from enecg.errors import UserError
from pipeline.datasets.base import RecordIndex
from pipeline.runs.saved_run import SavedRun
from pipeline.training.cohorts import Cohort
from pipeline.training.settings import Adaptation, TrainSettings
from pipeline.waveforms.options import DecodeOptions
from stores.record_ids import RecordIds, as_ids

SHARED: Adaptation = "shared-lora"
PARTS = ("train", "validation", "test")


def open_base(folder: str) -> SavedRun:
    """Open a run whose hidden layers can be reused.

    Args:
        folder: Run folder.

    Returns:
        The run.

    Raises:
        UserError: The run does not exist or its tasks share no hidden layer.
    """
    base = SavedRun(Path(folder).expanduser())
    adaptation = base.config["settings"]["fit"]["adaptation"]
    if adaptation != SHARED:
        raise UserError(
            f"{folder} was trained with --adaptation {adaptation}, so its tasks share no hidden "
            f"layer; pass a run with --adaptation {SHARED} as --base."
        )
    return base


def adopt_settings(settings: TrainSettings, base: SavedRun) -> TrainSettings:
    """Replace the settings that a base run determines.

    Args:
        settings: Requested settings.
        base: The base run.

    Returns:
        Settings with the stores, cohorts and hidden size of the base run.

    Raises:
        UserError: The settings have a table of folds or label fractions.
    """
    inherited: dict[str, Any] = base.config["settings"]
    if settings.label_fractions:
        raise UserError(
            f"The hidden layers of --base {settings.base} were trained on all training patients of "
            "that run, so a fraction of them cannot be used; omit --label-fractions."
        )
    if settings.folds is not None:
        raise UserError(
            f"--base {settings.base} determines the patients of every repeat; omit --folds."
        )
    return replace(
        settings,
        experts=base.experts,
        weights=tuple(inherited["weights"]),
        pooling=tuple(inherited["pooling"]),
        dtype=inherited["dtype"],
        expert_settings=tuple(inherited.get("expert_settings", ())),
        precision=tuple(inherited.get("precision", ("float32",))),
        decoding=DecodeOptions.from_json(inherited.get("decoding", {})),
        repeats=inherited["repeats"],
        patients=inherited["patients"],
        ecgs=inherited["ecgs"],
        seed=inherited["seed"],
        limit=inherited["limit"],
        records=inherited.get("records"),
        fit=replace(settings.fit, adaptation=SHARED, hidden=inherited["fit"]["hidden"]),
    )


def load_cohorts(base: SavedRun, record_id: RecordIds, index: RecordIndex) -> list[Cohort]:
    """Load the cohorts of a base run.

    New tasks must use these cohorts. Otherwise, patients on whom the base run's hidden layers were
    trained could become test patients.

    Args:
        base: The base run.
        record_id: Ids of the records that have an embedding in every store.
        index: Current index of the data set.

    Returns:
        One cohort per repeat.

    Raises:
        UserError: A record of a cohort has no embedding, or a patient now has records in two
            parts of a cohort because the data set's index has changed.
    """
    cohorts = []
    for document in base.cohorts:
        cohort = Cohort(document["seed"], *(as_ids(document[part]) for part in PARTS))
        missing = int((~np.isin(cohort.record_id, record_id)).sum())
        if missing:
            raise UserError(
                f"{missing} of the {len(cohort.record_id)} records of a repeat of {base.folder} "
                "have no embedding; pass the --dataset and --store that the run was trained from."
            )
        _check_patients(base, cohort, index)
        cohorts.append(cohort)
    return cohorts


def _check_patients(base: SavedRun, cohort: Cohort, index: RecordIndex) -> None:
    """Raise UserError if a patient has records in more than one part of a cohort."""
    patients = [index.patient_id[np.isin(index.record_id, getattr(cohort, part))] for part in PARTS]
    for (part, ids), (other, other_ids) in combinations(zip(PARTS, patients, strict=True), 2):
        both = np.intersect1d(ids, other_ids)
        if len(both):
            raise UserError(
                f"{len(both)} patients (such as {both[0]}) have records in both the {part} and the "
                f"{other} part of {base.folder}, because the data set's patient ids have changed "
                "since the run was trained. Train it again."
            )


def load_hidden_layers(base: SavedRun, device: str) -> dict[str, Sequence[nn.Linear]]:
    """Load the hidden layers of a base run.

    Args:
        base: The base run.
        device: Torch device of the layers, such as ``"cuda:0"``.

    Returns:
        The layers by expert, one per repeat.
    """
    return {
        expert: [
            base.hidden_layer(repeat, expert).to(device) for repeat in range(len(base.cohorts))
        ]
        for expert in base.experts
    }
