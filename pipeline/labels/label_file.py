"""A lab's own table of labels, joined to a data set by record id."""

import hashlib
import warnings
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from enecg.errors import UserError
from pipeline.datasets.base import RecordIndex
from pipeline.datasets.selection import ID_COLUMNS
from pipeline.labels.label_table import read_told
from pipeline.labels.parsing import UNKNOWN
from stores.record_ids import RecordIds, as_ids, is_text

PATIENT_COLUMNS = ("patient_id", "subject_id")
"""Headers under which a table's patients are looked for, to be compared with the data set's."""

MEASURED = {"cart_id", "p_onset", "qrs_onset", "t_end"}
"""Columns by which MIMIC-IV-ECG's `machine_measurements.csv` is known."""

UNMEASURED = 29999
"""What stands there, in any column of measurements, for what the machine could not measure."""


@dataclass(frozen=True)
class LabelFile:
    """The rows of a file that are of a data set's records.

    `table`: columns of the file as they are, a row for each record of the data set in its order,
    indexed by `record_id`, NaN where the file has nothing. `columns`: all that the file has.
    `strangers`: how many of its records the data set has not. `sha256`: of the file. `digest`: of
    the labels in it, where `enecg label` made it.
    """

    path: Path
    table: pd.DataFrame
    columns: tuple[str, ...]
    strangers: int
    sha256: str
    digest: str | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on where the labels are from, and what of them was not used."""
        made = f"; label digest {self.digest[:12]}" if self.digest else ""
        told = f"Labels are those of {self.path.name} (SHA-256 {self.sha256[:12]}{made})."
        strange = f"{self.strangers} records of {self.path.name} are not in the data set."
        return (told, strange) if self.strangers else (told,)


def read_label_file(path: Path, index: RecordIndex, wanted: Collection[str]) -> LabelFile:
    """Read the `wanted` columns of a CSV (also gzipped) or Parquet table of labels.

    Its record ids are in a column `record_id` or `study_id`; patients are the data set's. Raises
    UserError where one of its records is of another patient, and as `read_labels` does.
    """
    labels = read_labels(path, index.record_id, {*wanted, *PATIENT_COLUMNS})
    _check_patients(labels.table, index, labels.path)
    return labels


def read_labels(path: Path, record_id: RecordIds, wanted: Collection[str]) -> LabelFile:
    """Read the `wanted` columns of a CSV (also gzipped) or Parquet table for these records.

    Raises UserError where the file is not there or no such table, where an id is missing, in two
    rows that differ or, where the data set's are numbers, no whole number, and where the data set
    has none of its records.
    """
    path = path.expanduser()
    text = is_text(record_id)
    columns, table = _read(path, {*wanted, *ID_COLUMNS}, text)
    key = next((name for name in ID_COLUMNS if name in table), None)
    if key is None:
        raise UserError(
            f"{path} has no column {' or '.join(ID_COLUMNS)}, it has {', '.join(columns[:8])}; "
            + (
                "separate its columns by commas."
                if len(columns) == 1 and any(mark in columns[0] for mark in ";\t")
                else "name the column of record ids so."
            )
        )
    if table.empty:
        raise UserError(f"{path} has no rows; give a table of labels.")
    for name in table.columns[[kind.kind == "O" for kind in table.dtypes]]:
        if table[name].map(lambda value: isinstance(value, list | dict | np.ndarray)).any():
            raise UserError(f"{name} in {path} holds lists; give one value a row.")
    ids = _texts(table[key], path) if text else _whole_numbers(table[key], path)
    table = table.assign(**{key: ids}).drop_duplicates()
    rows = table.set_index(key).rename_axis("record_id")
    twice = rows.index[rows.index.duplicated()]
    if len(twice):
        raise UserError(
            f"{path} has {len(twice)} records in more than one row, with other labels each time, "
            f"such as {twice[0]}; leave one row of each."
        )
    known = rows.index.isin(record_id)
    if not known.any():
        such = f", such as {rows.index[0]}" if len(rows) else ""
        raise UserError(
            f"None of the {len(rows)} records of {path} is in the data set{such}; give the "
            "--dataset that they are of."
        )
    joined = rows.reindex(pd.Index(record_id, name="record_id"))
    return LabelFile(path, joined, columns, int((~known).sum()), _sha256(path), _digest(path))


def header(path: Path) -> tuple[str, ...]:
    """The names of a table's columns. Raises UserError where it cannot be read."""
    with _told(path):
        if path.suffix == ".parquet":
            return tuple(pq.read_schema(path).names)
        return tuple(pd.read_csv(path, nrows=0, skipinitialspace=True).columns.astype(str))


def _read(path: Path, wanted: Collection[str], text: bool) -> tuple[tuple[str, ...], pd.DataFrame]:
    """The names of all columns, and those columns that are wanted; `text`: ids are as written."""
    columns = header(path)
    chosen = [name for name in columns if name in wanted]
    with _told(path), warnings.catch_warnings():
        # Rows of more fields than the header has names are but warned of.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        if path.suffix == ".parquet":
            # Without pandas' own notes in the file, so that an index is a column too.
            return columns, pq.read_table(path, columns=chosen).to_pandas(ignore_metadata=True)
        # All columns are read, for of a few pandas would not see that a row has too many fields.
        table = pd.read_csv(
            path,
            index_col=False,
            dtype=dict.fromkeys((*ID_COLUMNS, *PATIENT_COLUMNS), str) if text else None,
            keep_default_na=False,
            na_values=list(UNKNOWN),
            skipinitialspace=True,
            low_memory=False,
        )
        if set(columns) >= MEASURED:
            table = table.replace(UNMEASURED, np.nan)
        return columns, table[chosen]


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what a file that is no table raises into a sentence."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there; name a CSV or Parquet file of labels.") from error
    except (OSError, ValueError, TypeError, EOFError, zlib.error, pd.errors.ParserWarning) as error:
        raise UserError(
            f"{path} cannot be read as a table ({_first_line(error)}); give a CSV or Parquet file "
            "with a column record_id."
        ) from error


def as_written(column: pd.Series) -> pd.Series:
    """Ids as text, without spaces around them; NaN where there is none."""
    text = column.map(str, na_action="ignore").astype("str").str.strip()
    return text.mask(text == "")


def _texts(column: pd.Series, path: Path) -> RecordIds:
    ids = as_written(column)
    if ids.isna().any():
        raise UserError(
            f"{path} has {int(ids.isna().sum())} rows without a {column.name}; give every row its "
            "record's id."
        )
    return as_ids(ids)


def _whole_numbers(column: pd.Series, path: Path) -> RecordIds:
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = numbers.isna() | (numbers % 1 != 0)
    if wrong.any():
        first = column[wrong].iloc[0]
        raise UserError(
            f"{path} has {int(wrong.sum())} rows whose {column.name} is no whole number, such as "
            f"{'an empty one' if pd.isna(first) else repr(first)}; give every row its record's id."
        )
    return numbers.to_numpy(np.int64)


def _check_patients(joined: pd.DataFrame, index: RecordIndex, path: Path) -> None:
    """Raises UserError where the file gives a record to another patient than the data set does."""
    for name in PATIENT_COLUMNS:
        if name not in joined:
            continue
        if is_text(index.patient_id):
            theirs = as_written(joined[name])
        else:
            theirs = pd.to_numeric(joined[name], errors="coerce")
        other = (theirs.notna() & (theirs != index.patient_id)).to_numpy(bool)
        if other.any():
            first = int(np.flatnonzero(other)[0])
            said = theirs.iloc[first]
            raise UserError(
                f"{path} gives {int(other.sum())} records to other patients than the data set, "
                f"such as {index.record_id[first]} to {name} "
                f"{said if isinstance(said, str) else f'{said:.0f}'} and not "
                f"{index.patient_id[first]}; give the --dataset that they are of, or leave the "
                "column out."
            )


def _digest(path: Path) -> str | None:
    told = read_told(path) if path.suffix == ".parquet" else None
    return str(told["digest"]) if told else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
