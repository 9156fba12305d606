"""Select records of a data set: by a file of ids, a limit or a random sample."""

from pathlib import Path

import numpy as np
import pandas as pd

from enecg.errors import UserError
from pipeline.datasets.id_columns import (
    ID_COLUMNS,
    match_ids,
    normalize_column_name,
    parse_integers,
    parse_text_ids,
)
from pipeline.datasets.table_file import open_csv, read_parquet, read_parquet_schema
from stores.record_ids import RecordIds, as_ids, is_text


def select_records(
    index: RecordIds,
    *,
    limit: int | None = None,
    records: str | Path | None = None,
    sample: int | None = None,
    seed: int = 0,
) -> RecordIds:
    """Select record ids from an index, in its order.

    The options apply one after the other: `records`, then `limit`, then `sample`.

    Args:
        index: All record ids of a data set.
        limit: Select only the first `limit` records; None selects all.
        records: File of the ids to select (see `read_record_ids`); None selects all.
        sample: Number of records to draw at random; None selects all.
        seed: Seed of the sample.

    Returns:
        The selected ids.

    Raises:
        UserError: The file cannot be read, or lists ids that are not in the index.
    """
    selected = index
    if records is not None:
        ids = read_record_ids(Path(records), text=is_text(index))
        ids = np.unique(match_ids(ids, index) if is_text(index) else ids)
        unknown = np.setdiff1d(ids, index)
        if len(unknown):
            raise UserError(
                f"{records} lists {len(unknown)} records that are not in the data set, such as "
                f"{unknown[0]}; remove them, or correct --dataset."
            )
        selected = index[np.isin(index, ids)]
    selected = selected[:limit]
    if sample is not None and sample < len(selected):
        drawn = np.random.default_rng(seed).choice(len(selected), sample, replace=False)
        selected = selected[np.sort(drawn)]
    return selected


def read_record_ids(file: Path, *, text: bool = False) -> RecordIds:
    """Read record ids from a text file, one per line, or from a CSV or Parquet table.

    In a table, the ids are in the column `record_id` or `study_id`, or else in the first column.

    - Integer ids: a first line without an integer is a header, and ``#`` starts a comment.
    - Text ids: files with the suffix ``.csv`` or ``.csv.gz`` and Parquet files are tables. In other
      files, each line is one id, which may contain spaces and commas; lines that start with ``#``
      are ignored. The first line is a header only if it contains one of `ID_COLUMNS`.

    Args:
        file: The file.
        text: Whether the ids are text.

    Returns:
        The ids in the file's order.

    Raises:
        UserError: The file cannot be read, contains no ids or contains an invalid id.
    """
    try:
        return _parse_ids(_read_text_table(file) if text else _read_integer_table(file), text)
    except FileNotFoundError as error:
        raise UserError(f"{file} does not exist; pass a file of record ids.") from error
    except (OSError, ValueError, OverflowError, pd.errors.ParserError, IndexError) as error:
        raise UserError(
            f"{file} does not contain valid record ids ({str(error).splitlines()[0]}); write "
            "one id per line, or pass a CSV or Parquet table with a column record_id."
        ) from error


def _parse_ids(table: pd.DataFrame, text: bool) -> RecordIds:
    key = next((name for name in ID_COLUMNS if name in table), table.columns[0])
    if list(table.columns).count(key) > 1:
        raise ValueError(f"more than one column {key}")
    column = table[key]
    if not len(column):
        raise ValueError("no rows")
    if text:
        return as_ids(parse_text_ids(column).dropna())
    ids, known = parse_integers(column)
    if not known.all():
        raise ValueError(f"{column[~known].iloc[0]!r} is not an exact integer")
    return ids


def _read_integer_table(file: Path) -> pd.DataFrame:
    if file.suffix == ".parquet":
        return _read_parquet(file)
    rows = _read_csv(file, comment="#")
    names = [normalize_column_name(str(name).strip()) for name in rows.iloc[0]]
    if parse_integers(rows.iloc[0])[1].any() and not set(ID_COLUMNS) & set(names):
        return rows
    return rows[1:].set_axis(names, axis=1)


def _read_text_table(file: Path) -> pd.DataFrame:
    if file.suffix == ".parquet":
        return _read_parquet(file)
    if ".csv" in file.suffixes:
        rows = _read_csv(file)
    else:
        with open_csv(file) as opened:
            lines = [line.strip() for line in opened.read().decode("utf-8-sig").splitlines()]
        rows = pd.DataFrame([line for line in lines if line and not line.startswith("#")])
    names = [normalize_column_name(str(name).strip()) for name in rows.iloc[0]]
    return rows[1:].set_axis(names, axis=1) if set(ID_COLUMNS) & set(names) else rows


def _read_csv(file: Path, comment: str | None = None) -> pd.DataFrame:
    """Read all rows, including the header, as text."""
    with open_csv(file) as opened:
        return pd.read_csv(
            opened,
            header=None,
            dtype=str,
            keep_default_na=False,
            comment=comment,
            skipinitialspace=True,
            # Without the byte order mark that some spreadsheets write.
            encoding="utf-8-sig",
        )


def _read_parquet(file: Path) -> pd.DataFrame:
    """Read the id column as Python values."""
    # pandas would convert a column of integers with missing values to floats.
    names = read_parquet_schema(file)
    id_names = [name for name in names if normalize_column_name(name) in ID_COLUMNS]
    columns = read_parquet(file, id_names or names[:1]).to_pydict()
    return pd.DataFrame(columns, dtype=object).rename(columns=normalize_column_name)
