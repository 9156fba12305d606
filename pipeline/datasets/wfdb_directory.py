"""Any directory of WFDB records, under a name that its owner gives it.

Records have no identity of their own beyond their place in the directory, and two laboratories'
`data/0001` are two ECGs. So the name is asked for (`wfdb:NAME=DIR`) and is the namespace: it is the
same wherever a copy lies, and stays the same when records are added.
"""

import errno
import os
import re
from collections import deque
from collections.abc import Collection
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float32

from enecg.errors import UserError
from enecg.tasks import TASKS
from pipeline.datasets.base import LABEL_COLUMNS, RecordIndex
from pipeline.datasets.id_columns import HEADER_SUFFIX, ID_COLUMNS, PATIENT_COLUMNS
from pipeline.datasets.label_columns import parse_paper_labels
from pipeline.datasets.record_table import RecordTable, read_column_names, read_record_table
from pipeline.waveforms.decode import LeadSignals, read_leads, read_wfdb
from pipeline.waveforms.directory_files import DirectoryFiles
from stores.record_ids import RecordIds, as_ids

LABELS = "labels.csv"
"""The table of labels, where there is one: a column `record_id`, and if the patients are known
`patient_id` or `subject_id`; columns out of `LABEL_COLUMNS`, and any others."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SURROGATE = re.compile("[\ud800-\udfff]")


class WfdbDirectory:
    """All records below a directory, in the order of their ids.

    A record's id is its header's path below the directory, with `/` and without `.hea`. Its patient
    is what `labels.csv` says, and where it says nothing the record's own id. Raises UserError where
    the name cannot be a folder's everywhere, or the directory is not there.
    """

    def __init__(self, name: str, directory: str | Path) -> None:
        self.root = Path(directory)
        if not _NAME.fullmatch(name):
            raise UserError(
                f"{name!r} is no name for a data set; give up to 64 of a-z, 0-9, '.', '_' and '-', "
                "such as wfdb:my-lab-2024=DIRECTORY."
            )
        if not self.root.is_dir():
            raise UserError(f"{self.root} is not there; give a directory of WFDB records.")
        self.namespace = f"wfdb/{name}"

    @cached_property
    def _index(self) -> RecordIndex:
        records = as_ids(find_records(self.root))
        if not len(records):
            raise UserError(
                f"{self.root} has no WFDB record, no {HEADER_SUFFIX} file is below it; give the "
                "directory that holds them."
            )
        told = self._told(records, ()) if self._labels.is_file() else None
        if told is None or told.patients is None:
            return RecordIndex(records, records)
        return RecordIndex(records, as_ids(told.patients.where(told.patients.notna(), records)))

    @cached_property
    def _files(self) -> DirectoryFiles:
        """The folders at the top may be links to another disk."""
        with os.scandir(self.root) as entries:
            folders = [one.name for one in entries if one.name[0] != "." and _is_folder(one)]
        return DirectoryFiles(self.root, linked_folders=folders)

    def index(self) -> RecordIndex:
        """All records, found by their headers' names; no header is opened."""
        return self._index

    def read(self, row: int) -> Float32[np.ndarray, "12 5000"]:
        """Return the ECG at a row of the index (see `waveforms.decode.read_wfdb`)."""
        return read_wfdb(str(self._index.record_id[row]), self._files)

    def read_leads(self, row: int) -> LeadSignals:
        """The leads as they are in the files (see `waveforms.decode.read_leads`)."""
        return read_leads(str(self._index.record_id[row]), self._files)

    def labels(self) -> pd.DataFrame:
        """The columns of `labels.csv`; patients alone where it is not there."""
        index = self._index
        frame = pd.DataFrame(
            {"patient_id": index.patient_id}, index=pd.Index(index.record_id, name="record_id")
        )
        if not self._labels.is_file():
            return frame
        wanted = set(read_column_names(self._labels)) - {*ID_COLUMNS, *PATIENT_COLUMNS}
        table = self._told(index.record_id, wanted).table
        papers = {task.column: task for task in TASKS.values()}
        for name in table.columns.difference([*ID_COLUMNS, *PATIENT_COLUMNS], sort=False):
            task, column = papers.get(name), table[name]
            frame[name] = parse_paper_labels(task, column, str(self._labels)) if task else column
        return frame.astype({name: LABEL_COLUMNS[name] for name in papers if name in frame})

    @property
    def _labels(self) -> Path:
        return self.root / LABELS

    def _told(self, records: RecordIds, wanted: Collection[str]) -> RecordTable:
        """What `labels.csv` has. A row of no record would leave a record without its patient."""
        told = read_record_table(self._labels, records, wanted)
        if len(told.unknown_records):
            raise UserError(
                f"{told.path} has {len(told.unknown_records)} records that are not below "
                f"{self.root}, such as {told.unknown_records[0]}; correct or remove them."
            )
        return told


def find_records(root: Path) -> list[str]:
    """The ids of all records below a directory, sorted.

    Hidden files and folders are none of them. A folder is entered once, whatever links lead to it,
    and by a link only where it is nowhere else. Raises UserError where a folder cannot be read or
    a name is no UTF-8.
    """
    found: list[str] = []
    entered: set[tuple[int, int]] = set()
    # Folders at the front and links at the back, so that a folder's own name goes before a link's.
    to_enter = deque([""])
    while to_enter:
        folder = to_enter.popleft()
        try:
            status = (root / folder).stat()
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(root / folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
            for entry in listed:
                path = f"{folder}/{entry.name}".lstrip("/")
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    (to_enter.append if entry.is_symlink() else to_enter.appendleft)(path)
                elif entry.name.endswith(HEADER_SUFFIX):
                    found.append(path.removesuffix(HEADER_SUFFIX))
        except OSError as error:
            raise UserError(
                f"{root / folder} cannot be read ({error.strerror}); get the right to it, or take "
                "it out."
            ) from error
    # Bytes that the file system's encoding does not know are surrogates in Python's text.
    if strange := next((one for one in found if _SURROGATE.search(one)), None):
        raise UserError(
            f"{root} has a record whose name is no UTF-8, {strange!r}; rename its files."
        )
    return sorted(found)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        # A link that leads to itself.
        if error.errno == errno.ELOOP:
            return False
        raise
