"""Read `validation.parquet`, EnECG's predictions for the validation records of a run."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stores.regular_files import read_regular

VALIDATION = "validation.parquet"

COLUMNS = ("task", "repeat", "patient_id", "label", "truth", "predicted", "probability")
"""Columns that are read."""

MAX_VALIDATION_BYTES = 1 << 30
MAX_ROWS = 20_000_000
"""Maximum number of rows; a run of 10,000 patients has about 10,000 per repeat and task."""


def read_validation(file: Path) -> pd.DataFrame:
    """Read the predictions for validation records.

    Args:
        file: File written by `pipeline.runs.write_run`.

    Returns:
        A table with `COLUMNS`; see `pipeline.evaluation.predictions.predictions_table`.

    Raises:
        OSError: The file is missing, unreadable or damaged.
        ValueError: The file is damaged, lacks a column, or has more than `MAX_ROWS` rows.
        UnsafeFile: The file is not a regular file, or is too large.
    """
    source = pa.BufferReader(read_regular(file, MAX_VALIDATION_BYTES))
    if pq.read_metadata(source).num_rows > MAX_ROWS:
        raise ValueError(f"{file}: more than {MAX_ROWS:,} rows")
    # Read without threads, because pyarrow's threads can abort the process when it exits.
    table = pq.read_table(source, columns=list(COLUMNS), use_threads=False, pre_buffer=False)
    if missing := set(COLUMNS) - set(table.column_names):
        raise ValueError(f"{file}: missing columns: {', '.join(sorted(missing))}")
    frame: pd.DataFrame = table.to_pandas()
    return frame
