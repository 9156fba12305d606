"""PTB-XL 1.0.3: 21,799 real ten-second ECGs of 18,869 patients, with cardiologists' statements.

Wagner et al., Scientific Data 7:154 (2020); https://physionet.org/content/ptb-xl/1.0.3/, CC BY 4.0.
"""

import ast
from collections import Counter
from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float32

from enecg.errors import UserError
from pipeline.datasets.absence_reasons import NOT_STATED, first_reason, reason_column
from pipeline.datasets.base import RecordIndex
from pipeline.datasets.label_columns import count_missing, parse_nullable_strings
from pipeline.datasets.label_values import parse_label
from pipeline.datasets.published_table import read_published_table
from pipeline.datasets.record_labels import Progress, RecordLabels, assemble_labels
from pipeline.waveforms.decode import read_wfdb
from pipeline.waveforms.directory_files import DirectoryFiles
from pipeline.waveforms.lead_signals import LeadSignals, read_leads
from pipeline.waveforms.options import DEFAULT_OPTIONS, DecodeOptions

NAMESPACES = {500: "ptb-xl/1.0.3", 100: "ptb-xl-100/1.0.3"}
"""Namespaces by sampling rate in Hz. They differ because the embeddings differ: files at 100 Hz are
resampled."""

TABLE = "ptbxl_database.csv"
STATEMENTS = "scp_statements.csv"

SEXES = {"0": 1.0, "1": 0.0}
"""Code in `LABEL_COLUMNS` (1 male, 0 female) by code in the table (0 male, 1 female)."""

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
"""Rhythm statements, most frequent first, with the descriptions of ``scp_statements.csv`` without
their parentheses."""

SUPERCLASSES = ("NORM", "MI", "STTC", "CD", "HYP")
"""Diagnostic superclasses, most frequent first."""

Likelihoods = Mapping[str, float]
"""Likelihood of each statement in percent; 0 if the likelihood is not stated."""

_PARSE_ERRORS = (
    *(ValueError, SyntaxError, AttributeError, TypeError),
    # Deeply nested input, and integers beyond float64.
    *(MemoryError, RecursionError, OverflowError),
)
"""Exceptions that parsing a cell of `scp_codes` raises if it is not a dict of likelihoods."""


class PtbXl:
    """PTB-XL in its published layout. A record's id is its `ecg_id`.

    Args:
        directory: Directory with ``ptbxl_database.csv``, ``records500/`` or ``records100/``, and
            optionally ``scp_statements.csv``.
        rate_hz: Sampling rate of the files to read.
        decoding: Options for short records and missing leads.

    Raises:
        UserError: The directory or its table does not exist.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        rate_hz: Literal[500, 100] = 500,
        decoding: DecodeOptions = DEFAULT_OPTIONS,
    ) -> None:
        self.root = Path(directory)
        self.decoding = decoding
        self.namespace = NAMESPACES[rate_hz]
        self._path_column = {500: "filename_hr", 100: "filename_lr"}[rate_hz]
        self._file = self.root / TABLE
        self._files = DirectoryFiles(self.root)
        if not self.root.is_dir():
            raise UserError(
                f"{self.root} does not exist or is not a folder; pass the folder of PTB-XL 1.0.3."
            )
        if not self._file.is_file():
            raise UserError(
                f"{self.root} does not contain {TABLE}; pass the root folder of PTB-XL 1.0.3."
            )

    @cached_property
    def _rows(self) -> tuple[pd.DataFrame, Counter[str]]:
        """The valid rows of the table, and the numbers of skipped rows keyed by description."""
        columns = ("age", "sex", "scp_codes", self._path_column)
        return read_published_table(self._file, ("ecg_id", "patient_id"), columns)

    @property
    def _table(self) -> pd.DataFrame:
        return self._rows[0]

    def index(self) -> RecordIndex:
        """Return the records with valid ids in the order of ``ptbxl_database.csv``."""
        return RecordIndex(
            record_id=self._table.index.to_numpy(np.int64),
            patient_id=self._table["patient_id"].to_numpy(np.int64),
        )

    def read(self, row: int) -> Float32[np.ndarray, "12 5000"]:
        """Decode the ECG of a record (see `Dataset.read`)."""
        return read_wfdb(self._record(row), self._files, options=self.decoding)

    def read_leads(self, row: int) -> LeadSignals:
        """Read the leads of a record as stored (see `Dataset.read_leads`)."""
        return read_leads(self._record(row), self._files, options=self.decoding)

    def _record(self, row: int) -> str:
        return str(self._table[self._path_column].iloc[row])

    def labels(self) -> pd.DataFrame:
        """Return age, sex and rhythm, and columns of statements.

        The rhythm is the rhythm statement with the highest likelihood. Most rhythm statements have
        the likelihood 0, which means unknown. The columns of statements are:

        - `scp_codes`: all statements.
        - `scp_superclass`: the class whose diagnostic statements have the highest sum of
          likelihoods.
        - `scp_superclasses`: the classes of all diagnostic statements, of any likelihood, separated
          by semicolons, as in the benchmark of Strodthoff et al. (IEEE J-BHI 25:1519, 2021).

        Of several rhythms or classes with the same likelihood, the one that is rarer in PTB-XL is
        used, because it contains more information, such as bigeminal pattern instead of sinus
        rhythm.

        Returns:
            The labels by `record_id`, with superclasses only if ``scp_statements.csv`` exists.
        """
        return self.record_labels().values()

    def record_labels(self, progress: Progress | None = None) -> RecordLabels:
        """Return the labels with reasons for missing values (see `HasRecordLabels`)."""
        table, skipped = self._table, self._rows[1].copy()
        codes = parse_nullable_strings(table["scp_codes"])
        parsed = [None if cell is pd.NA else _parse_codes(cell) for cell in codes]
        likelihoods = pd.Series(parsed, codes.index, dtype=object)
        invalid = codes.notna() & likelihoods.isna()
        description = f"{TABLE}: values of scp_codes that are not a dict of likelihoods"
        count_missing(skipped, invalid, codes, description)
        rhythms = likelihoods.map(_find_rhythm, na_action="ignore").astype("string")
        reasons = first_reason(
            "diagnosis",
            (invalid.to_numpy(), "unreadable"),
            (rhythms.isna().to_numpy(), NOT_STATED),
        )
        diagnoses = {"diagnosis": rhythms, reason_column("diagnosis"): reasons}
        columns: list[pd.DataFrame | pd.Series] = [
            parse_label("age", table["age"], TABLE, skipped),
            parse_label("sex", table["sex"], TABLE, skipped, SEXES),
            pd.DataFrame(diagnoses, index=table.index),
            table["scp_codes"],
        ]
        if (self.root / STATEMENTS).is_file():
            find = partial(_find_superclass, classes=self._superclasses())
            superclass = likelihoods.map(find, na_action="ignore").astype("string")
            columns.append(superclass.rename("scp_superclass"))
            find_all = partial(_list_superclasses, classes=self._superclasses())
            superclasses = likelihoods.map(find_all, na_action="ignore").astype("string")
            columns.append(superclasses.rename("scp_superclasses"))
        return assemble_labels(self.index(), columns, skipped)

    def _superclasses(self) -> dict[str, str]:
        """Return the superclass of each diagnostic statement."""
        path = self.root / STATEMENTS
        try:
            table = pd.read_csv(path, index_col=0)
            diagnostic = table[table["diagnostic"] == 1]["diagnostic_class"]
            if unknown := sorted(set(diagnostic.astype(str)) - set(SUPERCLASSES)):
                raise ValueError(f"unknown diagnostic_class {unknown[0]}")
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{path} is not PTB-XL's table ({str(error).splitlines()[0]}); copy it again."
            ) from error
        return {str(code): str(name) for code, name in diagnostic.items()}


def _parse_codes(cell: str) -> Likelihoods | None:
    """Parse a cell of `scp_codes`, a Python dict; return None if it is not one."""
    try:
        codes = ast.literal_eval(cell)
        return {str(code): float(likelihood) for code, likelihood in codes.items()}
    except _PARSE_ERRORS:
        return None


def _find_rhythm(likelihoods: Likelihoods) -> str | None:
    return RHYTHMS.get(_likeliest(likelihoods, tuple(RHYTHMS)))


def _find_superclass(likelihoods: Likelihoods, classes: Mapping[str, str]) -> str | None:
    sums: dict[str, float] = {}
    for code, likelihood in likelihoods.items():
        if code in classes:
            sums[classes[code]] = sums.get(classes[code], 0.0) + likelihood
    return _likeliest(sums, SUPERCLASSES) or None


def _list_superclasses(likelihoods: Likelihoods, classes: Mapping[str, str]) -> str | None:
    stated = {classes[code] for code in likelihoods if code in classes}
    return ";".join(name for name in SUPERCLASSES if name in stated) or None


def _likeliest(likelihoods: Likelihoods, names: tuple[str, ...]) -> str:
    """Return the name with the highest likelihood, the last if several have it; "" if none has."""
    stated = [(likelihoods[name], i) for i, name in enumerate(names) if name in likelihoods]
    return names[max(stated)[1]] if stated else ""
