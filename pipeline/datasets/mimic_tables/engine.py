"""DuckDB in memory: settings, memory limits, progress and Ctrl-C."""

import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from enecg.errors import UserError

SCAN_MEMORY_MB = 64
"""Memory limit while a file is read; DuckDB caches blocks of the file up to the limit."""

JOIN_MEMORY_MB = 128
JOIN_BYTES_PER_RECORD = 100
"""The memory limit of joins is `JOIN_MEMORY_MB` plus this number of bytes for each record of the
record list.

When this limit or `SCAN_MEMORY_MB` is reached, DuckDB moves rows to a temporary folder.
"""

PROGRESS_SECONDS = 0.2
"""Seconds between two progress reports."""

THREADS = min(4, os.cpu_count() or 1)
"""Number of threads that read a file."""

Connection = duckdb.DuckDBPyConnection
Result = TypeVar("Result")


@contextmanager
def open_engine() -> Iterator[Connection]:
    """Open an empty database with the memory limit for reading a file.

    Yields:
        The connection.

    Raises:
        UserError: DuckDB runs out of memory in the block, for example because the temporary folder
            is full.
    """
    with tempfile.TemporaryDirectory(prefix="enecg-") as folder:
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{SCAN_MEMORY_MB}MB",
            "temp_directory": folder,
            "threads": THREADS,
            # This optimizer turns an IN with many values into a join, which reorders rows.
            "disabled_optimizers": "in_clause",
            # Do not download extensions, and do not use Python variables as tables.
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
        }
        with duckdb.connect(config=settings) as connection:
            # `query_progress` works only if the progress bar is enabled; do not print it.
            run(connection, "SET enable_progress_bar_print = false")
            run(connection, "SET enable_progress_bar = true")
            try:
                yield connection
            except duckdb.OutOfMemoryException as error:
                raise UserError(
                    f"The tables require more disk space in {tempfile.gettempdir()} or more memory "
                    f"({str(error).splitlines()[0]}); free space there, or set TMPDIR to another "
                    "folder."
                ) from error


def run(
    connection: Connection, statement: str, progress: Callable[[float], None] | None = None
) -> None:
    """Run a statement and discard its result.

    Args:
        connection: Result of `open_engine`.
        statement: One SQL statement.
        progress: Called with the completed fraction, 0 to 1.
    """
    # Fetch the result, because `execute` may return before the statement has finished.
    _wait(connection, lambda: connection.execute(statement).fetchall(), progress)


def fetch(connection: Connection, query: str) -> pa.Table:
    """Return the rows of a query."""
    return _wait(connection, lambda: connection.sql(query).to_arrow_table())


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Convert rows to a data frame without copying text."""
    types = {pa.string(): pd.StringDtype("pyarrow")}
    frame: pd.DataFrame = table.to_pandas(types_mapper=types.get, split_blocks=True)
    return frame


def register_records(connection: Connection, records: pd.DataFrame) -> None:
    """Register the record list as table `records`, and set the memory limit and threads of joins.

    Args:
        connection: Result of `open_engine`.
        records: Result of `read_records`. The registered columns are `record_id`, `patient_id`,
            `ecg_time` and `row`, the row number from 0.
    """
    names = ["record_id", "patient_id", "ecg_time"]
    columns = {name: records[name].to_numpy() for name in names} | {"row": np.arange(len(records))}
    connection.register("records", pa.table(columns))
    megabytes = JOIN_MEMORY_MB + JOIN_BYTES_PER_RECORD * len(records) // 10**6
    run(connection, f"SET memory_limit = '{megabytes}MB'")
    run(connection, "SET threads = 1")


def _wait(
    connection: Connection,
    call: Callable[[], Result],
    progress: Callable[[float], None] | None = None,
) -> Result:
    """Call a function in a second thread; report progress and handle Ctrl-C in this thread."""
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(call)
        try:
            while wait([running], PROGRESS_SECONDS).not_done:
                percent = connection.query_progress()
                if progress is not None and percent > 0:
                    progress(percent / 100)
        except BaseException:
            connection.interrupt()
            raise
        return running.result()
