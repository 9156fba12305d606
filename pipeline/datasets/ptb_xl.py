"""PTB-XL 1.0.3: 21,799 real ten-second ECGs of 18,869 patients, with cardiologists' statements.

Wagner et al., Scientific Data 7:154 (2020); https://physionet.org/content/ptb-xl/1.0.3/, CC BY 4.0.
"""

import ast
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float32

from enecg.errors import UserError
from pipeline.datasets.base import AGE_OVER_89, LABEL_COLUMNS, RecordIndex
from pipeline.datasets.id_columns import parse_integers
from pipeline.waveforms.decode import LeadSignals, read_leads, read_wfdb
from pipeline.waveforms.directory_files import DirectoryFiles

NAMESPACES = {500: "ptb-xl/1.0.3", 100: "ptb-xl-100/1.0.3"}
"""By sampling rate in Hz: the same ECGs, which make other embeddings once they are resampled."""

TABLE = "ptbxl_database.csv"
STATEMENTS = "scp_statements.csv"

OLDEST_TOLD = 89
"""Every age over it is 300 in the table."""

SEXES = {0.0: 1.0, 1.0: 0.0}
"""The table has 0 for male and 1 for female; here 1 is male and 0 female."""

RHYTHMS = {
    "SR": "sinus rhythm",
    "AFIB": "atrial fibrillation",
    "STACH": "sinus tachycardia",
    "SARRH": "sinus arrhythmia",
    "SBRAD": "sinus bradycardia",
    "PACE": "normal functioning artificial pacemaker",
    "SVARR": "supraventricular arrhythmia",
    "BIGU": "bigeminal pattern",
    "AFLT": "atrial flutter",
    "SVTAC": "supraventricular tachycardia",
    "PSVT": "paroxysmal supraventricular tachycardia",
    "TRIGU": "trigeminal pattern",
}
"""The statements of rhythm in the words and in the order of `scp_statements.csv`, the commonest
first; what it adds in brackets is left out."""

SUPERCLASSES = ("NORM", "MI", "STTC", "CD", "HYP")
"""The diagnostic superclasses, the commonest first."""

Likelihoods = Mapping[str, float]

_NO_CODES = (
    *(ValueError, SyntaxError, AttributeError, TypeError),
    # What is nested too deeply, and a whole number that no float64 holds.
    *(MemoryError, RecursionError, OverflowError),
)
"""What a cell of `scp_codes` raises that is no dict of likelihoods."""

_IDS = ("ecg_id", "patient_id")
_COLUMNS = (*_IDS, "age", "sex", "scp_codes")


class PtbXl:
    """A directory with `ptbxl_database.csv`, `records500/` or `records100/`, and where it is had
    `scp_statements.csv`.

    `rate_hz`: which of the two is read. A record's id is its ecg_id. Raises UserError where the
    directory or its table is not there.
    """

    def __init__(self, directory: str | Path, *, rate_hz: Literal[500, 100] = 500) -> None:
        self.root = Path(directory)
        self.namespace = NAMESPACES[rate_hz]
        self._path_column = {500: "filename_hr", 100: "filename_lr"}[rate_hz]
        self._file = self.root / TABLE
        self._files = DirectoryFiles(self.root, linked_folders=("records500", "records100"))
        if not self.root.is_dir():
            raise UserError(f"{self.root} is not there; give the directory of PTB-XL 1.0.3.")
        if not self._file.is_file():
            raise UserError(
                f"{self.root} has no {TABLE}; give the directory that holds it (the root of "
                "PTB-XL 1.0.3)."
            )

    @cached_property
    def _table(self) -> pd.DataFrame:
        """The columns that are used, in the table's order, by `record_id`."""
        wanted = (*_COLUMNS, self._path_column)
        try:
            table = pd.read_csv(
                self._file,
                usecols=lambda name: name in wanted,
                dtype=dict.fromkeys(_IDS, str),
            )
            if lacking := sorted({*wanted} - {*table.columns}):
                raise ValueError(f"it has no column {', '.join(lacking)}")
            # Whole numbers with a point in some columns.
            ids = {name: _ids(table[name]) for name in _IDS}
            if ids["ecg_id"].duplicated().any():
                raise ValueError("it has an ecg_id twice")
            numbers = {name: pd.to_numeric(table[name]).astype(float) for name in ("age", "sex")}
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self._file} is not PTB-XL's table ({str(error).splitlines()[0].rstrip('.')}); "
                "copy it again."
            ) from error
        return table.assign(**ids, **numbers).set_index("ecg_id").rename_axis("record_id")

    def index(self) -> RecordIndex:
        """All records in the order of `ptbxl_database.csv`."""
        return RecordIndex(
            record_id=self._table.index.to_numpy(np.int64),
            patient_id=self._table["patient_id"].to_numpy(np.int64),
        )

    def read(self, row: int) -> Float32[np.ndarray, "12 5000"]:
        """Return the ECG at a row of the index (see `waveforms.decode.read_wfdb`)."""
        return read_wfdb(self._record(row), self._files)

    def read_leads(self, row: int) -> LeadSignals:
        """The leads as they are in the files (see `waveforms.decode.read_leads`)."""
        return read_leads(self._record(row), self._files)

    def _record(self, row: int) -> str:
        return str(self._table[self._path_column].iloc[row])

    def labels(self) -> pd.DataFrame:
        """Age, sex, and the rhythm stated; besides `scp_codes` as the table has them, and where
        `scp_statements.csv` is there `scp_superclass`.

        Of several rhythms, or superclasses by the summed likelihoods of their statements, it is the
        likeliest; of equally likely ones (0: nobody told a likelihood) the rarest in PTB-XL, which
        tells most: with sinus rhythm and a bigeminal pattern, the bigeminal pattern.
        """
        table = self._table
        codes = [self._likelihoods(*row) for row in table["scp_codes"].items()]
        columns = {
            "patient_id": table["patient_id"],
            "age": table["age"].mask(table["age"] > OLDEST_TOLD, AGE_OVER_89),
            "sex": table["sex"].map(SEXES),
            "diagnosis": [RHYTHMS.get(_likeliest(one, tuple(RHYTHMS))) for one in codes],
            "scp_codes": table["scp_codes"],
        }
        if (self.root / STATEMENTS).is_file():
            classes = self._superclasses()
            sums = [_summed(one, classes) for one in codes]
            columns["scp_superclass"] = [_likeliest(one, SUPERCLASSES) or None for one in sums]
        kinds = {name: LABEL_COLUMNS.get(name, "string") for name in columns}
        return pd.DataFrame(columns, index=table.index).astype(kinds)

    def _likelihoods(self, record: object, cell: object) -> Likelihoods:
        """A record's statements, each with its likelihood in percent, 0 where nobody told it."""
        try:
            codes = ast.literal_eval(str(cell))
            return {str(code): float(likelihood) for code, likelihood in codes.items()}
        except _NO_CODES as error:
            raise UserError(
                f"{self._file} gives ecg_id {record} the scp_codes {str(cell)[:60]!r}, which are "
                "no Python dict of likelihoods; copy it again."
            ) from error

    def _superclasses(self) -> dict[str, str]:
        """The superclass of each diagnostic statement."""
        path = self.root / STATEMENTS
        try:
            table = pd.read_csv(path, index_col=0)
            diagnostic = table[table["diagnostic"] == 1]["diagnostic_class"]
            if strange := sorted(set(diagnostic.astype(str)) - set(SUPERCLASSES)):
                raise ValueError(f"it has the diagnostic_class {strange[0]}")
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{path} is not PTB-XL's table ({str(error).splitlines()[0]}); copy it again."
            ) from error
        return {str(code): str(name) for code, name in diagnostic.items()}


def _ids(column: "pd.Series[int]") -> "pd.Series[int]":
    numbers, known = parse_integers(column)
    if not known.all():
        raise ValueError(f"row {int(known.argmin()) + 1} has no {column.name}")
    return pd.Series(numbers, column.index)


def _summed(codes: Likelihoods, classes: Mapping[str, str]) -> Likelihoods:
    """The likelihoods of the diagnostic statements, by superclass."""
    sums: dict[str, float] = {}
    for code, likelihood in codes.items():
        if code in classes:
            sums[classes[code]] = sums.get(classes[code], 0.0) + likelihood
    return sums


def _likeliest(likelihoods: Likelihoods, commonest_first: tuple[str, ...]) -> str:
    """The likeliest of these names, of equally likely ones the rarest; empty where none is."""
    there = [
        (likelihoods[name], place)
        for place, name in enumerate(commonest_first)
        if name in likelihoods
    ]
    return commonest_first[max(there)[1]] if there else ""
