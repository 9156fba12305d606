"""MIMIC-IV-ECG as PhysioNet gives it (the full release, its demo), or written by `synthesize`."""

import json
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
from pipeline.datasets.mimic_tables.records import read_records
from pipeline.synthetic.synthesize import MARKER, UNFINISHED_MARKER
from pipeline.waveforms.data_root import copy_file, file_exists, find_table, local_copy, open_root
from pipeline.waveforms.decode import LeadSignals, read_leads, read_wfdb
from pipeline.waveforms.directory_files import DirectoryFiles

NAMESPACE = "mimic-iv-ecg/1.0"
DEMO_NAMESPACE = "mimic-iv-ecg-demo/0.1"

_LABEL_TABLES = ("machine_measurements", "hosp/patients", "hosp/labevents")
_FULL_PATH = re.compile(r"files/p\d{4}/p\d+/")


class MimicIvEcg:
    """A directory, or a URL, with `record_list.csv`, `files/`, and where they are had
    `machine_measurements.csv`, `hosp/patients.csv` and `hosp/labevents.csv` (or `.csv.gz`).

    The `hosp` tables are those of MIMIC-IV, a release of its own: link its `hosp` folder here.
    A record's id is its study_id. At a URL, such as `s3://physionet-open/mimic-iv-ecg/1.0`, each
    record is read when it is asked for. Raises UserError where the directory or its list is not
    there.
    """

    def __init__(self, directory: str | Path, *, window_hours: float = 1.0) -> None:
        self.files = open_root(directory, linked_folders=("files",))
        self.window_hours = window_hours
        if isinstance(self.files, DirectoryFiles) and not Path(directory).is_dir():
            raise UserError(
                f"{directory} is not there; give the directory of MIMIC-IV-ECG, or write one with "
                "`enecg synthesize`."
            )
        if file_exists(self.files, UNFINISHED_MARKER):
            raise UserError(
                f"{directory} is a synthetic data set that was never finished; run the same "
                "`enecg synthesize` again."
            )
        table = find_table(self.files, "record_list")
        if table is None:
            raise UserError(
                f"{directory} has no record_list.csv; give the directory that holds it (the root "
                "of a MIMIC-IV-ECG release), or write a data set with `enecg synthesize`."
            )
        self._table = table

    @property
    def threads(self) -> int:
        """How many records are read side by side with profit: waiting for a server, many are."""
        return self.files.threads

    @cached_property
    def root(self) -> Path:
        """The directory; of a data set at a URL one with a copy of its labels' tables, which lasts
        as long as this object."""
        if isinstance(self.files, DirectoryFiles):
            return Path(self.files.root)
        copy = Path(tempfile.mkdtemp(prefix="enecg-"))
        weakref.finalize(self, shutil.rmtree, copy, ignore_errors=True)
        for name in _LABEL_TABLES:
            table = find_table(self.files, name)
            if table is not None:
                copy_file(self.files, table, copy / table)
        return copy

    @cached_property
    def _paths(self) -> pa.Array:
        # To find a row of a frame takes a good part of the time that its ECG takes.
        paths = pa.chunked_array([self._records["path"].fillna("").to_numpy(object)], pa.string())
        return paths.combine_chunks()

    def __getstate__(self) -> dict[str, object]:
        """Without `root`, which another process makes anew."""
        return {name: value for name, value in vars(self).items() if name != "root"}

    @cached_property
    def _records(self) -> pd.DataFrame:
        told = self.files.location(self._table)
        try:
            with local_copy(self.files, self._table) as table:
                records = read_records(table)
        except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
            raise UserError(
                f"{told} is not MIMIC-IV-ECG's table ({str(error).splitlines()[0]}); copy it again."
            ) from error
        if records["record_id"].duplicated().any() or records["record_id"].isna().any():
            raise UserError(f"{told} names a study_id twice or not at all; copy it again.")
        return records

    @cached_property
    def namespace(self) -> str:
        """`mimic-iv-ecg/1.0`, `mimic-iv-ecg-demo/0.1`, or what the synthetic marker says."""
        if file_exists(self.files, MARKER):
            with local_copy(self.files, MARKER) as marker:
                return str(json.loads(marker.read_text())["namespace"])
        paths = self._records["path"]
        full = len(paths) > 0 and _FULL_PATH.match(str(paths.iloc[0])) is not None
        return NAMESPACE if full else DEMO_NAMESPACE

    def index(self) -> RecordIndex:
        """All records in the order of `record_list.csv`."""
        return RecordIndex(
            record_id=self._records["record_id"].to_numpy(np.int64),
            patient_id=self._records["patient_id"].to_numpy(np.int64),
        )

    def read(self, row: int) -> Float32[np.ndarray, "12 5000"]:
        """Return the ECG at a row of the index (see `waveforms.decode.read_wfdb`)."""
        return read_wfdb(str(self._paths[row].as_py()), self.files)

    def read_leads(self, row: int) -> LeadSignals:
        """The leads as they are in the files (see `waveforms.decode.read_leads`)."""
        return read_leads(str(self._paths[row].as_py()), self.files)

    def tables(self, hosp: Path | None = None) -> MimicTables:
        """Where its labels are from; `hosp`: MIMIC-IV's folder, where it is not linked here.

        Raises UserError where that is not there.
        """
        return MimicTables.find(self._records, self.root, hosp)

    def labels(self) -> pd.DataFrame:
        """RR interval and diagnosis by the machine, age, sex, and the potassium within the hour,
        each where its table is there."""
        rules = LabelRules(window_hours=self.window_hours)
        return label_mimic_records(self.tables(), rules).values()
