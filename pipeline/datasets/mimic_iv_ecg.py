"""MIMIC-IV-ECG: the full release, its demo, or synthetic data in the same layout."""

import re
import shutil
import tempfile
import weakref
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float32

from enecg.errors import UserError
from pipeline.datasets.base import RecordIndex
from pipeline.datasets.label_rules import LabelRules
from pipeline.datasets.mimic_tables.labels import MimicTables, label_mimic_records
from pipeline.datasets.mimic_tables.records import read_paths, read_records
from pipeline.datasets.record_labels import Progress, RecordLabels
from pipeline.synthetic.markers import MARKER, UNFINISHED_MARKER
from pipeline.waveforms.data_root import copy_file, file_exists, find_table, local_copy, open_root
from pipeline.waveforms.decode import read_wfdb
from pipeline.waveforms.directory_files import DirectoryFiles
from pipeline.waveforms.lead_signals import LeadSignals, read_leads
from pipeline.waveforms.options import DEFAULT_OPTIONS, DecodeOptions
from stores.documents import parse_document
from stores.errors import StoreError
from stores.layout import check_dataset_name

NAMESPACE = "mimic-iv-ecg/1.0"
DEMO_NAMESPACE = "mimic-iv-ecg-demo/0.1"

_LABEL_TABLES = ("machine_measurements", "hosp/patients", "hosp/labevents")
_FULL_PATH = re.compile(r"files/p\d{4}/p\d+/")
"""Beginning of a record's path in the full release; paths in the demo have no level ``p1000``."""


class MimicIvEcg:
    """MIMIC-IV-ECG in PhysioNet's layout. A record's id is its `study_id`.

    Labels come from ``machine_measurements.csv`` and from MIMIC-IV's tables ``hosp/patients.csv``
    and ``hosp/labevents.csv``, each plain or gzipped and each optional. MIMIC-IV is a separate
    release: link its folder ``hosp`` into the directory.

    Args:
        directory: Directory, or URL such as ``s3://physionet-open/mimic-iv-ecg/1.0``, with
            ``record_list.csv`` and ``files/``. At a URL, ECGs are downloaded when they are read.
        window_hours: Maximum hours from an ECG to its potassium result, in (0, 8760].
        decoding: Options for short records and missing leads.

    Raises:
        UserError: The directory or its record list does not exist, the directory is an unfinished
            synthetic data set, or the URL is not supported.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        window_hours: float = 1.0,
        decoding: DecodeOptions = DEFAULT_OPTIONS,
    ) -> None:
        self.files = open_root(directory)
        self.decoding = decoding
        self.window_hours = window_hours
        if isinstance(self.files, DirectoryFiles) and not Path(directory).is_dir():
            raise UserError(
                f"{directory} does not exist or is not a folder; pass the folder of MIMIC-IV-ECG, "
                "or create synthetic data with `enecg synthesize`."
            )
        if file_exists(self.files, UNFINISHED_MARKER):
            raise UserError(
                f"{directory} is an unfinished synthetic data set; run the same `enecg "
                "synthesize` command again."
            )
        table = find_table(self.files, "record_list")
        if table is None:
            raise UserError(
                f"{directory} does not contain record_list.csv; pass the root folder of a "
                "MIMIC-IV-ECG release, or create synthetic data with `enecg synthesize`."
            )
        self._table = table

    def find_label_tables(self) -> dict[str, bool]:
        """Return whether each table of labels exists, by name."""
        return {name: find_table(self.files, name) is not None for name in _LABEL_TABLES}

    @property
    def threads(self) -> int:
        """Recommended number of records to read concurrently; more than 1 at a URL."""
        return self.files.threads

    @cached_property
    def root(self) -> Path:
        """The directory; for a URL, a temporary directory with copies of the label tables.

        The copies are deleted when this object is garbage-collected.
        """
        if isinstance(self.files, DirectoryFiles):
            return Path(self.files.root)
        for name in _LABEL_TABLES:
            table = find_table(self.files, name)
            if table is not None:
                copy_file(self.files, table, self._copies / table)
        return self._copies

    @cached_property
    def _copies(self) -> Path:
        """A temporary directory for copies of a URL's tables."""
        copies = Path(tempfile.mkdtemp(prefix="enecg-"))
        weakref.finalize(self, shutil.rmtree, copies, ignore_errors=True)
        return copies

    @cached_property
    def _record_list(self) -> Path:
        """The record list; for a URL, a copy of it."""
        if isinstance(self.files, DirectoryFiles):
            return Path(self.files.root) / self._table
        copy = self._copies / self._table
        copy_file(self.files, self._table, copy)
        return copy

    @cached_property
    def _paths(self) -> pa.Array:
        # The paths are separate from `_records` because only reading ECGs requires them. They are
        # in an Arrow array because indexing a DataFrame takes noticeable time per ECG.
        return read_paths(self._record_list)

    def __getstate__(self) -> dict[str, object]:
        """Return the state without the temporary copies; each process makes its own copies."""
        copies = ("root", "_copies", "_record_list")
        return {name: value for name, value in vars(self).items() if name not in copies}

    @cached_property
    def _records(self) -> pd.DataFrame:
        records = read_records(self._record_list)
        if records["record_id"].duplicated().any():
            location = self.files.location(self._table)
            raise UserError(f"{location} has a repeated study_id; copy it again.")
        return records

    @cached_property
    def namespace(self) -> str:
        """``mimic-iv-ecg/1.0``, ``mimic-iv-ecg-demo/0.1`` or, if synthetic, ``synthetic/NAME``."""
        if file_exists(self.files, MARKER):
            with local_copy(self.files, MARKER) as marker:
                return _synthetic_namespace(marker.read_bytes(), self.files.location(MARKER))
        first = read_paths(self._record_list, limit=1)
        full = len(first) > 0 and _FULL_PATH.match(first[0].as_py()) is not None
        return NAMESPACE if full else DEMO_NAMESPACE

    def index(self) -> RecordIndex:
        """Return all records in the order of ``record_list.csv``."""
        return RecordIndex(
            record_id=self._records["record_id"].to_numpy(np.int64),
            patient_id=self._records["patient_id"].to_numpy(np.int64),
        )

    def read(self, row: int) -> Float32[np.ndarray, "12 5000"]:
        """Decode the ECG of a record (see `Dataset.read`)."""
        return read_wfdb(str(self._paths[row].as_py()), self.files, options=self.decoding)

    def read_leads(self, row: int) -> LeadSignals:
        """Read the leads of a record as stored (see `Dataset.read_leads`)."""
        return read_leads(str(self._paths[row].as_py()), self.files, options=self.decoding)

    def tables(self, hosp: Path | None = None) -> MimicTables:
        """Find the tables that the labels come from.

        Args:
            hosp: MIMIC-IV's folder ``hosp``. Default: ``hosp`` in the data set's directory.

        Returns:
            The tables; those that do not exist are None.

        Raises:
            UserError: `hosp` is not MIMIC-IV's folder ``hosp``, or the record list is invalid.
        """
        return MimicTables.find(self._records, self.root, hosp)

    def labels(self) -> pd.DataFrame:
        """Return RR interval, diagnosis, age, sex and potassium, each if its table exists."""
        return self.record_labels().values()

    def record_labels(self, progress: Progress | None = None) -> RecordLabels:
        """Return the labels with reasons and counts.

        Args:
            progress: Called as ``progress(bytes_read, total_bytes)``.

        Returns:
            The labels, derived by the default `LabelRules` with this object's `window_hours`.
        """
        rules = LabelRules(window_hours=self.window_hours)
        return label_mimic_records(self.tables(), rules, progress=progress)


def _synthetic_namespace(marker: bytes, location: str) -> str:
    """Return the namespace in a marker; raise UserError unless it starts with `synthetic/`."""
    try:
        namespace = str(parse_document(marker)["namespace"])
        check_dataset_name(namespace)
    except (ValueError, TypeError, KeyError, StoreError):
        namespace = ""
    if not namespace.startswith("synthetic/"):
        raise UserError(
            f"{location} does not name a synthetic data set (synthetic/NAME); write the data set "
            "again with `enecg synthesize`."
        )
    return namespace
