"""Any folder or URL of WFDB records, with a name that the user chooses.

Record ids are paths in the folder. Because two laboratories may both have a record ``data/0001``,
the namespace is ``wfdb/NAME``. It depends neither on the path of the folder nor on its records.
"""

import re
from collections import Counter
from collections.abc import Collection
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float32

from enecg.errors import UserError
from pipeline.datasets.base import RecordIndex
from pipeline.datasets.header_labels import SOURCE, read_header_labels
from pipeline.datasets.id_columns import HEADER_SUFFIX, ID_COLUMNS, PATIENT_COLUMNS
from pipeline.datasets.label_values import parse_table
from pipeline.datasets.record_labels import Progress, RecordLabels, assemble_labels
from pipeline.datasets.record_table import RecordTable, read_column_names, read_record_table
from pipeline.datasets.wfdb_listing import find_records, find_records_at_url
from pipeline.waveforms.data_root import file_exists, local_copy, open_root
from pipeline.waveforms.decode import read_wfdb
from pipeline.waveforms.directory_files import DirectoryFiles
from pipeline.waveforms.lead_signals import LeadSignals, read_leads
from pipeline.waveforms.options import DEFAULT_OPTIONS, DecodeOptions
from stores.record_ids import RecordIds, as_ids

LABELS = "labels.csv"
"""Name of an optional table. It has a column `record_id` or `study_id`, and may have a column
`patient_id` or `subject_id`, any of the `LABEL_COLUMNS`, and further columns."""

_WEB_SERVERS = ("http://", "https://")

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class WfdbDirectory:
    """All WFDB records in a directory and its subdirectories, sorted by id.

    A record's id is the path of its header relative to the directory, with ``/`` and without
    ``.hea`` (in upper or lower case). The patient id is read from ``labels.csv``; if there is none,
    it is the record's id.

    Args:
        name: Name of the data set: up to 64 of ``a-z``, ``0-9``, ``.``, ``_`` and ``-``, starting
            with a letter or digit.
        directory: Directory of the records, or URL such as ``s3://BUCKET/PREFIX``. At a URL,
            records are downloaded when they are read.
        decoding: Options for short records and missing leads.

    Raises:
        UserError: The name is invalid, the directory does not exist, or the URL is not supported or
            on a web server, which does not list its files.
    """

    def __init__(
        self, name: str, directory: str | Path, *, decoding: DecodeOptions = DEFAULT_OPTIONS
    ) -> None:
        self.directory = str(directory)
        self.decoding = decoding
        if not _NAME.fullmatch(name):
            raise UserError(
                f"{name!r} is not a valid name of a data set; start with a-z or 0-9, and use up to "
                "64 of a-z, 0-9, '.', '_' and '-', such as wfdb:my-lab-2024=FOLDER."
            )
        self.namespace = f"wfdb/{name}"
        self._files = open_root(directory)
        if isinstance(self._files, DirectoryFiles):
            if not Path(directory).is_dir():
                raise UserError(
                    f"{directory} does not exist or is not a folder; pass a folder of WFDB records."
                )
        elif self.directory.startswith(_WEB_SERVERS):
            raise UserError(
                f"{directory} is on a web server, which does not list its files; pass a folder "
                "or s3://BUCKET/PREFIX."
            )

    @property
    def threads(self) -> int:
        """Recommended number of records to read concurrently; more than 1 at a URL."""
        return self._files.threads

    @cached_property
    def _index(self) -> RecordIndex:
        records = as_ids(self._find_records())
        if not len(records):
            raise UserError(
                f"{self.directory} contains no WFDB record (no {HEADER_SUFFIX} file in it or "
                "below); pass the folder of the records."
            )
        table = self._read_labels(records, ())
        if table is None or table.patients is None:
            return RecordIndex(records, records)
        patients = table.patients
        return RecordIndex(records, as_ids(patients.where(patients.notna(), records)))

    def _find_records(self) -> list[str]:
        if isinstance(self._files, DirectoryFiles):
            return find_records(Path(self.directory))
        # Imported here because a directory does not need obstore.
        from pipeline.waveforms.object_files import ObjectFiles

        assert isinstance(self._files, ObjectFiles)
        return find_records_at_url(self._files)

    def index(self) -> RecordIndex:
        """Return all records, found by the names of their headers, which are not opened."""
        return self._index

    def read(self, row: int) -> Float32[np.ndarray, "12 5000"]:
        """Decode the ECG of a record (see `Dataset.read`)."""
        return read_wfdb(str(self._index.record_id[row]), self._files, options=self.decoding)

    def read_leads(self, row: int) -> LeadSignals:
        """Read the leads of a record as stored (see `Dataset.read_leads`)."""
        return read_leads(str(self._index.record_id[row]), self._files, options=self.decoding)

    def labels(self) -> pd.DataFrame:
        """Return the columns of ``labels.csv`` and the fields of header comments.

        A column of ``labels.csv`` replaces the header's field of the same name.
        """
        return self.record_labels().values()

    def record_labels(self, progress: Progress | None = None) -> RecordLabels:
        """Return the labels with reasons for missing values (see `HasRecordLabels`)."""
        index, skipped = self._index, Counter[str]()
        columns: list[pd.DataFrame | pd.Series] = []
        fields = read_header_labels(index.record_id, self._files, skipped, progress)
        table = self._read_labels(index.record_id)
        if table is not None:
            labels = table.table.drop(columns=list(ID_COLUMNS), errors="ignore")
            columns += parse_table(labels, LABELS, skipped)
            fields = fields.drop(columns=list(labels), errors="ignore")
        return assemble_labels(index, [*columns, *parse_table(fields, SOURCE, skipped)], skipped)

    def _read_labels(
        self, records: RecordIds, columns: Collection[str] | None = None
    ) -> RecordTable | None:
        """Read columns of ``labels.csv`` (default: all but ids); None if it does not exist."""
        if not file_exists(self._files, LABELS):
            return None
        with local_copy(self._files, LABELS) as path:
            if columns is None:
                columns = set(read_column_names(path)) - {*ID_COLUMNS, *PATIENT_COLUMNS}
            table = read_record_table(path, records, columns)
        # Do not skip rows with a missing or misspelled id: their records would have no labels, and
        # each would be a patient of its own.
        if table.invalid_rows:
            raise UserError(f"{table.path} has {table.invalid_rows}; every row needs a record id.")
        if len(table.unknown_records):
            raise UserError(
                f"{table.path} has {len(table.unknown_records)} records that are not below "
                f"{self.directory}, such as {table.unknown_records[0]}; correct or remove them."
            )
        return table
