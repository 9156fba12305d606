"""LUDB 1.0.1: 200 real ECGs whose waves cardiologists marked by hand.

Kalyakulina et al., IEEE Access 8:186181 (2020); https://physionet.org/content/ludb/1.0.1/, ODC-By.
"""

from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import wfdb
from jaxtyping import Float32

from enecg.errors import UserError
from enecg.signal import SAMPLE_RATE_HZ
from pipeline.datasets.base import AGE_OVER_89, LABEL_COLUMNS, RecordIndex
from pipeline.datasets.id_columns import parse_integers
from pipeline.waveforms.decode import LeadSignals, read_leads, read_wfdb
from pipeline.waveforms.directory_files import DirectoryFiles

NAMESPACE = "ludb/1.0.1"

UNITS_PER_MV = 1000.0
"""Steps of a LUDB file in a millivolt, in all leads.

The headers give every lead of every record another gain: exactly its own range, so that each
would span 1 mV. The numbers in the files obey Einthoven's law to the last unit in all 200 records
(III = II - I), which they could not if the gains were true. At 1 uV a step the R waves are as they
should be: median 0.9 mV in II, 1.4 mV in V5.
"""

_R_PEAK = "N"


class Ludb:
    """A directory with `ludb.csv` and `data/1.{dat,hea,ii,...}`, one record a patient.

    A record's id, and its patient's, is its number. Raises UserError where the directory or its
    table is not there.
    """

    namespace = NAMESPACE

    def __init__(self, directory: str | Path) -> None:
        self.root = Path(directory)
        if not self.root.is_dir():
            raise UserError(f"{self.root} is not there; give the directory of LUDB 1.0.1.")
        if not (self.root / "ludb.csv").is_file():
            raise UserError(
                f"{self.root} has no ludb.csv; give the directory that holds it (the root of LUDB "
                "1.0.1)."
            )
        self._files = DirectoryFiles(self.root, linked_folders=("data",))

    @cached_property
    def _table(self) -> pd.DataFrame:
        path = self.root / "ludb.csv"
        try:
            table = pd.read_csv(path, dtype="string")
            if lacking := sorted({"ID", "Sex", "Age", "Rhythms"} - set(table.columns)):
                raise ValueError(f"it has no column {', '.join(lacking)}")
            ids, known = parse_integers(table["ID"])
            if not known.all():
                raise ValueError(f"row {int(known.argmin()) + 1} has no ID")
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path} is not LUDB's table ({str(error).splitlines()[0]}); copy it again."
            ) from error
        return table.set_index(pd.Index(ids, name="record_id"))

    def index(self) -> RecordIndex:
        """The 200 records by number."""
        ids = self._table.index.to_numpy(np.int64)
        return RecordIndex(record_id=ids, patient_id=ids)

    def read(self, row: int) -> Float32[np.ndarray, "12 5000"]:
        """The ECG at a row of the index, by `UNITS_PER_MV`, not by the headers' gains.

        Raises UnreadableRecord as `pipeline.waveforms.decode.read_wfdb` does.
        """
        record = f"data/{self._table.index[row]}"
        return read_wfdb(record, self._files, units_per_mv=UNITS_PER_MV)

    def read_leads(self, row: int) -> LeadSignals:
        """The leads as they are in the files (see `waveforms.decode.read_leads`)."""
        record = f"data/{self._table.index[row]}"
        return read_leads(record, self._files, units_per_mv=UNITS_PER_MV)

    def labels(self) -> pd.DataFrame:
        """RR interval by the marked R peaks of lead II, age, sex, and the first rhythm named."""
        table = self._table
        years = table["Age"].str.strip()
        age = pd.to_numeric(years.where(years != ">89"), errors="coerce").astype("float64")
        labels = pd.DataFrame(
            {
                "patient_id": table.index,
                "rr_interval": [self._rr_ms(record) for record in table.index],
                "age": age.where((years != ">89").fillna(True), AGE_OVER_89),
                "sex": table["Sex"].str.strip().map({"M": 1.0, "F": 0.0}),
                "diagnosis": table["Rhythms"].str.strip().str.split("\n").str[0].str.strip(),
            },
            index=table.index,
        )
        return labels.astype({str(name): LABEL_COLUMNS[str(name)] for name in labels})

    def _rr_ms(self, record: int) -> float:
        """The mean interval between the R peaks marked in lead II; NaN with fewer than two."""
        path = self.root / "data" / str(record)
        if not path.with_name(f"{record}.ii").is_file():
            return float("nan")
        marks = wfdb.rdann(str(path), "ii")
        peaks = marks.sample[np.array(marks.symbol) == _R_PEAK]
        if len(peaks) < 2:
            return float("nan")
        return float(np.diff(peaks).mean() * 1000 / SAMPLE_RATE_HZ)
