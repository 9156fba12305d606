"""Which records of a data set are asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from enecg.errors import UserError
from stores.record_ids import RecordIds, as_ids, is_text

ID_COLUMNS = ("record_id", "study_id")
"""Headers under which a table's record ids are looked for."""


def select(
    index: RecordIds,
    *,
    limit: int | None = None,
    records: Path | None = None,
) -> RecordIds:
    """Record ids out of an index, in its order: those named in a file, of them the first `limit`.

    Raises UserError where the file cannot be read or names records that are not in the index.
    """
    chosen = index
    if records is not None:
        named = np.unique(read_record_ids(records, text=is_text(index)))
        strange = np.setdiff1d(named, index)
        if len(strange):
            raise UserError(
                f"{records} names {len(strange)} records that the data set does not have, such as "
                f"{strange[0]}; take them out, or give the --dataset they are of."
            )
        chosen = index[np.isin(index, named)]
    return chosen[:limit]


def read_record_ids(file: Path, *, text: bool = False) -> RecordIds:
    """The ids in a text file (one a line), or in a CSV or Parquet table's `record_id` column.

    Numbers: a first line is a header where no whole number is in it; what follows a # is not
    read. Text: a first line is a header where one of `ID_COLUMNS` is in it; in a text file a line
    is an id, spaces and commas in it too, unless it begins with a #.
    Raises UserError where the file is not there, holds none, or holds what is no id.
    """
    try:
        table = _texts(file) if text else _table(file)
        ids = table[next((name for name in ID_COLUMNS if name in table), table.columns[0])]
        if not len(ids):
            raise ValueError("no row")
        if text:
            return as_ids(ids.dropna().astype(str).str.strip())
        strange = ids[~_whole_numbers(ids)]
        if len(strange):
            raise ValueError(f"{strange.iloc[0]!r} is no whole number")
        return ids.to_numpy().astype(np.int64)
    except FileNotFoundError as error:
        raise UserError(f"{file} is not there; name a file of record ids.") from error
    except (OSError, ValueError, OverflowError, pd.errors.ParserError, IndexError) as error:
        raise UserError(
            f"{file} holds no record ids ({str(error).splitlines()[0]}); give one a line, or a "
            "CSV or Parquet table with a column record_id."
        ) from error


def _table(file: Path) -> pd.DataFrame:
    if file.suffix == ".parquet":
        return pd.read_parquet(file)
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
    names = [str(name).strip() for name in rows.iloc[0]]
    if _whole_numbers(rows.iloc[0]).any() and not set(ID_COLUMNS) & set(names):
        return rows
    return rows[1:].set_axis(names, axis=1)


def _texts(file: Path) -> pd.DataFrame:
    if file.suffix == ".parquet":
        return pd.read_parquet(file)
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
    names = [str(name).strip() for name in rows.iloc[0]]
    return rows[1:].set_axis(names, axis=1) if set(ID_COLUMNS) & set(names) else rows


def _whole_numbers(values: "pd.Series[Any]") -> "pd.Series[bool]":
    if pd.api.types.is_integer_dtype(values.dtype):
        return pd.Series(True, values.index)
    return values.astype(str).str.strip().str.fullmatch(r"[+-]?[0-9]+")
