"""Labels in the comments of WFDB headers, as in the PhysioNet/CinC challenges."""

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pandas as pd

from pipeline.datasets.record_labels import Progress
from pipeline.waveforms.errors import UnreadableRecord
from pipeline.waveforms.header_comments import COMMENT_FIELDS, parse_comments
from pipeline.waveforms.record_files import RecordFiles
from pipeline.waveforms.signal_files import read_header
from pipeline.waveforms.wfdb_header import HeaderError
from stores.record_ids import RecordIds

SOURCE = "header comments"
"""Name of the source in descriptions of skipped values."""

_TEXT_FIELDS = ("dx", "rx", "hx", "sx")
_UNKNOWN = ("", "unknown", "nan")
_SEPARATOR = re.compile(r"[,;]")
_BATCH = 500


def read_header_labels(
    records: RecordIds,
    files: RecordFiles,
    skipped: Counter[str],
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Read the fields of `COMMENT_FIELDS` from the headers of all records.

    Args:
        records: Record names without ``.hea``.
        files: Files of the data set; `files.threads` headers are read in parallel.
        skipped: Updated with the number of headers that cannot be read, keyed by description.
        progress: Called as ``progress(done, total)`` with numbers of records.

    Returns:
        A table of text, indexed by record id, without columns in which no record has a value. `dx`,
        `rx`, `hx` and `sx` are distinct known items, joined by commas; missing if there is none.
    """
    columns: dict[str, list[str | None]] = {name: [] for name in COMMENT_FIELDS}
    errors: list[str] = []

    def read(record: str) -> dict[str, str]:
        try:
            return parse_comments(read_header(files, record))
        except UnreadableRecord as error:
            errors.append(str(error))
        except HeaderError as error:
            errors.append(f"{files.location(record)}.hea: {error}")
        return {}

    with ThreadPoolExecutor(files.threads) as executor:
        # Submit the records in batches, because the executor queues all tasks of a call at once.
        for first in range(0, len(records), _BATCH):
            batch = records[first : first + _BATCH].tolist()
            run = executor.map if files.threads > 1 else map
            for fields in run(read, batch):
                for name, column in columns.items():
                    text = fields.get(name)
                    column.append(_join_codes(text) if name in _TEXT_FIELDS else text)
            if progress is not None:
                progress(first + len(batch), len(records))
    if errors:
        example = min(errors).rstrip(".")
        skipped[f"{SOURCE}: headers that cannot be read, such as {example}"] += len(errors)
    table = pd.DataFrame(columns, pd.Index(records, name="record_id"), dtype="str")
    return table.dropna(axis="columns", how="all")


def _join_codes(text: str | None) -> str | None:
    """Return the distinct known items of a list, joined by commas, or None if there is none."""
    items = dict.fromkeys(item.strip() for item in _SEPARATOR.split(text or ""))
    return ",".join(item for item in items if item.lower() not in _UNKNOWN) or None
