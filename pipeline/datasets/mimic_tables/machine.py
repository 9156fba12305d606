"""The ECG machine's measurements: RR interval and diagnosis of each record."""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from enecg.errors import UserError
from pipeline.datasets.label_columns import MISSING_VALUES
from pipeline.datasets.label_rules import FIRST_LINE_SKIPPED, LabelRules
from pipeline.datasets.mimic_tables import columns
from pipeline.datasets.mimic_tables.csv_file import read_header
from pipeline.datasets.mimic_tables.csv_scan import SkippedRows, count_skipped, scan_csv
from pipeline.datasets.mimic_tables.engine import (
    fetch,
    open_engine,
    register_records,
    run,
    to_frame,
)
from pipeline.datasets.mimic_tables.reasons import first_reason
from pipeline.datasets.mimic_tables.sql import quote_list, quote_text
from pipeline.datasets.plausibility import PLAUSIBLE
from pipeline.mimic_codes import REPORT_LINES, UNMEASURED

_LINE_SEPARATOR = "chr(31)"
"""SQL expression for the ASCII unit separator, which separates the lines of a report."""

# One diagnosis occurs in several spellings, such as `*** Atrial Fibrillation. ***`.
_DECORATION = r"^[\s.,;:*-]+|[\s.,;:*-]+$"
_NORMALIZED_LINE = (
    rf"lower(regexp_replace(regexp_replace(line, '\s+', ' ', 'g'), '{_DECORATION}', '', 'g'))"
)
_NORMALIZED_REPORT = f"""
    array_to_string(list_transform(
        string_split(report, {_LINE_SEPARATOR}), lambda line: {_NORMALIZED_LINE}
    ), '; ')
"""
# A table has millions of lines, but only a few hundred different lines.
_DIAGNOSES = f"""
    CREATE TABLE diagnoses AS
    SELECT report, {_NORMALIZED_REPORT} AS diagnosis FROM (SELECT DISTINCT report FROM listed)
"""
_DIAGNOSIS_TYPE = """
    CREATE TYPE diagnosis AS ENUM (
        SELECT DISTINCT diagnosis FROM diagnoses WHERE diagnosis IS NOT NULL
    )
"""

_MATCHED = """
    CREATE TABLE matched AS
    SELECT
        records.row::INT AS row,
        listed.rowid::INT AS place,
        coalesce(listed.patient_id <> records.patient_id, false) AS other_patient
    FROM listed JOIN records USING (record_id)
"""
_USED = """
    CREATE TABLE used AS
    SELECT
        row, place, rr_interval, unreadable_rr_interval, has_skipped_line,
        diagnosis::diagnosis AS diagnosis
    FROM (
        SELECT row, min(place) FILTER (WHERE NOT other_patient) AS place FROM matched GROUP BY row
    )
    LEFT JOIN listed ON listed.rowid = place
    LEFT JOIN diagnoses USING (report)
"""

_SHORTEST, _LONGEST = PLAUSIBLE["rr_interval"]
_IS_PLAUSIBLE = f"rr_interval BETWEEN {_SHORTEST} AND {_LONGEST}"
_UNMATCHED = (("used.row IS NULL", "not_listed"), ("place IS NULL", "other_patient"))
_RR_ABSENT = first_reason(
    "rr_interval",
    *_UNMATCHED,
    ("unreadable_rr_interval", "unreadable"),
    (f"rr_interval IS NULL OR rr_interval = {UNMEASURED}", "not_measured"),
    (f"NOT ({_IS_PLAUSIBLE})", "implausible"),
)
_DIAGNOSIS_ABSENT = first_reason(
    "diagnosis",
    *_UNMATCHED,
    ("diagnosis IS NULL AND has_skipped_line", "no_diagnosis"),
    ("diagnosis IS NULL", "no_report"),
)
_LABELS = f"""
    SELECT
        if({_IS_PLAUSIBLE}, rr_interval, NULL) AS rr_interval, {_RR_ABSENT},
        diagnosis, {_DIAGNOSIS_ABSENT}
    FROM records LEFT JOIN used USING (row)
    ORDER BY row
"""


def read_machine_labels(
    path: Path,
    records: pd.DataFrame,
    rules: LabelRules,
    skipped: SkippedRows,
    progress: Callable[[float], None] | None = None,
) -> pd.DataFrame:
    """Read RR interval and diagnosis from `machine_measurements.csv`.

    Rows whose `subject_id` differs from the record's patient are skipped. If a study is listed
    twice, the first row is used.

    Args:
        path: The table, plain or gzipped.
        records: Result of `read_records`.
        rules: Rules that select the report lines.
        skipped: Updated with the number of rows skipped or used in part, keyed by description.
        progress: Called with the fraction of the file that has been read, 0 to 1.

    Returns:
        One row per record: `rr_interval` (ms), `diagnosis`, and their reasons for absence.

    Raises:
        UserError: The table cannot be read or lacks a column, such as the selected report line.
    """
    reports = _report_columns(path, rules)
    subject = ["subject_id"] if "subject_id" in read_header(path) else []
    load = f"""
        CREATE TABLE listed AS SELECT
            {columns.integer("study_id")} AS record_id,
            {columns.integer("subject_id") if subject else "NULL::BIGINT"} AS patient_id,
            {columns.parsed("rr_interval", columns.number)},
            {_has_skipped_line(reports, rules)} AS has_skipped_line,
            {_report(reports, rules)} AS report
        FROM csv
    """
    needed = ("study_id", "rr_interval", *subject, *reports)
    with open_engine() as connection:
        scan_csv(connection, path, needed, skipped, lambda: run(connection, load, progress))
        register_records(connection, records)
        for statement in (_MATCHED, _DIAGNOSES, _DIAGNOSIS_TYPE, _USED):
            run(connection, statement)
        for table, description, count in (
            (
                "listed",
                "rows whose study_id is not an integer, skipped",
                "count_if(record_id IS NULL)",
            ),
            (
                "matched",
                "rows whose subject_id differs from the record's, skipped",
                "count_if(other_patient)",
            ),
            (
                "matched",
                "repeated rows of a study, skipped",
                "count_if(NOT other_patient) - count(DISTINCT if(other_patient, NULL, row))",
            ),
            (
                "used",
                "rows whose rr_interval is not a number",
                "count_if(unreadable_rr_interval)",
            ),
            (
                "used",
                FIRST_LINE_SKIPPED,
                "count_if(has_skipped_line)",
            ),
        ):
            count_skipped(connection, table, path, skipped, {description: count})
        # Free memory before the labels are fetched.
        run(connection, "DROP TABLE listed")
        labels = fetch(connection, _LABELS)
    diagnoses = labels["diagnosis"].combine_chunks().dictionary_decode()
    column = labels.column_names.index("diagnosis")
    return to_frame(labels.set_column(column, "diagnosis", diagnoses))


def _report_columns(path: Path, rules: LabelRules) -> list[str]:
    """Return the columns of the selected report lines that exist."""
    header = read_header(path)
    every = rules.report in ("first", "all")
    selected = [f"report_{number}" for number in (range(REPORT_LINES) if every else [rules.report])]
    available = [name for name in selected if name in header]
    if not available:
        raise UserError(
            f"{path} has no column {selected[0]}; download it again or select another report line."
        )
    return available


def _report(reports: list[str], rules: LabelRules) -> str:
    """Return an SQL expression for the first or all selected report lines that are diagnoses."""
    lines = ", ".join(
        f"CASE WHEN {_has_word(line)} AND NOT {_is_skipped(line, rules)} THEN {line} END"
        for line in reports
    )
    if rules.report == "all":
        return f"nullif(concat_ws({_LINE_SEPARATOR}, {lines}), '')"
    return f"coalesce({lines})"


def _has_skipped_line(reports: list[str], rules: LabelRules) -> str:
    """Return a BOOLEAN expression for whether the first selected line with a word is skipped."""
    first = ", ".join(f"CASE WHEN {_has_word(line)} THEN {line} END" for line in reports)
    return f"coalesce({_is_skipped(f'coalesce({first})', rules)}, false)"


def _has_word(line: str) -> str:
    return rf"{line} NOT IN {quote_list(MISSING_VALUES)} AND regexp_matches({line}, '[^\s.,;:*-]')"


def _is_skipped(line: str, rules: LabelRules) -> str:
    if not rules.skip_lines:
        return "false"
    phrases = "|".join(map(re.escape, rules.skip_lines))
    return f"regexp_matches({line}, {quote_text(phrases)}, 'i')"
