"""Which records of a data set are asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from enecg.errors import UserError

ID_COLUMNS = ("record_id", "study_id")
"""Headers under which a table's record ids are looked for."""


def select(
    index: Int[np.ndarray, " record"],
    *,
    limit: int | None = None,
    records: Path | None = None,
) -> Int[np.ndarray, " pick"]:
    """Record ids out of an index, in its order: those named in a file, of them the first `limit`.

    Raises UserError where the file cannot be read or names records that are not in the index.
    """
    chosen = index
    if records is not None:
        named = np.unique(read_record_ids(records))
        strange = np.setdiff1d(named, index)
        if len(strange):
            raise UserError(
                f"{records} names {len(strange)} records that the data set does not have, such as "
                f"{strange[0]}; take them out, or give the --dataset they are of."
            )
        chosen = index[np.isin(index, named)]
    return chosen[:limit]


def read_record_ids(file: Path) -> Int[np.ndarray, " pick"]:
    """The ids in a text file (one a line), or in a CSV or Parquet table's `record_id` column.

    A first line is a header where no whole number is in it; what follows a # is not read.
    Raises UserError where the file is not there, holds none, or holds what is no id.
    """
    try:
        table = _table(file)
        ids = table[next((name for name in ID_COLUMNS if name in table), table.columns[0])]
        strange = ids[~_whole_numbers(ids)]
        if len(strange):
            raise ValueError(f"{strange.iloc[0]!r} is no whole number")
        if not len(ids):
            raise ValueError("no row")
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


def _whole_numbers(values: "pd.Series[Any]") -> "pd.Series[bool]":
    if pd.api.types.is_integer_dtype(values.dtype):
        return pd.Series(True, values.index)
    return values.astype(str).str.strip().str.fullmatch(r"[+-]?[0-9]+")
