"""Who the patient was: age at the ECG, and sex."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from pipeline.datasets.absence_reasons import NOT_STATED, first_reason
from pipeline.datasets.label_rules import PLAUSIBLE_AGE_YEARS
from pipeline.datasets.mimic_tables.csv_blocks import SkippedRows, read_blocks
from pipeline.datasets.mimic_tables.fields import parse_integers, parse_numbers, parse_text

_COLUMNS = ("subject_id", "gender", "anchor_age", "anchor_year")


def read_patient_labels(
    path: Path,
    records: pd.DataFrame,
    skipped: SkippedRows,
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """`age` (years at the ECG) and `sex` (1 male, 0 female) of each record, out of `patients.csv`.

    Age is `anchor_age` plus the years from `anchor_year` to the ECG's. MIMIC-IV writes 91 for
    every anchor age over 89, so ages of 90 and more are only known to be that; outside
    `PLAUSIBLE_AGE_YEARS` there is none. A patient listed twice counts as listed first. Raises
    UserError as `blocks` does.
    """
    whose, patients = pd.factorize(records["patient_id"])
    index = pd.Index(patients)
    born, male = np.full((2, len(index)), np.nan)
    listed = np.zeros(len(index), bool)
    for batch in read_blocks(path, _COLUMNS, skipped, progress=progress):
        ids = parse_integers(batch["subject_id"])
        row = np.where(ids.known, index.get_indexer(pd.Index(ids.values)), -1)
        known = np.flatnonzero(row >= 0)
        found, first = np.unique(row[known], return_index=True)
        new = ~listed[found]
        skipped[f"{path.name}: rows of a patient listed before, left out"] += len(known) - int(
            new.sum()
        )
        found, place = found[new], known[first[new]]
        listed[found] = True
        age, year = (
            parse_numbers(batch[name].take(place)) for name in ("anchor_age", "anchor_year")
        )
        unreadable = age.unreadable + year.unreadable
        skipped[f"{path.name}: anchor ages and years that are no numbers"] += unreadable
        # The year in which the patient would have been 0: the ECG's less this is the age.
        born[found] = year.values - age.values
        gender = pc.utf8_upper(parse_text(batch["gender"].take(place)))
        male[found] = pd.Series(gender.to_pandas()).map({"M": 1.0, "F": 0.0}).to_numpy(np.float64)
    year = records["ecg_time"].dt.year.to_numpy(np.float64)
    strangers = ~listed[whose]
    age_then, sex = year - born[whose], male[whose]
    youngest, oldest = PLAUSIBLE_AGE_YEARS
    implausible = (age_then < youngest) | (age_then > oldest)
    return pd.DataFrame(
        {
            "age": np.where(implausible, np.nan, age_then),
            "age_absent": first_reason(
                "age",
                (np.isnan(year), "no_ecg_time"),
                (strangers, "patient_not_listed"),
                (implausible, "implausible"),
                (np.isnan(age_then), NOT_STATED),
            ),
            "sex": sex,
            "sex_absent": first_reason(
                "sex", (strangers, "patient_not_listed"), (np.isnan(sex), NOT_STATED)
            ),
        }
    )
