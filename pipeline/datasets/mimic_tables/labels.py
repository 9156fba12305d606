"""Labels of MIMIC-IV-ECG's records, from MIMIC's tables."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from enecg.errors import UserError
from pipeline.datasets.label_rules import Criterion, LabelRules
from pipeline.datasets.mimic_tables.abnormality import choose_criterion
from pipeline.datasets.mimic_tables.csv_scan import SkippedRows
from pipeline.datasets.mimic_tables.dask_scheduler import run_on_scheduler
from pipeline.datasets.mimic_tables.machine import read_machine_labels
from pipeline.datasets.mimic_tables.patients import read_patient_labels
from pipeline.datasets.mimic_tables.potassium import read_potassium_labels
from pipeline.datasets.record_labels import RecordLabels, arrange_columns
from pipeline.waveforms.data_root import find_table
from pipeline.waveforms.directory_files import DirectoryFiles

Progress = Callable[[int, int], None]
"""Called with the bytes read so far and the total size of the tables."""


@dataclass(frozen=True)
class MimicTables:
    """The tables from which labels of MIMIC-IV-ECG's records are derived.

    Attributes:
        records: Result of `read_records`.
        machine: Path of `machine_measurements`, None if missing.
        patients: Path of `hosp/patients`, None if missing.
        labevents: Path of `hosp/labevents`, None if missing.
    """

    records: pd.DataFrame
    machine: Path | None
    patients: Path | None
    labevents: Path | None

    @classmethod
    def find(cls, records: pd.DataFrame, root: Path, hosp: Path | None = None) -> "MimicTables":
        """Find the tables, plain or gzipped.

        Args:
            records: Result of `read_records`.
            root: Directory of MIMIC-IV-ECG.
            hosp: MIMIC-IV's `hosp` folder. Default: `hosp` in `root`.

        Returns:
            The tables; those that do not exist are None.

        Raises:
            UserError: `hosp` is not MIMIC-IV's `hosp` folder.
        """
        hosp = root / "hosp" if hosp is None else check_hosp(hosp)
        return cls(
            records=records,
            machine=_find(root, "machine_measurements"),
            patients=_find(hosp, "patients"),
            labevents=_find(hosp, "labevents"),
        )

    def paths(self) -> tuple[Path, ...]:
        """Return the paths of the tables that exist."""
        paths = (self.machine, self.patients, self.labevents)
        return tuple(path for path in paths if path is not None)

    def missing_labels(self) -> dict[str, str]:
        """Return the name of the missing table for each label whose table does not exist."""
        tables = (
            ("machine_measurements", self.machine, ("rr_interval", "diagnosis")),
            ("hosp/patients", self.patients, ("age", "sex")),
            ("hosp/labevents", self.labevents, ("potassium",)),
        )
        return {label: name for name, path, labels in tables if path is None for label in labels}


@runtime_checkable
class HasMimicTables(Protocol):
    """A data set whose labels come from MIMIC's tables."""

    def tables(self, hosp: Path | None = None) -> MimicTables:
        """Return the tables; `hosp` replaces the data set's own `hosp` folder."""


def check_hosp(folder: Path) -> Path:
    """Check that a folder is MIMIC-IV's `hosp` folder.

    Returns:
        The same folder.

    Raises:
        UserError: The folder does not exist or has neither `patients` nor `labevents`.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder} does not exist or is not a folder; --hosp must be MIMIC-IV's hosp folder."
        )
    if _find(folder, "patients") is None and _find(folder, "labevents") is None:
        raise UserError(
            f"{folder} contains neither patients.csv nor labevents.csv (or .csv.gz); --hosp must "
            "be MIMIC-IV's hosp folder."
        )
    return folder


def label_mimic_records(
    tables: MimicTables,
    rules: LabelRules,
    *,
    scheduler: Any = None,
    progress: Progress | None = None,
) -> RecordLabels:
    """Label MIMIC-IV-ECG's records from the tables that exist.

    Args:
        tables: The tables.
        rules: Rules for deriving the labels.
        scheduler: Dask scheduler for the task that reads the lab table; see `run_on_scheduler`.
            None reads the table in this process.
        progress: Called as ``progress(bytes_read, total_bytes)``. Not called while a Dask task
            reads the lab table.

    Returns:
        The labels. Labels whose table is missing have no column.

    Raises:
        UserError: A table is damaged or lacks a column.
    """
    records, skipped = tables.records, SkippedRows()
    columns = [pd.DataFrame({"patient_id": records["patient_id"].to_numpy(np.int64)})]
    criterion: Criterion | None = None
    bytes_read = _BytesRead(tables.paths(), progress)
    # Read the largest table first, while there are no other labels in memory.
    if tables.labevents is not None:
        criterion = choose_criterion(tables.labevents, rules)
        report = bytes_read.start(tables.labevents)
        if scheduler is None:
            potassium, skipped_results = read_potassium_labels(
                tables.labevents, records, rules, report
            )
        else:
            potassium, skipped_results = run_on_scheduler(
                scheduler, read_potassium_labels, tables.labevents.absolute(), records, rules
            )
        columns.append(potassium)
        skipped.update(skipped_results)
    if tables.machine is not None:
        report = bytes_read.start(tables.machine)
        columns.append(read_machine_labels(tables.machine, records, rules, skipped, report))
    if tables.patients is not None:
        report = bytes_read.start(tables.patients)
        columns.append(read_patient_labels(tables.patients, records, skipped, report))
    bytes_read.finish()
    table = arrange_columns(pd.concat(columns, axis=1), records["record_id"].to_numpy(np.int64))
    return RecordLabels(table, tables.missing_labels(), criterion, +skipped, tables.paths())


def _find(folder: Path, name: str) -> Path | None:
    file = find_table(DirectoryFiles(folder), name)
    return None if file is None else folder / file


class _BytesRead:
    """Progress over several tables that are read one after the other."""

    def __init__(self, paths: tuple[Path, ...], progress: Progress | None) -> None:
        self.sizes = {path: path.stat().st_size for path in paths}
        self.total = sum(self.sizes.values())
        self.progress = progress
        self.before = 0

    def start(self, path: Path) -> Callable[[float], None] | None:
        """Return the progress callback of the next table, which takes the fraction read."""
        if self.progress is None:
            return None
        progress, before, total, size = self.progress, self.before, self.total, self.sizes[path]
        self.before += size
        return lambda fraction: progress(before + int(fraction * size), total)

    def finish(self) -> None:
        """Report that all tables are read."""
        if self.progress is not None and self.sizes:
            self.progress(self.total, self.total)
