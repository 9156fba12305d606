"""LUDB 1.0.1: 200 real ECGs with waves annotated by cardiologists.

Kalyakulina et al., IEEE Access 8:186181 (2020); https://physionet.org/content/ludb/1.0.1/, ODC-By.
"""

from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float32

from enecg.ecg_format import SAMPLE_RATE_HZ
from enecg.errors import UserError
from pipeline.datasets.base import LABEL_COLUMNS, RecordIndex
from pipeline.datasets.id_columns import parse_integers
from pipeline.datasets.plausibility import AGE_OVER_89
from pipeline.waveforms.decode import LeadSignals, read_leads, read_wfdb
from pipeline.waveforms.directory_files import DirectoryFiles
from pipeline.waveforms.options import DEFAULT_OPTIONS, DecodeOptions

NAMESPACE = "ludb/1.0.1"

UNITS_PER_MV = 1000.0
"""Units of a LUDB file per millivolt, in all leads.

The headers' gains are wrong: in each lead, the gain is the range of that lead, so that every lead
would span 1 mV. The samples of all 200 records obey Einthoven's law (III = II - I) exactly, which
they could not with different gains. With 1 uV per unit the R waves have plausible amplitudes:
median 0.9 mV in II and 1.4 mV in V5.
"""

_R_PEAK = "N"


class Ludb:
    """LUDB in its published layout, one record per patient.

    A record's id, and its patient's id, is its number.

    Args:
        directory: Directory with ``ludb.csv`` and ``data/1.{dat,hea,ii,...}``.
        decoding: What to do with short records and missing leads.

    Raises:
        UserError: The directory or its table does not exist.
    """

    namespace = NAMESPACE

    def __init__(self, directory: str | Path, *, decoding: DecodeOptions = DEFAULT_OPTIONS) -> None:
        self.root = Path(directory)
        self.decoding = decoding
        if not self.root.is_dir():
            raise UserError(f"{self.root} does not exist; give the directory of LUDB 1.0.1.")
        if not (self.root / "ludb.csv").is_file():
            raise UserError(
                f"{self.root} does not contain ludb.csv; give the root directory of LUDB 1.0.1."
            )
        self._files = DirectoryFiles(self.root)

    @cached_property
    def _table(self) -> pd.DataFrame:
        path = self.root / "ludb.csv"
        try:
            table = pd.read_csv(path, dtype="string")
            if missing := sorted({"ID", "Sex", "Age", "Rhythms"} - set(table.columns)):
                raise ValueError(f"missing columns: {', '.join(missing)}")
            ids, known = parse_integers(table["ID"])
            if not known.all():
                raise ValueError(f"row {int(known.argmin()) + 1} has no ID")
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path} is not LUDB's table ({str(error).splitlines()[0]}); copy it again."
            ) from error
        return table.set_index(pd.Index(ids, name="record_id"))

    def index(self) -> RecordIndex:
        """Return the 200 records in the order of ``ludb.csv``."""
        ids = self._table.index.to_numpy(np.int64)
        return RecordIndex(record_id=ids, patient_id=ids)

    def read(self, row: int) -> Float32[np.ndarray, "12 5000"]:
        """Decode the ECG of a record (see `Dataset.read`), with `UNITS_PER_MV` as gain."""
        record = f"data/{self._table.index[row]}"
        return read_wfdb(record, self._files, units_per_mv=UNITS_PER_MV, options=self.decoding)

    def read_leads(self, row: int) -> LeadSignals:
        """Read the leads of a record as stored (see `Dataset.read_leads`)."""
        record = f"data/{self._table.index[row]}"
        return read_leads(record, self._files, units_per_mv=UNITS_PER_MV, options=self.decoding)

    def labels(self) -> pd.DataFrame:
        """Return RR interval (from the R peaks annotated in lead II), age, sex and first rhythm."""
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
        """Return the mean interval between R peaks, NaN with fewer than two."""
        path = self.root / "data" / str(record)
        if not path.with_name(f"{record}.ii").is_file():
            return float("nan")
        # Imported here because only the RR intervals need it.
        import wfdb

        annotation = wfdb.rdann(str(path), "ii")
        peaks = annotation.sample[np.array(annotation.symbol) == _R_PEAK]
        if len(peaks) < 2:
            return float("nan")
        return float(np.diff(peaks).mean() * 1000 / SAMPLE_RATE_HZ)
