"""Tables of published data sets: one row per record, with integer ids."""

import csv
import logging
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from enecg.errors import UserError
from pipeline.datasets.id_columns import parse_integers

_log = logging.getLogger(__name__)


def read_published_table(
    path: Path, ids: Sequence[str], columns: Collection[str]
) -> tuple[pd.DataFrame, Counter[str]]:
    """Read a table as text, indexed by record id.

    A row is skipped if its number of fields differs from the header's, one of its ids is invalid,
    or another row has the same record id but other values. The numbers of skipped rows are logged.

    Args:
        path: CSV file.
        ids: Names of the id columns, the column of record ids first. Ids are nonnegative integers,
            which may be written with a decimal point.
        columns: Names of the other columns to read.

    Returns:
        The rows in the file's order, with ids as int64 and other columns as text, indexed by
        `record_id`; and the number of skipped rows keyed by description.

    Raises:
        UserError: The table cannot be read, lacks a column, or has no valid row.
    """
    skipped: Counter[str] = Counter()
    try:
        table = _read_rows(path, {*ids, *columns}, skipped)
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(_describe(path, str(error).splitlines()[0].rstrip("."))) from error
    table = _select_valid_rows(table[[*ids, *columns]], ids, path.name, skipped)
    if table.empty:
        raise UserError(_describe(path, f"no row has a valid {' and '.join(ids)}"))
    for description, count in sorted(skipped.items()):
        _log.info("%s: %d.", description, count)
    return table.set_index(pd.Index(table[ids[0]], name="record_id")), skipped


def _describe(path: Path, reason: str) -> str:
    return f"{path} is not the published table ({reason}); copy it again."


def _read_rows(path: Path, required: Collection[str], skipped: Counter[str]) -> pd.DataFrame:
    """Return the rows as text, indexed by the line in which they start."""
    rows, lines = [], []
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        # Use the strict mode, in which a quote that is not closed is an error. Otherwise, all rows
        # after the quote would become one field.
        reader = csv.reader(file, strict=True)
        header = next(reader, [])
        if missing := sorted({*required} - {*header}):
            raise ValueError(f"missing columns: {', '.join(missing)}")
        line = reader.line_num + 1
        for row in reader:
            if len(row) == len(header):
                rows.append(row)
                lines.append(line)
            elif row:
                skipped[f"{path.name}: rows whose number of fields differs, skipped"] += 1
            line = reader.line_num + 1
    return pd.DataFrame(rows, index=lines, columns=header, dtype="str")


def _select_valid_rows(
    table: pd.DataFrame, ids: Sequence[str], name: str, skipped: Counter[str]
) -> pd.DataFrame:
    """Return the rows with valid ids, with the ids as int64."""
    for column in ids:
        numbers, known = parse_integers(table[column])
        # Negative ids are invalid, because stores use -1 for rows without a record.
        known &= numbers >= 0
        if not known.all():
            example = table[column][~known].iloc[[0]]
            skipped[
                f"{name}: rows without a valid {column}, such as {example.iloc[0]!r} in line "
                f"{example.index[0]}, skipped"
            ] += int((~known).sum())
        table = table.assign(**{column: numbers})[known]
    table = table.drop_duplicates()
    repeated = table[ids[0]].duplicated(keep=False)
    if repeated.any():
        skipped[
            f"{name}: different rows with the same {ids[0]}, such as "
            f"{table[ids[0]][repeated].iloc[0]}, skipped"
        ] += int(repeated.sum())
    return table[~repeated]
