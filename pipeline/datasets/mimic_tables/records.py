"""`record_list.csv`: which ECG is whose, when it was taken, and where its files lie."""

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
    """The list in its own order: `record_id` and `patient_id` int64, `ecg_time`, `path`.

    `record_id` is MIMIC's study_id, `patient_id` its subject_id, `path` is without a suffix.
    `ecg_time` is NaT where the table has none that can be read. Raises UserError where it is no
    such table, a study_id is negative, or a path has a line end in it.
    """
    skipped = SkippedRows()
    read = [
        {
            "record_id": _not_negative(path, _ids(path, "study_id", batch["study_id"])),
            "patient_id": _ids(path, "subject_id", batch["subject_id"]),
            "ecg_time": _times(batch["ecg_time"]),
            "path": _one_line(path, parse_text(batch["path"])).to_pandas(),
        }
        for batch in read_blocks(path, _COLUMNS, skipped)
    ]
    if skipped:
        raise UserError(
            f"{path} has {skipped.total()} rows with another number of fields than its first; "
            "copy it again."
        )
    return pd.concat([_EMPTY, *map(pd.DataFrame, read)], ignore_index=True)


def _times(column: pa.Array) -> Shaped[np.ndarray, " record"]:
    taken = parse_times(column)
    return np.where(taken.known, taken.values, np.iinfo(np.int64).min).astype("datetime64[s]")


def _ids(path: Path, name: str, column: pa.Array) -> Int64[np.ndarray, " record"]:
    parsed = parse_integers(column)
    if not parsed.known.all():
        first = column[int(np.argmin(parsed.known))].as_py()
        told = "an empty one" if first is None else repr(first.decode(errors="replace"))
        raise UserError(
            f"{path} has {int((~parsed.known).sum())} rows whose {name} is no whole number, such "
            f"as {told}; copy it again."
        )
    return parsed.values


def _not_negative(
    path: Path, study_id: Int64[np.ndarray, " record"]
) -> Int64[np.ndarray, " record"]:
    # A store has -1 where no record is written yet.
    if (negative := study_id[study_id < 0]).size:
        raise UserError(
            f"{path} has {negative.size} rows whose study_id is negative, such as {negative[0]}; "
            "give every record a number from 0 on."
        )
    return study_id


def _one_line(path: Path, listed: pa.Array) -> pa.Array:
    # Between two stray quotes all rows are one field.
    broken = listed.filter(pc.match_substring_regex(listed, "[\r\n]"))
    if len(broken):
        raise UserError(
            f"{path} has a path of several lines, which begins {broken[0].as_py()[:60]!r}; mend "
            "the quotes in it, or copy the table again."
        )
    return listed
