"""Which records of a data set are asked for."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from enecg.errors import UserError
from pipeline.datasets.id_columns import (
    ID_COLUMNS,
    match_ids,
    normalize_column_name,
    parse_integers,
    parse_text_ids,
)
from stores.record_ids import RecordIds, as_ids, is_text


def select_records(
    index: RecordIds,
    *,
    limit: int | None = None,
    records: Path | None = None,
    sample: int | None = None,
    seed: int = 0,
) -> RecordIds:
    """Record ids out of an index, in its order: those named in a file, of them the first `limit`,
    of those `sample` drawn at random by `seed`.

    Raises UserError where the file cannot be read or names records that are not in the index.
    """
    chosen = index
    if records is not None:
        named = read_record_ids(records, text=is_text(index))
        named = np.unique(match_ids(named, index) if is_text(index) else named)
        strange = np.setdiff1d(named, index)
        if len(strange):
            raise UserError(
                f"{records} names {len(strange)} records that the data set does not have, such as "
                f"{strange[0]}; take them out, or give the --dataset they are of."
            )
        chosen = index[np.isin(index, named)]
    chosen = chosen[:limit]
    if sample is not None and sample < len(chosen):
        drawn = np.random.default_rng(seed).choice(len(chosen), sample, replace=False)
        chosen = chosen[np.sort(drawn)]
    return chosen


def read_record_ids(file: Path, *, text: bool = False) -> RecordIds:
    """The ids in a text file (one a line), or in a CSV or Parquet table's `record_id` column.

    Numbers: a first line is a header where no whole number is in it; what follows a # is not
    read. Text: a first line is a header where one of `ID_COLUMNS` is in it; in a text file a line
    is an id, spaces and commas in it too, unless it begins with a #.
    Raises UserError where the file is not there, holds none, or holds what is no id.
    """
    try:
        table = _texts(file) if text else _table(file)
        key = next((name for name in ID_COLUMNS if name in table), table.columns[0])
        if list(table.columns).count(key) > 1:
            raise ValueError(f"it has more than one column {key}")
        ids = table[key]
        if not len(ids):
            raise ValueError("no row")
        if text:
            return as_ids(parse_text_ids(ids).dropna())
        numbers, known = parse_integers(ids)
        if not known.all():
            raise ValueError(f"{ids[~known].iloc[0]!r} is no whole number that can be told exactly")
        return numbers
    except FileNotFoundError as error:
        raise UserError(f"{file} is not there; name a file of record ids.") from error
    except (OSError, ValueError, OverflowError, pd.errors.ParserError, IndexError) as error:
        raise UserError(
            f"{file} holds no record ids ({str(error).splitlines()[0]}); give one a line, or a "
            "CSV or Parquet table with a column record_id."
        ) from error


def _table(file: Path) -> pd.DataFrame:
    if file.suffix == ".parquet":
        return _parquet(file)
    # A byte order mark is what some spreadsheets begin a file with.
    rows = pd.read_csv(
        file,
        header=None,
        dtype=str,
        keep_default_na=False,
        comment="#",
        skipinitialspace=True,
        encoding="utf-8-sig",
    )
    names = [normalize_column_name(str(name).strip()) for name in rows.iloc[0]]
    if parse_integers(rows.iloc[0])[1].any() and not set(ID_COLUMNS) & set(names):
        return rows
    return rows[1:].set_axis(names, axis=1)


def _texts(file: Path) -> pd.DataFrame:
    if file.suffix == ".parquet":
        return _parquet(file)
    if ".csv" in file.suffixes:
        rows = pd.read_csv(
            file,
            header=None,
            dtype=str,
            keep_default_na=False,
            skipinitialspace=True,
            encoding="utf-8-sig",
        )
    else:
        lines = [line.strip() for line in file.read_text("utf-8-sig").splitlines()]
        rows = pd.DataFrame([line for line in lines if line and not line.startswith("#")])
    names = [normalize_column_name(str(name).strip()) for name in rows.iloc[0]]
    return rows[1:].set_axis(names, axis=1) if set(ID_COLUMNS) & set(names) else rows


def _parquet(file: Path) -> pd.DataFrame:
    """The column of ids, as Python's own values: pandas makes floats where a number is missing."""
    names = pq.read_schema(file).names
    of_ids = [name for name in names if normalize_column_name(name) in ID_COLUMNS] or names[:1]
    columns = pq.read_table(file, columns=of_ids).to_pydict()
    return pd.DataFrame(columns, dtype=object).rename(columns=normalize_column_name)
