"""Train new tasks on the hidden layers of an earlier run, which is not changed."""

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
from stores.record_ids import RecordIds, as_ids

SHARED: Adaptation = "shared-lora"
PARTS = ("train", "validation", "test")


def open_base(folder: str) -> SavedRun:
    """Open a run, or raise UserError if there is none or its tasks share no hidden layer."""
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
        Settings with the base's stores, patients, seeds and hidden units.
    """
    of_base: dict[str, Any] = base.config["settings"]
    return replace(
        settings,
        experts=base.experts,
        weights=tuple(of_base["weights"]),
        pooling=tuple(of_base["pooling"]),
        dtype=of_base["dtype"],
        repeats=of_base["repeats"],
        patients=of_base["patients"],
        ecgs=of_base["ecgs"],
        seed=of_base["seed"],
        limit=of_base["limit"],
        fit=replace(settings.fit, adaptation=SHARED, hidden=of_base["fit"]["hidden"]),
    )


def load_cohorts(base: SavedRun, record_id: RecordIds, index: RecordIndex) -> list[Cohort]:
    """Load the cohorts of a base run, so that no test patient was used for its hidden layers.

    Args:
        base: The base run.
        record_id: Records with embeddings.
        index: Current index of the data set.

    Returns:
        One cohort per repeat.

    Raises:
        UserError: A record has no embedding, or the data set now assigns records of two parts of
            a cohort to the same patient.
    """
    cohorts = []
    for document in base.cohorts:
        cohort = Cohort(document["seed"], *(as_ids(document[part]) for part in PARTS))
        missing = int((~np.isin(cohort.record_id, record_id)).sum())
        if missing:
            raise UserError(
                f"{missing} of the {len(cohort.record_id)} records of {base.folder} have no "
                "embedding; pass the --dataset and --store that it was trained from."
            )
        _check_patients(base, cohort, index)
        cohorts.append(cohort)
    return cohorts


def _check_patients(base: SavedRun, cohort: Cohort, index: RecordIndex) -> None:
    """Raise UserError if a patient has records in two parts of a cohort."""
    patients = [index.patient_id[np.isin(index.record_id, getattr(cohort, part))] for part in PARTS]
    for (part, ids), (other, other_ids) in combinations(zip(PARTS, patients, strict=True), 2):
        both = np.intersect1d(ids, other_ids)
        if len(both):
            raise UserError(
                f"{len(both)} patients (such as {both[0]}) have records in both {part} and "
                f"{other} of {base.folder}: the data set's patients have changed since the "
                "training. Train the base again."
            )


def load_hidden_layers(base: SavedRun, device: str) -> dict[str, Sequence[nn.Linear]]:
    """Load the hidden layers of a base run.

    Args:
        base: The base run.
        device: Device of the layers.

    Returns:
        By expert, one layer per repeat.
    """
    return {
        expert: [
            base.hidden_layer(repeat, expert).to(device) for repeat in range(len(base.cohorts))
        ]
        for expert in base.experts
    }
