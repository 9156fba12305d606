"""LUDB 1.0.1: 200 real ECGs with waves annotated by cardiologists.

Kalyakulina et al., IEEE Access 8:186181 (2020); https://physionet.org/content/ludb/1.0.1/, ODC-By.
"""

from collections import Counter
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float32

from enecg.ecg_format import SAMPLE_RATE_HZ
from enecg.errors import UserError
from pipeline.datasets.base import RecordIndex
from pipeline.datasets.label_values import parse_label
from pipeline.datasets.published_table import read_published_table
from pipeline.datasets.record_labels import Progress, RecordLabels, assemble_labels
from pipeline.waveforms.decode import read_wfdb
from pipeline.waveforms.directory_files import DirectoryFiles
from pipeline.waveforms.lead_signals import LeadSignals, read_leads
from pipeline.waveforms.options import DEFAULT_OPTIONS, DecodeOptions

NAMESPACE = "ludb/1.0.1"

TABLE = "ludb.csv"

UNITS_PER_MV = 1000.0
"""Units of a LUDB file per millivolt, in all leads.

The headers' gains are wrong: the gain of each lead is the range of its samples, so with these gains
every lead would have a range of 1 mV. The samples of all 200 records obey Einthoven's law (III = II
- I) exactly, so these leads must have the same gain. With 1 uV per unit, the R waves have plausible
amplitudes: median 0.9 mV in II and 1.4 mV in V5.
"""

_R_PEAK = 1
"""Code of an R peak (symbol N) in the annotation files."""


class Ludb:
    """LUDB in its published layout, one record per patient.

    The number of a record is both its record id and its patient id.

    Args:
        directory: Directory with ``ludb.csv`` and ``data/1.{dat,hea,ii,...}``.
        decoding: Options for short records and missing leads.

    Raises:
        UserError: The directory or its table does not exist.
    """

    namespace = NAMESPACE

    def __init__(self, directory: str | Path, *, decoding: DecodeOptions = DEFAULT_OPTIONS) -> None:
        self.root = Path(directory)
        self.decoding = decoding
        if not self.root.is_dir():
            raise UserError(
                f"{self.root} does not exist or is not a folder; pass the folder of LUDB 1.0.1."
            )
        if not (self.root / TABLE).is_file():
            raise UserError(
                f"{self.root} does not contain {TABLE}; pass the root folder of LUDB 1.0.1."
            )
        self._files = DirectoryFiles(self.root)

    @cached_property
    def _rows(self) -> tuple[pd.DataFrame, Counter[str]]:
        """The valid rows of the table, and the numbers of skipped rows keyed by description."""
        return read_published_table(self.root / TABLE, ("ID",), ("Sex", "Age", "Rhythms"))

    @property
    def _table(self) -> pd.DataFrame:
        return self._rows[0]

    def index(self) -> RecordIndex:
        """Return the records with valid ids in the order of ``ludb.csv``."""
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
        """Return RR interval (from the R peaks annotated in lead II), age, sex and rhythm.

        If a record has several rhythms, the first one in the table is used.
        """
        return self.record_labels().values()

    def record_labels(self, progress: Progress | None = None) -> RecordLabels:
        """Return the labels with reasons for missing values (see `HasRecordLabels`)."""
        table, skipped = self._rows[0], self._rows[1].copy()
        rr_ms = table["ID"].map(self._rr_ms).astype(object)
        rhythms = table["Rhythms"].str.strip().str.split("\n").str[0]
        parts = (
            parse_label("rr_interval", rr_ms, "R peaks", skipped),
            parse_label("age", table["Age"], TABLE, skipped),
            parse_label("sex", table["Sex"], TABLE, skipped),
            parse_label("diagnosis", rhythms, TABLE, skipped),
        )
        return assemble_labels(self.index(), parts, skipped)

    def _rr_ms(self, record: int) -> float | str:
        """Return the mean interval in ms between R peaks in lead II.

        NaN if there are fewer than two peaks or no annotation file. If the file cannot be read, an
        error text, which `parse_label` counts as unreadable.
        """
        path = self.root / "data" / f"{record}.ii"
        if not path.is_file():
            return float("nan")
        # Imported here because only the RR intervals need it.
        from wfdb.io.annotation import proc_ann_bytes

        # `wfdb.rdann` also parses the header, which takes ten times as long.
        try:
            sample, code, *_ = proc_ann_bytes(np.fromfile(path, np.uint8).reshape(-1, 2), None)
        except (OSError, ValueError, IndexError):
            return f"data/{record}.ii cannot be read"
        peaks = np.array(sample)[np.array(code) == _R_PEAK]
        if len(peaks) < 2:
            return float("nan")
        return float(np.diff(peaks).mean() * 1000 / SAMPLE_RATE_HZ)
