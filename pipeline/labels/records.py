"""`record_list.csv`: which ECG is whose, when it was taken, and where its files lie."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Int64, Shaped

from enecg.errors import UserError
from pipeline.labels.parsing import seconds, text, whole_numbers
from pipeline.labels.tables import Skipped, blocks

_COLUMNS = ("subject_id", "study_id", "ecg_time", "path")

_EMPTY = pd.DataFrame({"record_id": [], "patient_id": [], "ecg_time": [], "path": []}).astype(
    {"record_id": "int64", "patient_id": "int64", "ecg_time": "datetime64[s]", "path": "str"}
)


def read_records(path: Path) -> pd.DataFrame:
    """The list in its own order: `record_id` and `patient_id` int64, `ecg_time`, `path`.

    `record_id` is MIMIC's study_id, `patient_id` its subject_id, `path` is without a suffix.
    `ecg_time` is NaT where the table has none that can be read. Raises UserError where it is no
    such table.
    """
    skipped = Skipped()
    read = [
        {
            "record_id": _ids(path, "study_id", batch["study_id"]),
            "patient_id": _ids(path, "subject_id", batch["subject_id"]),
            "ecg_time": _times(batch["ecg_time"]),
            "path": text(batch["path"]).to_pandas(),
        }
        for batch in blocks(path, _COLUMNS, skipped)
    ]
    if skipped:
        raise UserError(
            f"{path} has {skipped.total()} rows with another number of fields than its first; "
            "copy it again."
        )
    return pd.concat([_EMPTY, *map(pd.DataFrame, read)], ignore_index=True)


def _times(column: pa.Array) -> Shaped[np.ndarray, " record"]:
    taken = seconds(column)
    return np.where(taken.known, taken.values, np.iinfo(np.int64).min).astype("datetime64[s]")


def _ids(path: Path, name: str, column: pa.Array) -> Int64[np.ndarray, " record"]:
    parsed = whole_numbers(column)
    if not parsed.known.all():
        first = column[int(np.argmin(parsed.known))].as_py()
        told = "an empty one" if first is None else repr(first.decode(errors="replace"))
        raise UserError(
            f"{path} has {int((~parsed.known).sum())} rows whose {name} is no whole number, such "
            f"as {told}; copy it again."
        )
    return parsed.values
