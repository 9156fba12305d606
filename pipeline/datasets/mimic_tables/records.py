"""MIMIC-IV-ECG's `record_list.csv`: patient, time and path of each ECG."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from enecg.errors import UserError
from pipeline.datasets.mimic_tables import columns
from pipeline.datasets.mimic_tables.csv_scan import SkippedRows, scan_csv
from pipeline.datasets.mimic_tables.engine import Connection, fetch, open_engine, to_frame

_COLUMNS = ("subject_id", "study_id", "ecg_time", "path")

# A stray quote merges all rows up to the next quote into one field.
_PATH_IS_BROKEN = "coalesce(contains(path, chr(10)) OR contains(path, chr(13)), false)"


def read_records(path: Path) -> pd.DataFrame:
    """Read the record list without the paths, which take most of the memory.

    Args:
        path: `record_list.csv`, plain or gzipped.

    Returns:
        One row per record in the list's order: `record_id` (study_id) and `patient_id`
        (subject_id) as int64, `ecg_time` (datetime64[s], NaT if missing or unreadable).

    Raises:
        UserError: The list cannot be read, or a row is invalid: wrong number of fields, not UTF-8,
            an id that is not an integer, a negative study_id, or a path with a line end.
    """
    query = f"""
        SELECT
            {columns.integer("study_id")} AS record_id,
            {columns.integer("subject_id")} AS patient_id,
            ({columns.time("ecg_time")})::TIMESTAMP_S AS ecg_time,
            {_PATH_IS_BROKEN} AS path_is_broken
        FROM csv
    """
    with open_engine() as connection:
        records = _scan(connection, path, query)
        _check(connection, path, records)
    return to_frame(records.drop_columns("path_is_broken"))


def read_paths(path: Path, limit: int | None = None) -> pa.Array:
    """Read the paths of a record list.

    Args:
        path: `record_list.csv`, plain or gzipped.
        limit: Number of records to read. Default: all.

    Returns:
        Paths without ``.hea`` in the list's order; missing paths are empty.

    Raises:
        UserError: As for `read_records`, but ids and line ends in paths are not checked.
    """
    query = f"SELECT coalesce({columns.text('path')}, '') AS path FROM csv"
    with open_engine() as connection:
        rows = _scan(connection, path, query if limit is None else f"{query} LIMIT {limit}")
    return rows["path"].combine_chunks()


def _scan(connection: Connection, path: Path, query: str) -> pa.Table:
    skipped = SkippedRows()
    rows = scan_csv(connection, path, _COLUMNS, skipped, lambda: fetch(connection, query))
    if count := skipped.total():
        raise UserError(
            f"{path} has {count} rows whose number of fields differs from the header's or that are "
            "not UTF-8; download it again."
        )
    return rows


def _check(connection: Connection, path: Path, records: pa.Table) -> None:
    """Raise UserError if an id or a path is invalid."""
    for name, column in (("study_id", "record_id"), ("subject_id", "patient_id")):
        if count := records[column].null_count:
            example = _first(connection, name, f"({columns.integer(name)}) IS NULL")
            raise UserError(
                f"{path} has {count} rows whose {name} is not an integer, such as "
                f"{'an empty field' if example is None else repr(example)}; download it again."
            )
    # Negative ids are invalid, because stores use -1 for rows without a record.
    negative = records["record_id"].filter(pc.less(records["record_id"], 0))
    if len(negative):
        raise UserError(
            f"{path} has {len(negative)} rows with a negative study_id, such as {negative[0]}; use "
            "nonnegative integers."
        )
    if pc.any(records["path_is_broken"]).as_py():
        example = str(_first(connection, "path", _PATH_IS_BROKEN))
        raise UserError(
            f"{path} has a path with a line end, starting with {example[:60]!r}; correct its "
            "quotes or download the table again."
        )


def _first(connection: Connection, column: str, condition: str) -> str | None:
    """Return a field of the first row that satisfies a condition."""
    row = fetch(connection, f"SELECT {column} FROM csv WHERE {condition} LIMIT 1")
    text: str | None = row[column][0].as_py()
    return text
