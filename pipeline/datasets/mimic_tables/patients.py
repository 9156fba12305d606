"""MIMIC-IV's `hosp/patients`: age at the ECG, and sex."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from pipeline.datasets.absence_reasons import NOT_STATED
from pipeline.datasets.mimic_tables import columns
from pipeline.datasets.mimic_tables.csv_scan import SkippedRows, count_skipped, scan_csv
from pipeline.datasets.mimic_tables.engine import (
    fetch,
    open_engine,
    register_records,
    run,
    to_frame,
)
from pipeline.datasets.mimic_tables.reasons import first_reason
from pipeline.datasets.plausibility import AGE_OVER_89, PLAUSIBLE

_COLUMNS = ("subject_id", "gender", "anchor_age", "anchor_year")

_LOAD = f"""
    CREATE TABLE listed AS SELECT
        {columns.integer("subject_id")} AS patient_id,
        {columns.parsed("anchor_age", columns.number)},
        {columns.parsed("anchor_year", columns.number)},
        CASE upper({columns.text("gender")}) WHEN 'M' THEN 1.0 WHEN 'F' THEN 0.0 END AS sex,
        {columns.is_stated("gender")} AS gender_stated
    FROM csv
"""

_FIRST_ROWS = """
    CREATE TABLE patients AS
    SELECT *, row_number() OVER (PARTITION BY patient_id ORDER BY rowid) AS occurrence
    FROM listed WHERE patient_id IN (SELECT patient_id FROM records)
"""

# MIMIC-IV replaces anchor ages over 89 with 91, so the exact age in other years is unknown.
_AGES = f"""
    CREATE TABLE ages AS
    SELECT row, ecg_time, occurrence IS NOT NULL AS listed, sex, gender_stated,
        unreadable_anchor_age OR unreadable_anchor_year AS unreadable_age,
        -- `greatest` would ignore a missing ECG time.
        CASE WHEN anchor_age >= {AGE_OVER_89} AND age_now < {AGE_OVER_89} THEN {AGE_OVER_89}
        ELSE age_now END AS age
    FROM (
        SELECT *, year(ecg_time) - anchor_year + anchor_age AS age_now
        FROM records LEFT JOIN patients
            ON records.patient_id = patients.patient_id AND occurrence = 1
    )
"""

_YOUNGEST, _OLDEST = PLAUSIBLE["age"]
_IS_PLAUSIBLE = f"age BETWEEN {_YOUNGEST} AND {_OLDEST}"
_AGE_ABSENT = first_reason(
    "age",
    ("ecg_time IS NULL", "no_ecg_time"),
    ("NOT listed", "patient_not_listed"),
    ("unreadable_age", "unreadable"),
    (f"NOT ({_IS_PLAUSIBLE})", "implausible"),
    ("age IS NULL", NOT_STATED),
)
_SEX_ABSENT = first_reason(
    "sex",
    ("NOT listed", "patient_not_listed"),
    ("sex IS NULL AND gender_stated", "unknown_word"),
    ("sex IS NULL", NOT_STATED),
)
_LABELS = f"""
    SELECT
        if({_IS_PLAUSIBLE}, least(age, {AGE_OVER_89}), NULL) AS age, {_AGE_ABSENT},
        sex::DOUBLE AS sex, {_SEX_ABSENT}
    FROM ages
    ORDER BY row
"""


def read_patient_labels(
    path: Path,
    records: pd.DataFrame,
    skipped: SkippedRows,
    progress: Callable[[float], None] | None = None,
) -> pd.DataFrame:
    """Read age and sex from `patients.csv`.

    Age is `anchor_age` plus the years from `anchor_year` to the ECG; `AGE_OVER_89` replaces it if
    the age or the anchor age is over 89. Ages outside the plausible range are missing. If a
    patient is listed twice, the first row is used.

    Args:
        path: The table, plain or gzipped.
        records: Result of `read_records`.
        skipped: Updated with the number of rows skipped, or used in part, keyed by description.
        progress: Called with the fraction of the file that has been read, 0 to 1.

    Returns:
        One row per record: `age` (years), `sex` (1 male, 0 female), and their reasons for absence.

    Raises:
        UserError: The table cannot be read or lacks a column.
    """
    with open_engine() as connection:
        scan_csv(connection, path, _COLUMNS, skipped, lambda: run(connection, _LOAD, progress))
        register_records(connection, records)
        run(connection, _FIRST_ROWS)
        counts = {
            "repeated rows of a patient, skipped": "count_if(occurrence > 1)",
            "anchor ages and years that are not numbers": (
                "count_if(occurrence = 1 AND unreadable_anchor_age) "
                "+ count_if(occurrence = 1 AND unreadable_anchor_year)"
            ),
            "patients whose gender is neither M nor F": (
                "count_if(occurrence = 1 AND gender_stated AND sex IS NULL)"
            ),
        }
        count_skipped(connection, "patients", path, skipped, counts)
        run(connection, _AGES)
        over_89 = f"count_if(age >= {AGE_OVER_89} AND {_IS_PLAUSIBLE})"
        count_skipped(
            connection, "ages", path, skipped, {f"ages over 89, set to {AGE_OVER_89:g}": over_89}
        )
        labels = fetch(connection, _LABELS)
    return to_frame(labels)
