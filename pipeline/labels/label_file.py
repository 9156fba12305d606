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
from pipeline.datasets.id_columns import (
    ID_COLUMNS,
    PATIENT_COLUMNS,
    matched,
    plain_name,
    same_form,
    texts,
    whole_numbers,
)
from pipeline.labels.label_table import read_told
from pipeline.labels.parsing import UNKNOWN
from pipeline.labels.rules import UNMEASURED
from stores.record_ids import RecordIds, is_text

MEASURED = {"cart_id", "p_onset", "qrs_onset", "t_end"}
"""Columns by which MIMIC-IV-ECG's `machine_measurements.csv` is known."""

_PATIENT = PATIENT_COLUMNS[0]


@dataclass(frozen=True)
class LabelFile:
    """The rows of a file that are of a data set's records.

    `table`: columns of the file as they are, a row for each record of the data set in its order,
    indexed by `record_id`, NaN where the file has nothing. `patients`: those that the file gives
    these records, as text (a whole number without a point), NaN where it gives none; None where it
    has no such column. `columns`: all that the file has. `strangers`: those of its records that the
    data set has not. `sha256`: of the file. `digest`: of the labels in it, where `enecg label` made
    it.
    """

    path: Path
    table: pd.DataFrame
    patients: pd.Series | None
    columns: tuple[str, ...]
    strangers: RecordIds
    sha256: str
    digest: str | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on where the labels are from, and what of them was not used."""
        made = f"; label digest {self.digest[:12]}" if self.digest else ""
        told = f"Labels are those of {self.path.name} (SHA-256 {self.sha256[:12]}{made})."
        strange = f"{len(self.strangers)} records of {self.path.name} are not in the data set."
        return (told, strange) if len(self.strangers) else (told,)


def read_label_file(path: Path, index: RecordIndex, wanted: Collection[str]) -> LabelFile:
    """Read the `wanted` columns of a CSV (also gzipped) or Parquet table of labels.

    Its record ids are in a column `record_id` or `study_id`; patients are the data set's. Raises
    UserError where one of its records is of another patient, and as `read_labels` does.
    """
    labels = read_labels(path, index.record_id, wanted)
    if labels.patients is not None:
        _check_patients(labels.patients, index, labels.path)
    return labels


def read_labels(path: Path, record_id: RecordIds, wanted: Collection[str]) -> LabelFile:
    """Read the `wanted` columns of a CSV (also gzipped) or Parquet table for these records.

    Columns of ids are found by their names in any case. Raises UserError where the file is not
    there or no such table, where an id is missing, in two rows that differ or, where the data set's
    are numbers, no whole number, where a record has two patients, and where the data set has none
    of its records.
    """
    path = path.expanduser()
    text = is_text(record_id)
    columns, table = _read(path, {*wanted, *ID_COLUMNS, *PATIENT_COLUMNS})
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
    ids = _texts(table[key], record_id, path) if text else _numbers(table[key], path)
    patients = _patients(table, key, text, path)
    table = table.drop(columns=list(patients)).assign(**{key: ids})
    if patients:
        one, *others = patients.values()
        table[_PATIENT] = one.fillna(others[0]) if others else one
    table = table.drop_duplicates()
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
    return LabelFile(
        path=path,
        table=joined.drop(columns=_PATIENT, errors="ignore"),
        patients=joined.get(_PATIENT),
        columns=columns,
        strangers=rows.index[~known].to_numpy(),
        sha256=_sha256(path),
        digest=_digest(path),
    )


def header(path: Path) -> tuple[str, ...]:
    """The names of a table's columns, those of ids in small letters.

    Raises UserError where it cannot be read, or has a column of ids twice.
    """
    columns = tuple(map(plain_name, _header(path)))
    for name in (*ID_COLUMNS, *PATIENT_COLUMNS):
        if columns.count(name) > 1:
            raise UserError(f"{path} has more than one column {name}; leave one of them.")
    return columns


def _header(path: Path) -> tuple[str, ...]:
    """The names as they are written."""
    with _told(path):
        if path.suffix == ".parquet":
            return tuple(pq.read_schema(path).names)
        return tuple(pd.read_csv(path, nrows=0, skipinitialspace=True).columns.astype(str))


def _read(path: Path, wanted: Collection[str]) -> tuple[tuple[str, ...], pd.DataFrame]:
    """The names of all columns, and those columns that are wanted, ids of them as written."""
    columns = header(path)
    named = dict(zip(_header(path), columns, strict=True))
    chosen = [name for name, plain in named.items() if plain in wanted]
    of_ids = [name for name, plain in named.items() if plain in (*ID_COLUMNS, *PATIENT_COLUMNS)]
    with _told(path), warnings.catch_warnings():
        # Rows of more fields than the header has names are but warned of.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        if path.suffix == ".parquet":
            read = pq.read_table(path, columns=chosen)
            # Without pandas' own notes in the file, so that an index is a column too.
            table = read.to_pandas(ignore_metadata=True)
            for name in set(of_ids) & set(chosen):
                # pandas would make floats of whole numbers where one is missing.
                table[name] = pd.Series(read[name].to_pylist(), dtype=object)
            for name in table.select_dtypes("category"):
                table[name] = table[name].astype(table[name].cat.categories.dtype)
            return columns, table.rename(columns=named)
        # All columns are read, for of a few pandas would not see that a row has too many fields.
        table = pd.read_csv(
            path,
            index_col=False,
            dtype=dict.fromkeys(of_ids, str),
            keep_default_na=False,
            # "NA" may be what a record or somebody is called.
            na_values={name: [""] if name in of_ids else list(UNKNOWN) for name in named},
            skipinitialspace=True,
            low_memory=False,
        )
        if set(columns) >= MEASURED:
            table = table.replace(UNMEASURED, np.nan)
        return columns, table[chosen].rename(columns=named)


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


def _texts(column: pd.Series, record_id: RecordIds, path: Path) -> RecordIds:
    ids = texts(column)
    if ids.isna().any():
        raise UserError(
            f"{path} has {int(ids.isna().sum())} rows without a {column.name}; give every row its "
            "record's id."
        )
    return matched(ids, record_id)


def _numbers(column: pd.Series, path: Path) -> RecordIds:
    numbers, known = whole_numbers(column)
    if not known.all():
        first = column[~known].iloc[0]
        such = "an empty one" if pd.isna(first) or first in UNKNOWN else repr(first)
        raise UserError(
            f"{path} has {int((~known).sum())} rows whose {column.name} is no whole number that "
            f"can be told exactly, such as {such}; give every row its record's id."
        )
    return numbers


def _patients(table: pd.DataFrame, key: str, text: bool, path: Path) -> dict[str, pd.Series]:
    """The columns of patients as text, to be compared with each other and with a data set's."""
    found = {}
    for name in (name for name in PATIENT_COLUMNS if name in table):
        patients = same_form(texts(table[name]))
        if not text:
            # What is no number is somebody else; `5.0` and `5` are one patient.
            numbers, known = whole_numbers(table[name])
            patients = patients.mask(patients.isin(UNKNOWN)).mask(
                known, pd.Series(numbers.astype(str), patients.index)
            )
        found[name] = patients
    if len(found) > 1:
        one, other = found.values()
        differ = one.notna() & other.notna() & (one != other)
        if differ.any():
            row = int(np.flatnonzero(differ)[0])
            raise UserError(
                f"{path} gives {int(differ.sum())} records two patients, such as "
                f"{table[key].iloc[row]} {one.iloc[row]} and {other.iloc[row]}; leave one of the "
                f"columns {' and '.join(found)}."
            )
    return found


def _check_patients(theirs: pd.Series, index: RecordIndex, path: Path) -> None:
    """Raises UserError where the file gives a record to another patient than the data set does."""
    ours = same_form(pd.Series(index.patient_id.astype(str), theirs.index))
    other = (theirs.notna() & (theirs != ours)).to_numpy(bool)
    if other.any():
        first = int(np.flatnonzero(other)[0])
        raise UserError(
            f"{path} gives {int(other.sum())} records to other patients than the data set, such as "
            f"{index.record_id[first]} to patient {theirs.iloc[first]} and not "
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
