"""MIMIC-IV-ECG as PhysioNet gives it (the full release, its demo), or written by `synthesize`."""

import json
import re
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float32

from enecg.errors import UserError
from pipeline.datasets.base import BadRecord, RecordIndex
from pipeline.decode import read_wfdb
from pipeline.labels.labelled import MimicTables, label_from_mimic
from pipeline.labels.records import read_records
from pipeline.labels.rules import LabelRules
from pipeline.labels.tables import check_hosp, find_table
from pipeline.synthetic.mimic_layout import MARKER, UNFINISHED_MARKER

NAMESPACE = "mimic-iv-ecg/1.0"
DEMO_NAMESPACE = "mimic-iv-ecg-demo/0.1"

NAMESPACES_OF_MIMIC = ("mimic-iv-ecg/", "mimic-iv-ecg-demo/")
"""How the namespaces of its releases begin: they name the same patients by the same numbers."""

_FULL_PATH = re.compile(r"files/p\d{4}/p\d+/")


def same_patients(namespace: str, other: str) -> bool:
    """Whether a patient id of one namespace means the same person in another."""
    both = [one.startswith(NAMESPACES_OF_MIMIC) for one in (namespace, other)]
    return namespace == other or all(both)


class MimicIvEcg:
    """A directory with `record_list.csv`, `files/`, and where they are had
    `machine_measurements.csv`, `hosp/patients.csv` and `hosp/labevents.csv` (or `.csv.gz`).

    The `hosp` tables are those of MIMIC-IV, a release of its own: link its `hosp` folder here.
    A record's id is its study_id. Raises UserError where the directory or its list is not there.
    """

    def __init__(self, directory: str | Path, *, window_hours: float = 1.0) -> None:
        self.root = Path(directory)
        self.window_hours = window_hours
        if not self.root.is_dir():
            raise UserError(
                f"{self.root} is not there; give the directory of MIMIC-IV-ECG, or write one with "
                "`enecg synthesize`."
            )
        if (self.root / UNFINISHED_MARKER).exists():
            raise UserError(
                f"{self.root} is a synthetic data set that was never finished; run the same "
                "`enecg synthesize` again."
            )
        table = find_table(self.root, "record_list")
        if table is None:
            raise UserError(
                f"{self.root} has no record_list.csv; give the directory that holds it (the root "
                "of a MIMIC-IV-ECG release), or write a data set with `enecg synthesize`."
            )
        self._table = table

    @cached_property
    def _records(self) -> pd.DataFrame:
        try:
            records = read_records(self._table)
        except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
            raise UserError(
                f"{self._table} is not MIMIC-IV-ECG's table ({str(error).splitlines()[0]}); copy "
                "it again."
            ) from error
        if records["record_id"].duplicated().any() or records["record_id"].isna().any():
            raise UserError(f"{self._table} names a study_id twice or not at all; copy it again.")
        return records

    @cached_property
    def namespace(self) -> str:
        """`mimic-iv-ecg/1.0`, `mimic-iv-ecg-demo/0.1`, or what the synthetic marker says."""
        marker = self.root / MARKER
        if marker.is_file():
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
        """The ECG at a row of the index (see `pipeline.decode.read_wfdb`); raises BadRecord."""
        listed = self._records["path"].iloc[row]
        path = PurePosixPath(str(listed))
        if path.is_absolute() or ".." in path.parts or "\\" in str(path) or "\0" in str(path):
            raise BadRecord(
                "unreadable",
                f"{self._table} gives the path {listed!r}, which leaves its directory; mend it.",
            )
        return read_wfdb(self.root / path)

    def tables(self, hosp: Path | None = None) -> MimicTables:
        """Where its labels are from; `hosp`: MIMIC-IV's folder, where it is not linked here.

        Raises UserError where that is not there.
        """
        hosp = self.root / "hosp" if hosp is None else check_hosp(hosp)
        return MimicTables(
            records=self._records,
            machine=find_table(self.root, "machine_measurements"),
            patients=find_table(hosp, "patients"),
            labevents=find_table(hosp, "labevents"),
        )

    def labels(self) -> pd.DataFrame:
        """RR interval and diagnosis by the machine, age, sex, and the potassium within the hour,
        each where its table is there."""
        rules = LabelRules(window_hours=self.window_hours)
        return label_from_mimic(self.tables(), rules).values()
