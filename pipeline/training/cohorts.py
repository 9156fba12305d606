"""Who is trained on, who is validated on, who is tested on: by patient, from a seed."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from enecg.errors import UserError
from stores.record_ids import RecordIds

Ecgs = Literal["one", "all"]

FRACTIONS = {"train": 0.7, "validation": 0.2, "test": 0.1}
"""The paper's protocol (arXiv 2511.22935)."""


@dataclass(frozen=True)
class Cohort:
    """Record ids of one repeat, by part; no patient is in two parts."""

    seed: int
    train: RecordIds
    validation: RecordIds
    test: RecordIds

    @property
    def everyone(self) -> RecordIds:
        """The record ids of all three parts."""
        return np.concatenate([self.train, self.validation, self.test])


def draw(
    record_id: RecordIds,
    patient_id: RecordIds,
    *,
    patients: int,
    seed: int,
    ecgs: Ecgs = "all",
) -> Cohort:
    """Draw patients at random, all of them if there are no more, and split them 70/20/10.

    All ECGs of a patient go with the patient, or `one` of them, drawn at random. Raises UserError
    where there are too few patients for three parts.
    """
    distinct = np.unique(patient_id)
    random = np.random.default_rng(seed)
    chosen = random.permutation(distinct)[:patients]
    last_train = round(FRACTIONS["train"] * len(chosen))
    last_validation = round((FRACTIONS["train"] + FRACTIONS["validation"]) * len(chosen))
    parts = np.split(chosen, [last_train, last_validation])
    if not all(len(part) for part in parts):
        raise UserError(
            f"{len(chosen)} patients are too few to split 70/20/10, six are enough; extract more "
            "records, or leave out --limit and --patients."
        )
    if ecgs == "one":
        order = random.permutation(len(record_id))
        _, first = np.unique(patient_id[order], return_index=True)
        record_id, patient_id = record_id[order[first]], patient_id[order[first]]
    ids = [np.sort(record_id[np.isin(patient_id, part)]) for part in parts]
    return Cohort(seed, *ids)
