"""The lab table split into parts that Dask workers read in parallel."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from enecg.errors import UserError
from pipeline.datasets.label_rules import LabelRules
from pipeline.datasets.mimic_tables.csv_blocks import CsvPart, is_compressed, read_header
from pipeline.datasets.mimic_tables.potassium import EcgTimes, PartialResults, reduce_part

PART_BYTES = 256 << 20
"""Bytes of the table per task: one or two seconds of work."""

LOCAL_SCHEDULERS = ("threads", "processes", "synchronous")
"""Dask schedulers on this machine, which need no address."""

_MAX_ROW_BYTES = 1 << 22

_LEADING_FIELDS = {
    **dict.fromkeys(("labevent_id", "subject_id", "itemid"), "[0-9]+"),
    **dict.fromkeys(("hadm_id", "specimen_id"), "[0-9]*"),
    "charttime": "[0-9]{4}-[0-9: T.-]*",
}
"""Patterns of the columns that a lab table starts with."""


def split_table(path: Path, part_bytes: int = PART_BYTES) -> tuple[CsvPart, ...]:
    """Split an uncompressed lab table into parts of whole rows.

    Comments may contain line ends, so a part only starts at a line whose first fields match
    `_LEADING_FIELDS` for at least two columns.

    Args:
        path: The table.
        part_bytes: Approximate size of a part.

    Returns:
        The parts in order; empty if the table is compressed, has no rows, or starts with other
        columns.
    """
    header = read_header(path)
    row = _row_start(header.names)
    size = path.stat().st_size
    if row is None or is_compressed(path) or size <= header.size:
        return ()
    starts = [header.size]
    with path.open("rb") as file:
        for target in range(header.size + part_bytes, size, part_bytes):
            if target <= starts[-1]:
                continue
            file.seek(target - 1)
            found = row.search(file.read(_MAX_ROW_BYTES))
            if found is not None and target + found.start() > starts[-1]:
                starts.append(target + found.start())
    ends = [*starts[1:], size]
    return tuple(
        CsvPart(number, start, end)
        for number, (start, end) in enumerate(zip(starts, ends, strict=True))
    )


def reduce_with_dask(
    path: Path,
    ecgs: EcgTimes,
    rules: LabelRules,
    scheduler: Any,
    *,
    part_bytes: int = PART_BYTES,
) -> tuple[PartialResults, ...]:
    """Reduce the lab table to the best result of each ECG, in parallel.

    Args:
        path: The table, at the same path on every worker.
        ecgs: The ECGs.
        rules: Which results are used.
        scheduler: Any scheduler of `dask.compute`.
        part_bytes: Approximate size of a part.

    Returns:
        The results of each part. They merge to the same bits as one pass over the table.
    """
    from dask.base import compute
    from dask.delayed import delayed

    shared = delayed(ecgs, traverse=False, pure=False)
    task = delayed(reduce_part, pure=False)
    # A table that cannot be split is one task.
    parts = split_table(path, part_bytes) or (None,)
    tasks = [task(path.absolute(), shared, rules, part) for part in parts]
    results: tuple[PartialResults, ...] = compute(*tasks, scheduler=scheduler)
    return results


@contextmanager
def connect_scheduler(name: str) -> Iterator[Any]:
    """Connect to a Dask scheduler.

    Args:
        name: Address such as ``tcp://HOST:8786``, or one of `LOCAL_SCHEDULERS`.

    Yields:
        A scheduler for `reduce_with_dask`.

    Raises:
        UserError: The scheduler is unreachable, or `distributed` is not installed.
    """
    if name in LOCAL_SCHEDULERS:
        yield name
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise UserError(
            f"The Dask scheduler {name} needs the package distributed; run pip install "
            "distributed, or omit --scheduler."
        ) from error
    try:
        client = Client(name)
    except (OSError, ValueError) as error:
        raise UserError(
            f"The Dask scheduler {name} is unreachable ({error}); start it with `dask scheduler`, "
            "or correct --scheduler."
        ) from error
    with client:
        yield client


def _row_start(names: tuple[str, ...]) -> re.Pattern[bytes] | None:
    """Return a pattern for a line end before a row, None if rows cannot be recognized."""
    leading = []
    for name in names:
        if name not in _LEADING_FIELDS:
            break
        leading.append(_LEADING_FIELDS[name])
    if len(leading) < 2:
        return None
    quoted = [f'"?{field}"?' for field in leading]
    return re.compile(f"\n(?={','.join(quoted)},)".encode())
