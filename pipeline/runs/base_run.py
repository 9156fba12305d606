"""A run whose hidden layers a new task is trained on: it adds an adapter, and changes nothing."""

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
from pipeline.training.fit import Adaptation
from pipeline.training.train_settings import TrainSettings
from stores.record_ids import RecordIds, as_ids

SHARED: Adaptation = "shared-lora"
PARTS = ("train", "validation", "test")


def open_base(folder: str) -> SavedRun:
    """The run. Raises UserError where there is none, or its tasks share no hidden layer."""
    base = SavedRun(Path(folder).expanduser())
    adaptation = base.config["settings"]["fit"]["adaptation"]
    if adaptation != SHARED:
        raise UserError(
            f"{folder} was trained by --adaptation {adaptation}, whose tasks share no layer; name "
            f"a run of --adaptation {SHARED} as --base."
        )
    return base


def adopt_settings(settings: TrainSettings, base: SavedRun) -> TrainSettings:
    """The settings with all that is the base's own: its stores, its patients, its hidden layers."""
    given: dict[str, Any] = base.config["settings"]
    return replace(
        settings,
        experts=base.experts,
        weights=tuple(given["weights"]),
        pooling=tuple(given["pooling"]),
        dtype=given["dtype"],
        repeats=given["repeats"],
        patients=given["patients"],
        ecgs=given["ecgs"],
        seed=given["seed"],
        limit=given["limit"],
        fit=replace(settings.fit, adaptation=SHARED, hidden=given["fit"]["hidden"]),
    )


def load_cohorts(base: SavedRun, record_id: RecordIds, index: RecordIndex) -> list[Cohort]:
    """The base's cohorts, so that nobody whom its layers have seen is judged on.

    `index`: the data set's, which says who took which record today. Raises UserError where an
    embedding of theirs is not among `record_id`, or where somebody is in two parts of one cohort.
    """
    cohorts = []
    for drawn in base.cohorts:
        parts = (as_ids(drawn[part]) for part in PARTS)
        cohort = Cohort(drawn["seed"], *parts)
        missing = int((~np.isin(cohort.everyone, record_id)).sum())
        if missing:
            raise UserError(
                f"{missing} of the {len(cohort.everyone)} records of {base.folder} cannot be had "
                "any more; give the --dataset and --store that it was trained from."
            )
        _check_patients(base, cohort, index)
        cohorts.append(cohort)
    return cohorts


def _check_patients(base: SavedRun, cohort: Cohort, index: RecordIndex) -> None:
    """Raises UserError where the data set's patients have changed so that one is in two parts."""
    patients = [index.patient_id[np.isin(index.record_id, getattr(cohort, part))] for part in PARTS]
    for (one, mine), (other, theirs) in combinations(zip(PARTS, patients, strict=True), 2):
        both = np.intersect1d(mine, theirs)
        if len(both):
            raise UserError(
                f"{len(both)} patients have records in both {one} and {other} of {base.folder}, "
                f"such as {both[0]}: the data set's patients are others than when it was trained; "
                "train the base again."
            )


def load_hidden_layers(base: SavedRun, device: str) -> dict[str, Sequence[nn.Linear]]:
    """By expert, the hidden layer of each repeat."""
    return {
        expert: [
            base.hidden_layer(repeat, expert).to(device) for repeat in range(len(base.cohorts))
        ]
        for expert in base.experts
    }
