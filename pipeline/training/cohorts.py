"""Cohorts of patients, split into training, validation and test records."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from enecg.errors import UserError
from stores.record_ids import RecordIds

EcgsPerPatient = Literal["one", "all"]

FRACTIONS = {"train": 0.7, "validation": 0.2, "test": 0.1}
"""Fraction of the patients in each part (EnECG, arXiv 2511.22935)."""


@dataclass(frozen=True)
class Cohort:
    """The records of one repeat, split so that all records of a patient are in the same part.

    Attributes:
        seed: Seed of the draw.
        train: Record ids of the training patients, sorted.
        validation: Record ids of the validation patients, sorted.
        test: Record ids of the test patients, sorted.
    """

    seed: int
    train: RecordIds
    validation: RecordIds
    test: RecordIds

    @property
    def record_id(self) -> RecordIds:
        """Record ids of all parts: training, then validation, then test."""
        return np.concatenate([self.train, self.validation, self.test])


def draw_cohort(
    record_id: RecordIds,
    patient_id: RecordIds,
    *,
    patients: int,
    seed: int,
    ecgs: EcgsPerPatient = "all",
) -> Cohort:
    """Draw patients at random and split them into training, validation and test (70/20/10).

    Args:
        record_id: Ids of the available records.
        patient_id: Patient of each record.
        patients: Number of patients to draw; if fewer are available, all are drawn.
        seed: Seed of the draw.
        ecgs: ``"all"`` keeps all ECGs of a patient, ``"one"`` keeps one at random.

    Returns:
        The cohort.

    Raises:
        UserError: There are too few patients for three parts.
    """
    distinct = np.unique(patient_id)
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(distinct)[:patients]
    train_end = round(FRACTIONS["train"] * len(chosen))
    validation_end = round((FRACTIONS["train"] + FRACTIONS["validation"]) * len(chosen))
    parts = np.split(chosen, [train_end, validation_end])
    if not all(len(part) for part in parts):
        raise UserError(
            f"{len(chosen)} patients are too few to split 70/20/10, which requires at least 6; use "
            "more records, or omit --limit and --patients."
        )
    if ecgs == "one":
        kept = _draw_one(patient_id, rng)
        record_id, patient_id = record_id[kept], patient_id[kept]
    ids = [np.sort(record_id[np.isin(patient_id, part)]) for part in parts]
    return Cohort(seed, *ids)


def split_by_part(
    record_id: RecordIds,
    patient_id: RecordIds,
    part: pd.Series,
    *,
    seed: int,
    ecgs: EcgsPerPatient = "all",
) -> Cohort:
    """Split records by the parts that they are assigned to.

    Args:
        record_id: Ids of the available records.
        patient_id: Patient of each record.
        part: ``train``, ``validation`` or ``test`` by record id; records without a part are
            not used.
        seed: Seed of the repeat.
        ecgs: ``"all"`` keeps all ECGs of a patient, ``"one"`` keeps one at random.

    Returns:
        The cohort.

    Raises:
        UserError: A part has no available record.
    """
    assigned = part.reindex(record_id)
    known = assigned.notna().to_numpy()
    record_id, patient_id, names = record_id[known], patient_id[known], assigned[known].to_numpy()
    if ecgs == "one":
        kept = _draw_one(patient_id, np.random.default_rng(seed))
        record_id, names = record_id[kept], names[kept]
    ids = {name: np.sort(record_id[names == name]) for name in FRACTIONS}
    for name, records in ids.items():
        if not len(records):
            raise UserError(
                f"No record of the {name} folds has an embedding; extract more records, or select "
                "other folds."
            )
    return Cohort(seed, **ids)


def _draw_one(patient_id: RecordIds, rng: np.random.Generator) -> np.ndarray:
    """Draw one record of each patient and return its position."""
    order = rng.permutation(len(patient_id))
    _, first = np.unique(patient_id[order], return_index=True)
    drawn: np.ndarray = order[first]
    return drawn
