"""Parsing of a run's Parquet files, which are not trusted."""

from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

MAX_PARQUET_BYTES = 1 << 32
"""Maximum size of a Parquet file in a run folder."""


def parse_parquet(content: bytes, texts: Collection[str] = (), filters: Any = None) -> pa.Table:
    """Parse a Parquet file.

    Args:
        content: Contents of the file.
        texts: Names of columns that must contain text.
        filters: Rows to keep, as for `pyarrow.parquet.read_table`. Default: all.

    Returns:
        The table.

    Raises:
        ValueError: The file is not a valid Parquet file, a column of `filters` is missing, or a
            column of `texts` is missing or does not contain text.
    """
    try:
        # Read without threads, because pyarrow's threads can abort the process when it exits.
        table = pq.read_table(
            pa.BufferReader(content), use_threads=False, pre_buffer=False, filters=filters
        )
    except (pa.ArrowException, OSError) as error:  # pyarrow raises OSError for corrupt data
        raise ValueError(str(error)) from error
    for name in texts:
        if name not in table.column_names or not pa.types.is_string(table.schema.field(name).type):
            raise ValueError(f"column {name} does not contain text")
    return table
