"""Queries over MIMIC's CSV tables, with invalid rows skipped and counted."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import duckdb

from enecg.errors import UserError
from pipeline.datasets.mimic_tables.csv_file import (
    check_columns,
    describe_invalid,
    find_line,
    find_open_quote,
    first_line,
    is_compressed,
    read_header,
)
from pipeline.datasets.mimic_tables.engine import Connection, fetch, run
from pipeline.datasets.mimic_tables.sql import quote_list, quote_name, quote_text

BUFFER_BYTES = 8 << 20
"""Bytes that DuckDB reads at a time; must be at least `MAX_ROW_BYTES`."""

MAX_ROW_BYTES = 2 << 20
"""Maximum length of a row. A longer row indicates a quote that is not closed."""

_RAGGED = ("MISSING COLUMNS", "TOO MANY COLUMNS")
_UNQUOTED = ("UNQUOTED VALUE", "LINE SIZE OVER MAXIMUM")
"""DuckDB's types of rejected rows."""

_MIXED_LINE_ENDS = "invalid state"
"""Part of DuckDB's error message for a file whose line ends differ."""

_FAST = "parallel = true"
_COUNTING = "parallel = false, store_rejects = true, rejects_limit = 0, rejects_table = 'rejects'"
"""Options of DuckDB's `read_csv`: fast options for valid files, and options that count rejected
rows.

A thread that starts to read in the middle of a file may start inside a quoted field. DuckDB reports
this as an error, but silently loses rows if it stores rejected rows. Therefore, the options that
store rejected rows use only one thread.
"""

SkippedRows = Counter[str]
"""Number of rows skipped, or used in part, keyed by description."""

Result = TypeVar("Result")


def scan_csv(
    connection: Connection,
    path: Path,
    columns: Sequence[str],
    skipped: SkippedRows,
    query: Callable[[], Result],
) -> Result:
    """Create the view `csv` of a file, with text columns, and run a query over the view.

    Rows whose number of fields differs from the header's, and rows that are not UTF-8 in a column
    of the query, are skipped and counted.

    Args:
        connection: Result of `open_engine`. Use a connection for only one file.
        path: Plain or gzipped CSV file.
        columns: Columns of the view, which the file must have exactly once.
        skipped: Updated with the number of rows skipped, keyed by description.
        query: Function that runs the query. The rows of the view are in the file's order. The
            function is called again if it raises `duckdb.Error`, as for an invalid row.

    Returns:
        Result of the query.

    Raises:
        UserError: A column is missing or repeated, the file is damaged, or a quote is not closed.
    """
    header = read_header(path)
    check_columns(path, header, columns)
    try:
        _create_view(connection, path, header, columns, _FAST)
        return query()
    except duckdb.Error:
        pass
    try:
        _create_view(connection, path, header, columns, _COUNTING)
        result = query()
        rejected = _count_rejected(connection)
        # DuckDB does not reject a row that continues to the end of the file, but loses it.
        quote = rejected.unquoted or find_open_quote(path)
        if quote is not None:
            line = find_line(path, quote)
            raise UserError(
                f"{path} has a quote that is not closed in line {line}, so the rows after it would "
                "be one field; correct that row or download the table again."
            )
        if rejected.ragged and not fetch(connection, "SELECT 1 FROM csv LIMIT 1").num_rows:
            raise UserError(describe_invalid(path, "no row has as many fields as the header"))
    except (duckdb.InvalidInputException, duckdb.IOException) as error:
        mixed = _MIXED_LINE_ENDS in str(error)
        reason = "line ends differ between rows" if mixed else first_line(error)
        raise UserError(describe_invalid(path, reason)) from error
    skipped[f"{path.name}: rows whose number of fields differs, skipped"] += rejected.ragged
    skipped[f"{path.name}: rows that are not UTF-8, skipped"] += rejected.not_utf8
    return result


def count_skipped(
    connection: Connection, table: str, path: Path, skipped: SkippedRows, counts: dict[str, str]
) -> None:
    """Count skipped rows keyed by description.

    Args:
        connection: Result of `open_engine`.
        table: Table or view of a file's rows.
        path: The file; its name is added to the beginning of each description.
        skipped: Updated with the counts.
        counts: For each description, an SQL aggregate over the table that counts the rows.
    """
    row = fetch(connection, f"SELECT {', '.join(counts.values())} FROM {table}")
    for description, count in zip(counts, row.columns, strict=True):
        skipped[f"{path.name}: {description}"] += int(count[0].as_py() or 0)


def _create_view(
    connection: Connection, path: Path, header: Sequence[str], columns: Sequence[str], options: str
) -> None:
    # Only the number of the other columns matters, so they may have any name.
    names = [
        name if name in columns else f"unused column {position}"
        for position, name in enumerate(header)
    ]
    types = ", ".join(f"{quote_text(name)}: 'VARCHAR'" for name in names)
    run(
        connection,
        f"""
        CREATE OR REPLACE VIEW csv AS
        SELECT {", ".join(map(quote_name, columns))}
        FROM read_csv(
            {quote_text(str(path))},
            columns = {{{types}}}, header = true, auto_detect = false, hive_partitioning = false,
            compression = {"'gzip'" if is_compressed(path) else "'none'"},
            delim = ',', quote = '"', escape = '"', strict_mode = true, null_padding = false,
            buffer_size = {BUFFER_BYTES}, max_line_size = {MAX_ROW_BYTES}, {options}
        )
        """,
    )


@dataclass(frozen=True)
class _Rejected:
    """Rows that DuckDB rejected.

    Attributes:
        ragged: Number of rows whose number of fields differs from the header's.
        not_utf8: Number of rows that are not UTF-8.
        unquoted: Position in bytes, from 1, of the first quote that is not closed; None if there is
            none.
    """

    ragged: int
    not_utf8: int
    unquoted: int | None


def _count_rejected(connection: Connection) -> _Rejected:
    # DuckDB stores one entry for each missing column of a row, so count rows instead of entries.
    rows = fetch(
        connection,
        f"""
        SELECT
            count(*) FILTER (WHERE ragged) AS ragged,
            count(*) FILTER (WHERE NOT ragged) AS not_utf8,
            min(unquoted) AS unquoted
        FROM (
            SELECT
                bool_or(error_type IN {quote_list(_RAGGED)}) AS ragged,
                min(byte_position) FILTER (WHERE error_type IN {quote_list(_UNQUOTED)}) AS unquoted
            FROM rejects
            GROUP BY line_byte_position
        )
        """,
    )
    return _Rejected(**{name: rows[name][0].as_py() for name in rows.column_names})
