"""The lab table in parts, for Dask to spread over machines that all see the file."""

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
"""Bytes of the table a task: a second or two of work."""

DASKS_OWN = ("threads", "processes", "synchronous")
"""Schedulers on this machine, that need no address."""

_LONGEST_ROW = 1 << 22

_FIELDS = {
    **dict.fromkeys(("labevent_id", "subject_id", "itemid"), "[0-9]+"),
    **dict.fromkeys(("hadm_id", "specimen_id"), "[0-9]*"),
    "charttime": "[0-9]{4}-[0-9: T.-]*",
}
"""What stands in the columns that a lab table begins with."""


def split_table(path: Path, part_bytes: int = PART_BYTES) -> tuple[CsvPart, ...]:
    """A plain table in parts of about so many bytes, each of whole rows; none where it cannot be.

    A comment may hold line ends, so a part begins only at a line whose first fields are those of a
    row: at least two of `_FIELDS`, as the header has them. A compressed table has no such places.
    """
    header = read_header(path)
    row = _row_start(header.names)
    size = path.stat().st_size
    if row is None or is_compressed(path) or size <= header.size:
        return ()
    starts = [header.size]
    with path.open("rb") as file:
        for wanted in range(header.size + part_bytes, size, part_bytes):
            if wanted <= starts[-1]:
                continue
            file.seek(wanted - 1)
            found = row.search(file.read(_LONGEST_ROW))
            if found is not None and wanted + found.start() > starts[-1]:
                starts.append(wanted + found.start())
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
    """What each part of the lab table says, computed by a Dask scheduler.

    `scheduler` is whatever `dask.compute` takes. The file must be at the same path wherever a task
    runs. Together the parts say to the bit what one pass over the table does.
    """
    from dask.base import compute
    from dask.delayed import delayed

    shared = delayed(ecgs, traverse=False, pure=False)
    task = delayed(reduce_part, pure=False)
    # One task without a part reads all of a table that cannot be cut.
    parts = split_table(path, part_bytes) or (None,)
    tasks = [task(path.absolute(), shared, rules, part) for part in parts]
    done: tuple[PartialResults, ...] = compute(*tasks, scheduler=scheduler)
    return done


@contextmanager
def connect_scheduler(name: str) -> Iterator[Any]:
    """The scheduler at an address (`tcp://HOST:8786`), or one of `DASKS_OWN`.

    Raises UserError where it cannot be reached, or where `distributed` is not installed.
    """
    if name in DASKS_OWN:
        yield name
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise UserError(
            f"The Dask scheduler {name} cannot be asked, for distributed is not installed; run "
            "pip install distributed, or leave --scheduler out."
        ) from error
    try:
        client = Client(name)
    except (OSError, ValueError) as error:
        raise UserError(
            f"No Dask scheduler answers at {name} ({error}); start one by dask scheduler, or give "
            "its address."
        ) from error
    with client:
        yield client


def _row_start(names: tuple[str, ...]) -> re.Pattern[bytes] | None:
    """A line end, followed by the fields that a row begins with."""
    first = []
    for name in names:
        if name not in _FIELDS:
            break
        first.append(_FIELDS[name])
    if len(first) < 2:
        return None
    quoted = [f'"?{field}"?' for field in first]
    return re.compile(f"\n(?={','.join(quoted)},)".encode())
