"""Any directory of WFDB records, under a name that its owner chooses.

A record is identified by its path in the directory, and two laboratories may both have a
``data/0001``. The name in ``wfdb:NAME=DIR`` therefore becomes part of the namespace, which is the
same for every copy of the directory and does not change when records are added.
"""

import errno
import os
import re
from collections import Counter, deque
from collections.abc import Collection
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float32

from enecg.errors import UserError
from pipeline.datasets.base import RecordIndex
from pipeline.datasets.id_columns import HEADER_SUFFIX, ID_COLUMNS, PATIENT_COLUMNS
from pipeline.datasets.label_values import parse_table
from pipeline.datasets.record_labels import Progress, RecordLabels, assemble_labels
from pipeline.datasets.record_table import RecordTable, read_column_names, read_record_table
from pipeline.waveforms.decode import LeadSignals, read_leads, read_wfdb
from pipeline.waveforms.directory_files import DirectoryFiles
from pipeline.waveforms.options import DEFAULT_OPTIONS, DecodeOptions
from stores.record_ids import RecordIds, as_ids

LABELS = "labels.csv"
"""Optional table with a column `record_id`, and any of `patient_id` or `subject_id`,
`LABEL_COLUMNS` and further columns."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SURROGATE = re.compile("[\ud800-\udfff]")


class WfdbDirectory:
    """All WFDB records in a directory and its subdirectories, sorted by id.

    A record's id is the path of its header relative to the directory, with ``/`` and without
    ``.hea`` (in any case). Its patient is the one in ``labels.csv``, or else the record's own id.

    Args:
        name: Name of the data set: up to 64 of ``a-z``, ``0-9``, ``.``, ``_`` and ``-``, starting
            with a letter or digit.
        directory: Directory of the records.
        decoding: What to do with short records and missing leads.

    Raises:
        UserError: The name is invalid, or the directory does not exist.
    """

    def __init__(
        self, name: str, directory: str | Path, *, decoding: DecodeOptions = DEFAULT_OPTIONS
    ) -> None:
        self.root = Path(directory)
        self.decoding = decoding
        if not _NAME.fullmatch(name):
            raise UserError(
                f"{name!r} is not a valid name of a data set; use up to 64 of a-z, 0-9, '.', '_' "
                "and '-', such as wfdb:my-lab-2024=DIRECTORY."
            )
        if not self.root.is_dir():
            raise UserError(f"{self.root} does not exist; give a directory of WFDB records.")
        self.namespace = f"wfdb/{name}"
        self._files = DirectoryFiles(self.root)

    @cached_property
    def _index(self) -> RecordIndex:
        records = as_ids(find_records(self.root))
        if not len(records):
            raise UserError(
                f"{self.root} contains no WFDB record (no {HEADER_SUFFIX} file in it or below); "
                "give the directory of the records."
            )
        if not self._labels.is_file():
            return RecordIndex(records, records)
        patients = self._read_labels(records, ()).patients
        if patients is None:
            return RecordIndex(records, records)
        return RecordIndex(records, as_ids(patients.where(patients.notna(), records)))

    def index(self) -> RecordIndex:
        """Return all records, found by the names of their headers; no header is opened."""
        return self._index

    def read(self, row: int) -> Float32[np.ndarray, "12 5000"]:
        """Decode the ECG of a record (see `Dataset.read`)."""
        return read_wfdb(str(self._index.record_id[row]), self._files, options=self.decoding)

    def read_leads(self, row: int) -> LeadSignals:
        """Read the leads of a record as stored (see `Dataset.read_leads`)."""
        return read_leads(str(self._index.record_id[row]), self._files, options=self.decoding)

    def labels(self) -> pd.DataFrame:
        """Return the columns of ``labels.csv``, or only `patient_id` without that file."""
        return self.record_labels().values()

    def record_labels(self, progress: Progress | None = None) -> RecordLabels:
        """Return the same labels with reasons (see `HasRecordLabels`)."""
        index, skipped = self._index, Counter[str]()
        columns: list[pd.DataFrame | pd.Series] = []
        if self._labels.is_file():
            names = set(read_column_names(self._labels)) - {*ID_COLUMNS, *PATIENT_COLUMNS}
            table = self._read_labels(index.record_id, names).table
            table = table.drop(columns=list(ID_COLUMNS), errors="ignore")
            columns += parse_table(table, LABELS, skipped)
        return assemble_labels(index, columns, skipped)

    @property
    def _labels(self) -> Path:
        return self.root / LABELS

    def _read_labels(self, records: RecordIds, columns: Collection[str]) -> RecordTable:
        table = read_record_table(self._labels, records, columns)
        # A missing or misspelled record id would leave its record without labels and patient.
        if table.invalid_rows:
            raise UserError(f"{table.path} has {table.invalid_rows}; every row needs a record id.")
        if len(table.unknown_records):
            raise UserError(
                f"{table.path} has {len(table.unknown_records)} records that are not below "
                f"{self.root}, such as {table.unknown_records[0]}; correct or remove them."
            )
        return table


def find_records(root: Path) -> list[str]:
    """Find all WFDB records in a directory and its subdirectories.

    Hidden files and folders are ignored. Each folder is visited once, under its own path if it is
    inside the directory, otherwise under that of a link to it.

    Args:
        root: The directory.

    Returns:
        Sorted paths of the headers relative to the directory, without ``.hea``.

    Raises:
        UserError: A folder cannot be read, a file name is not valid UTF-8, or a record has two
            headers.
    """
    records: list[str] = []
    visited: set[tuple[int, int]] = set()
    # Links go to the end, so that a folder is visited under its own path before a link's.
    queue = deque([""])
    while queue:
        folder = queue.popleft()
        try:
            status = (root / folder).stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(root / folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
            for entry in listed:
                path = f"{folder}/{entry.name}".lstrip("/")
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    (queue.append if entry.is_symlink() else queue.appendleft)(path)
                elif entry.name.lower().endswith(HEADER_SUFFIX):
                    records.append(path[: -len(HEADER_SUFFIX)])
        except OSError as error:
            raise UserError(
                f"{root / folder} cannot be read ({error.strerror}); change its permissions, or "
                "move it out of the data set."
            ) from error
    # Python represents bytes that are not valid UTF-8 as surrogates.
    if invalid := next((record for record in records if _SURROGATE.search(record)), None):
        raise UserError(
            f"{root} has a record whose name is not valid UTF-8, {invalid!r}; rename its files."
        )
    records.sort()
    if repeated := next((one for one, other in pairwise(records) if one == other), None):
        raise UserError(
            f"{root} has several headers of the record {repeated}, whose suffixes differ only in "
            f"case ({HEADER_SUFFIX}, {HEADER_SUFFIX.upper()}); keep one of them."
        )
    return records


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        # A link to itself is not a folder.
        if error.errno == errno.ELOOP:
            return False
        raise
