"""Potassium labels of MIMIC-IV-ECG: one laboratory result per ECG, from `labevents.csv`."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from pipeline.datasets.label_rules import LabelRules
from pipeline.datasets.mimic_tables import columns
from pipeline.datasets.mimic_tables.abnormality import (
    available_columns,
    choose_criterion,
    contradicts_flag,
    is_abnormal,
    is_flagged,
)
from pipeline.datasets.mimic_tables.csv_scan import SkippedRows, count_skipped, scan_csv
from pipeline.datasets.mimic_tables.engine import (
    fetch,
    open_engine,
    register_records,
    run,
    to_frame,
)
from pipeline.datasets.mimic_tables.reasons import first_reason
from pipeline.datasets.mimic_tables.sql import quote_list
from pipeline.datasets.plausibility import PLAUSIBLE

RESULT_COLUMNS = ("subject_id", "itemid", "charttime", "valuenum")

# A cast to DOUBLE is faster than `columns.integer`. It is exact for item ids below 2**53, and
# `LabelRules` rejects others.
_ITEM = "try_cast(itemid AS DOUBLE)"

_PLACES = 1 << 38
"""Upper limit of row numbers.

To find the nearest result, ``seconds * _PLACES + row number`` is minimized, because one integer
needs less memory than a struct. Time differences are at most a year, less than 2**25 s, so 63 bits
suffice.
"""

_RESULTS = """
    CREATE VIEW results AS
    SELECT
        subject_id AS patient_id, charttime, valuenum AS value, abnormal, contradictory, flagged,
        rowid AS place
    FROM loaded
    WHERE NOT unreadable_itemid AND subject_id IS NOT NULL AND charttime IS NOT NULL
        AND valuenum IS NOT NULL
"""
_SKIPPED = {
    "rows whose itemid is unreadable, skipped": "count_if(unreadable_itemid)",
    **{
        f"potassium rows whose {column} is unreadable, skipped": (
            f"count_if(unreadable_{column} AND NOT unreadable_itemid)"
        )
        for column in ("subject_id", "charttime", "valuenum")
    },
    "potassium rows without valuenum, skipped": (
        "count_if(valuenum IS NULL AND NOT unreadable_valuenum AND NOT unreadable_itemid)"
    ),
}

_LOWEST, _HIGHEST = PLAUSIBLE["potassium_mmol_l"]
_IS_PLAUSIBLE = f"value BETWEEN {_LOWEST} AND {_HIGHEST}"
_ABSENT = first_reason(
    "potassium",
    ("ecg_time IS NULL", "no_ecg_time"),
    ("patient_id NOT IN (SELECT DISTINCT patient_id FROM results)", "no_result"),
    ("value IS NULL", "none_in_window"),
    (f"NOT ({_IS_PLAUSIBLE})", "implausible"),
    ("abnormal IS NULL", "unknown_flag"),
)
_LABELS = f"""
    SELECT
        if({_IS_PLAUSIBLE}, abnormal::DOUBLE, NULL) AS potassium,
        if({_IS_PLAUSIBLE}, value, NULL) AS potassium_mmol_l,
        {_ABSENT}
    FROM records LEFT JOIN best USING (row)
    ORDER BY row
"""
_CONTRADICTIONS = {
    f"potassium labels whose flag contradicts the row's reference range ({description})": (
        f"count_if(contradictory AND {_IS_PLAUSIBLE} AND {condition})"
    )
    for description, condition in (
        ("flagged, but inside", "flagged"),
        ("not flagged, but outside", "NOT flagged"),
    )
}


def read_potassium_labels(
    path: Path,
    records: pd.DataFrame,
    rules: LabelRules,
    progress: Callable[[float], None] | None = None,
) -> tuple[pd.DataFrame, SkippedRows]:
    """Read the potassium of each record from `labevents.csv`, in one pass over the table.

    The rules select one result per record among the results with a numeric value. If the selected
    result is implausible, the record has neither a label nor a value. If the criterion for abnormal
    results is the laboratory's flag and the flag is unknown, the record has a value but no label.

    Args:
        path: The table, plain or gzipped.
        records: Records to label, as returned by `read_records`.
        rules: Rules that select results and define abnormal results.
        progress: Called with the fraction of the file that has been read, 0 to 1.

    Returns:
        A table and the number of skipped rows for each reason. The table has one row per record, in
        the order of `records`, with `potassium` (1 abnormal, 0 normal), `potassium_mmol_l` and the
        reason if the label is missing.

    Raises:
        UserError: The table cannot be read, or lacks a column.
    """
    criterion, available = choose_criterion(path, rules), available_columns(path)
    value = columns.number("valuenum")
    load = f"""
        CREATE TABLE loaded AS SELECT
            {_ITEM} IS NULL AS unreadable_itemid,
            {columns.parsed("subject_id", columns.integer)},
            {columns.parsed("charttime", columns.time)},
            {columns.parsed("valuenum", columns.number)},
            {is_abnormal(criterion, value, rules)} AS abnormal,
            {contradicts_flag(value, available)} AS contradictory,
            {is_flagged() if "flag" in available else "false"} AS flagged
        FROM csv
        WHERE CASE
            WHEN {_ITEM} IS NULL THEN {columns.is_stated("itemid")}
            ELSE {_ITEM} IN {quote_list(rules.potassium_items)}
        END
    """
    needed = (*RESULT_COLUMNS, *available)
    skipped = SkippedRows()
    with open_engine() as connection:
        scan_csv(connection, path, needed, skipped, lambda: run(connection, load, progress))
        count_skipped(connection, "loaded", path, skipped, _SKIPPED)
        register_records(connection, records)
        run(connection, _RESULTS)
        run(connection, _choose_results(rules))
        count_skipped(connection, "best", path, skipped, _CONTRADICTIONS)
        labels = fetch(connection, _LABELS)
    return to_frame(labels), skipped


def _choose_results(rules: LabelRules) -> str:
    """Return the SQL statement that selects one result per record; ties use the row order."""
    before = rules.window_seconds if rules.match == "nearest" else 0
    return f"""
        CREATE TABLE best AS
        WITH chosen AS (
            SELECT row,
                min(abs(epoch(charttime) - epoch(ecg_time))::BIGINT * {_PLACES} + place) AS nearest
            FROM results JOIN records USING (patient_id)
            WHERE charttime BETWEEN ecg_time - to_seconds({before})
                AND ecg_time + to_seconds({rules.window_seconds})
            GROUP BY row
        )
        SELECT row, value, abnormal, contradictory, flagged
        FROM chosen JOIN results ON place = nearest % {_PLACES}
    """
