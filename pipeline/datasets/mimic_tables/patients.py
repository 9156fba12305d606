"""MIMIC-IV's `hosp/patients`: age at the ECG, and sex."""

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
    """Read age and sex from `patients.csv`.

    Age is `anchor_age` plus the years from `anchor_year` to the ECG. MIMIC-IV replaces anchor ages
    over 89 by 91, so an age of 90 or more only means at least 90. Ages outside
    `PLAUSIBLE_AGE_YEARS` are missing. If a patient is listed twice, the first row is used. A table
    that cannot be read or lacks a column raises UserError.

    Args:
        path: The table, plain or gzipped.
        records: Result of `read_records`.
        skipped: Updated with the number of rows skipped, or used in part, by description.
        progress: Called with the position in the file, in bytes.

    Returns:
        One row per record: `age` (years), `sex` (1 male, 0 female), and their reasons for absence.
    """
    patient, patients = pd.factorize(records["patient_id"])
    index = pd.Index(patients)
    birth_year, male = np.full((2, len(index)), np.nan)
    listed = np.zeros(len(index), bool)
    for batch in read_blocks(path, _COLUMNS, skipped, progress=progress):
        ids = parse_integers(batch["subject_id"])
        row = np.where(ids.known, index.get_indexer(pd.Index(ids.values)), -1)
        known = np.flatnonzero(row >= 0)
        found, first = np.unique(row[known], return_index=True)
        new = ~listed[found]
        skipped[f"{path.name}: repeated rows of a patient, skipped"] += len(known) - int(new.sum())
        found, place = found[new], known[first[new]]
        listed[found] = True
        age = parse_numbers(batch["anchor_age"].take(place))
        year = parse_numbers(batch["anchor_year"].take(place))
        skipped[f"{path.name}: anchor ages and years that are not numbers"] += (
            age.unreadable + year.unreadable
        )
        birth_year[found] = year.values - age.values
        gender = pc.utf8_upper(parse_text(batch["gender"].take(place)))
        male[found] = pd.Series(gender.to_pandas()).map({"M": 1.0, "F": 0.0}).to_numpy(np.float64)
    ecg_year = records["ecg_time"].dt.year.to_numpy(np.float64)
    unlisted = ~listed[patient]
    age_at_ecg, sex = ecg_year - birth_year[patient], male[patient]
    youngest, oldest = PLAUSIBLE_AGE_YEARS
    implausible = (age_at_ecg < youngest) | (age_at_ecg > oldest)
    return pd.DataFrame(
        {
            "age": np.where(implausible, np.nan, age_at_ecg),
            "age_absent": first_reason(
                "age",
                (np.isnan(ecg_year), "no_ecg_time"),
                (unlisted, "patient_not_listed"),
                (implausible, "implausible"),
                (np.isnan(age_at_ecg), NOT_STATED),
            ),
            "sex": sex,
            "sex_absent": first_reason(
                "sex", (unlisted, "patient_not_listed"), (np.isnan(sex), NOT_STATED)
            ),
        }
    )
