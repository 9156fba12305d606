"""Tables keyed by record id (CSV, gzipped CSV or Parquet), joined to a data set's records."""

import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool

from enecg.errors import UserError
from pipeline.datasets.base import CODE_COLUMNS
from pipeline.datasets.id_columns import (
    ID_COLUMNS,
    PATIENT_COLUMNS,
    match_ids,
    normalize_column_name,
    normalize_unicode,
    parse_integers,
    parse_text_ids,
)
from pipeline.datasets.label_columns import MISSING_VALUES
from pipeline.datasets.table_file import (
    check_size,
    open_csv,
    read_parquet,
    read_parquet_schema,
)
from stores.record_ids import RecordIds, is_text

_PATIENT = PATIENT_COLUMNS[0]


@dataclass(frozen=True)
class RecordTable:
    """The rows of a table that belong to a data set's records.

    Attributes:
        path: The file.
        table: The requested columns and any further column of record ids, with values as pandas
            parses them, and NaN for missing values and rows. There is one row per record of the
            data set, in the data set's order, indexed by `record_id`.
        patients: Patient of each record as text; NaN for missing values and rows. None if the file
            has no patient column.
        columns: Names of all columns of the file.
        unknown_records: Record ids of the file that are not in the data set.
        invalid_rows: Description of the skipped rows without a valid record id: their number and,
            if ids are integers, an example. Empty if there are none.
    """

    path: Path
    table: pd.DataFrame
    patients: pd.Series | None
    columns: tuple[str, ...]
    unknown_records: RecordIds
    invalid_rows: str = ""


def read_record_table(
    path: Path,
    record_id: RecordIds,
    columns: Collection[str],
    *,
    id_columns: Sequence[str] = ID_COLUMNS,
) -> RecordTable:
    """Read columns of a table for the records of a data set.

    The names of id columns (`record_id` or `study_id`; `patient_id` or `subject_id`) may be in
    upper or lower case.

    Args:
        path: CSV, gzipped CSV or Parquet file.
        record_id: The data set's record ids.
        columns: Names of the columns to read; missing columns are ignored.
        id_columns: Names of columns of record ids, in order of precedence.

    Returns:
        The columns, joined to the data set's records by record id.

    Raises:
        UserError: The file cannot be read as a table, has no valid record id or has a column of
            lists, a record has two different rows or patients, or no record is in the data set.
    """
    path = path.expanduser()
    text = is_text(record_id)
    all_ids = (*id_columns, *PATIENT_COLUMNS)
    names, table = _read_columns(path, {*columns, *all_ids}, all_ids)
    key = next((name for name in id_columns if name in table), None)
    if key is None:
        separated = len(names) == 1 and any(mark in names[0] for mark in ";\t")
        remedy = "separate columns by commas" if separated else "rename the column of record ids"
        raise UserError(
            f"{path} has no column {', '.join(id_columns[:-1])} or {id_columns[-1]}, only "
            f"{', '.join(names[:8])}; {remedy}."
        )
    if table.empty:
        raise UserError(f"{path} has no rows; pass a table with one row per record.")
    for name in table.columns[[dtype.kind == "O" for dtype in table.dtypes]]:
        if table[name].map(lambda value: isinstance(value, list | dict | np.ndarray)).any():
            raise UserError(f"{path}: column {name} contains lists; use one value per row.")
    ids, known, invalid_rows = _parse_ids(table[key], text)
    if not known.any():
        raise UserError(f"{path} has {invalid_rows}; every row needs a record id.")
    table, ids = table[known], ids[known]
    patients = _patient_columns(table, key, text, path)
    table = table.drop(columns=list(patients))
    table[key] = match_ids(ids, record_id) if text else ids
    if patients:
        first, *others = patients.values()
        table[_PATIENT] = first.fillna(others[0]) if others else first
    rows = table.drop_duplicates().set_index(key).rename_axis("record_id")
    repeated = rows.index[rows.index.duplicated()].unique()
    if len(repeated):
        raise UserError(
            f"{path} has {len(repeated)} records with several different rows, such as "
            f"{repeated[0]}; keep one row of each."
        )
    in_dataset = rows.index.isin(record_id)
    if not in_dataset.any():
        example = f" (such as {rows.index[0]})" if len(rows) else ""
        raise UserError(
            f"None of the {len(rows)} records of {path}{example} is in the data set; check "
            "--dataset."
        )
    joined = rows.reindex(pd.Index(record_id, name="record_id"))
    return RecordTable(
        path=path,
        table=joined.drop(columns=_PATIENT, errors="ignore"),
        patients=joined.get(_PATIENT),
        columns=names,
        unknown_records=rows.index[~in_dataset].to_numpy(),
        invalid_rows=invalid_rows,
    )


def read_column_names(path: Path) -> tuple[str, ...]:
    """Return the names of a table's columns; names of id columns are in lower case.

    Args:
        path: CSV, gzipped CSV or Parquet file.

    Returns:
        The names, in the order of the file.

    Raises:
        UserError: The file cannot be read, or has an id column twice.
    """
    columns = tuple(map(normalize_column_name, _raw_column_names(path)))
    for name in (*ID_COLUMNS, *PATIENT_COLUMNS):
        if columns.count(name) > 1:
            raise UserError(f"{path} has more than one column {name}; keep one of them.")
    return columns


def _raw_column_names(path: Path) -> tuple[str, ...]:
    with _parse_errors(path):
        if path.suffix == ".parquet":
            return tuple(read_parquet_schema(path))
        with open_csv(path) as file:
            table = pd.read_csv(file, nrows=0, skipinitialspace=True)
        names = tuple(table.columns.astype(str))
        check_size(0, len(names))
        return names


def _read_columns(
    path: Path, selected: Collection[str], id_columns: Collection[str]
) -> tuple[tuple[str, ...], pd.DataFrame]:
    """Return the names of all columns, and the selected columns with ids as in the file."""
    columns = read_column_names(path)
    renamed = dict(zip(_raw_column_names(path), columns, strict=True))
    chosen = [name for name, plain in renamed.items() if plain in selected]
    ids = [name for name, plain in renamed.items() if plain in id_columns]
    exact = [*ids, *(name for name, plain in renamed.items() if plain in CODE_COLUMNS)]
    with _parse_errors(path), warnings.catch_warnings():
        # For rows with more fields than the header, pandas only prints a warning.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        if path.suffix == ".parquet":
            parquet = read_parquet(path, chosen)
            # Ignore pandas' metadata, so that the index of a data frame is read as a column.
            table = parquet.to_pandas(ignore_metadata=True)
            for name in set(exact) & set(chosen):
                # pandas converts a column of integers to floats if a value is missing.
                table[name] = pd.Series(parquet[name].to_pylist(), dtype=object)
            for name in table.select_dtypes("category"):
                table[name] = table[name].astype(table[name].cat.categories.dtype)
            return columns, table.rename(columns=renamed)
        # Read all columns, because with `usecols` pandas does not report rows with too many fields.
        with open_csv(path) as file:
            table = pd.read_csv(
                file,
                index_col=False,
                dtype=dict.fromkeys(exact, str),
                keep_default_na=False,
                # In id columns, only empty fields are missing, because "NA" may be an id.
                na_values={name: [""] if name in ids else list(MISSING_VALUES) for name in renamed},
                skipinitialspace=True,
                low_memory=False,
            )
        return columns, table[chosen].rename(columns=renamed)


@contextmanager
def _parse_errors(path: Path) -> Iterator[None]:
    """Translate the exceptions of the parsers to UserError."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(
            f"{path} does not exist; pass a CSV or Parquet file with a column record_id."
        ) from error
    except (OSError, ValueError, TypeError, pd.errors.ParserWarning) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"{path} cannot be read as a table ({reason}); pass a CSV or Parquet file with a "
            "column record_id."
        ) from error


def _parse_ids(column: pd.Series, text: bool) -> tuple[RecordIds, Bool[np.ndarray, " row"], str]:
    """Return the ids, a mask of the valid ids, and a description of the invalid ids."""
    if text:
        stated = parse_text_ids(column)
        ids, known, problem = stated.to_numpy(), stated.notna().to_numpy(), f"without {column.name}"
    else:
        ids, known = parse_integers(column)
        problem = f"whose {column.name} is not an exact integer"
    if known.all():
        return ids, known, ""
    if not text:
        first = column[~known].iloc[0]
        example = "an empty field" if pd.isna(first) or first in MISSING_VALUES else repr(first)
        problem += f", such as {example}"
    return ids, known, f"{int((~known).sum())} rows {problem}"


def _patient_columns(table: pd.DataFrame, key: str, text: bool, path: Path) -> dict[str, pd.Series]:
    """Return the patient columns as normalized text; raise UserError if they differ."""
    by_column = {}
    for name in (name for name in PATIENT_COLUMNS if name in table):
        patients = normalize_unicode(parse_text_ids(table[name]))
        if not text:
            # Convert integers, because `5.0` and `5` are the same patient. Keep other text; it
            # matches no patient of the data set.
            numbers, known = parse_integers(table[name])
            patients = patients.mask(patients.isin(MISSING_VALUES)).mask(
                known, pd.Series(numbers.astype(str), patients.index)
            )
        by_column[name] = patients
    if len(by_column) > 1:
        first, second = by_column.values()
        differ = first.notna() & second.notna() & (first != second)
        if differ.any():
            row = int(np.flatnonzero(differ)[0])
            raise UserError(
                f"{path} has {int(differ.sum())} rows with two patients, such as "
                f"{table[key].iloc[row]} with {first.iloc[row]} and {second.iloc[row]}; keep one "
                f"of the columns {' and '.join(by_column)}."
            )
    return by_column
