"""MIMIC-IV-ECG's `record_list.csv`: patient, time and path of each ECG."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64, Shaped

from enecg.errors import UserError
from pipeline.datasets.mimic_tables.csv_blocks import SkippedRows, read_blocks
from pipeline.datasets.mimic_tables.fields import parse_integers, parse_text, parse_times

_COLUMNS = ("subject_id", "study_id", "ecg_time", "path")

_EMPTY = pd.DataFrame({"record_id": [], "patient_id": [], "ecg_time": [], "path": []}).astype(
    {"record_id": "int64", "patient_id": "int64", "ecg_time": "datetime64[s]", "path": "str"}
)


def read_records(path: Path) -> pd.DataFrame:
    """Read the record list.

    Args:
        path: `record_list.csv`, plain or gzipped.

    Returns:
        One row per record in the list's order: `record_id` (study_id) and `patient_id`
        (subject_id) as int64, `ecg_time` (datetime64[s], NaT if missing or unreadable), `path`
        without suffix.

    Raises:
        UserError: A row has the wrong number of fields, an id is not an integer, a study_id is
            negative, or a path contains a line end.
    """
    skipped = SkippedRows()
    blocks = [
        {
            "record_id": _check_not_negative(path, _parse_ids(path, batch, "study_id")),
            "patient_id": _parse_ids(path, batch, "subject_id"),
            "ecg_time": _to_datetime(batch["ecg_time"]),
            "path": _check_one_line(path, parse_text(batch["path"])).to_pandas(),
        }
        for batch in read_blocks(path, _COLUMNS, skipped)
    ]
    if skipped:
        raise UserError(
            f"{path} has {skipped.total()} rows whose number of fields differs from the header's; "
            "download it again."
        )
    return pd.concat([_EMPTY, *map(pd.DataFrame, blocks)], ignore_index=True)


def _to_datetime(column: pa.Array) -> Shaped[np.ndarray, " record"]:
    times = parse_times(column)
    return np.where(times.known, times.values, np.iinfo(np.int64).min).astype("datetime64[s]")


def _parse_ids(path: Path, batch: pa.RecordBatch, name: str) -> Int64[np.ndarray, " record"]:
    ids = parse_integers(batch[name])
    if not ids.known.all():
        first = batch[name][int(np.argmin(ids.known))].as_py()
        example = "an empty field" if first is None else repr(first.decode(errors="replace"))
        raise UserError(
            f"{path} has {int((~ids.known).sum())} rows whose {name} is not an integer, such as "
            f"{example}; download it again."
        )
    return ids.values


def _check_not_negative(
    path: Path, study_id: Int64[np.ndarray, " record"]
) -> Int64[np.ndarray, " record"]:
    # Stores use -1 for rows that are not written.
    if (negative := study_id[study_id < 0]).size:
        raise UserError(
            f"{path} has {negative.size} rows with a negative study_id, such as {negative[0]}; use "
            "numbers from 0 up."
        )
    return study_id


def _check_one_line(path: Path, paths: pa.Array) -> pa.Array:
    # The rows between two stray quotes are one field.
    broken = paths.filter(pc.match_substring_regex(paths, "[\r\n]"))
    if len(broken):
        raise UserError(
            f"{path} has a path with a line end, starting with {broken[0].as_py()[:60]!r}; correct "
            "its quotes or download the table again."
        )
    return paths
