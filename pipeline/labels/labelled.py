"""The labels of a data set's records, with the reasons for those that are absent."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from enecg.errors import UserError
from pipeline.datasets.base import LABEL_COLUMNS, Dataset
from pipeline.labels.abnormal import choose_criterion
from pipeline.labels.label_values import words
from pipeline.labels.machine import machine_labels
from pipeline.labels.patients import patient_labels
from pipeline.labels.potassium import Ecgs, Partial, potassium_labels, reduce_part
from pipeline.labels.reasons import NOT_STATED, REASONS, absent, column_of
from pipeline.labels.rules import Criterion, LabelRules
from pipeline.labels.spread import spread
from pipeline.labels.tables import Skipped
from stores.record_ids import RecordIds

Progress = Callable[[int, int], None]
"""Called with the bytes of the tables that are read, and with all that there are."""


@dataclass(frozen=True)
class MimicTables:
    """The `records` of `read_records`, and where the tables are that label them; None: nowhere."""

    records: pd.DataFrame
    machine: Path | None
    patients: Path | None
    labevents: Path | None

    def paths(self) -> tuple[Path, ...]:
        """The tables that there are."""
        known = (self.machine, self.patients, self.labevents)
        return tuple(path for path in known if path is not None)


@runtime_checkable
class HasMimicTables(Protocol):
    """A data set that is labelled from MIMIC's tables."""

    def tables(self, hosp: Path | None = None) -> MimicTables:
        """Its tables; `hosp`: MIMIC-IV's folder where it is not the data set's own."""


@dataclass(frozen=True)
class Labels:
    """`table`: `LABEL_COLUMNS`, a column of reasons a label, and whatever else a data set has by
    itself, numbers as float64 and words as text; indexed by `record_id` in the data set's order,
    ids as its index has them. `lacking`: label and the table that is not there. `criterion`: by
    what potassium is abnormal. `skipped`: rows of the tables that could not be used. `sources`: the
    tables.
    """

    table: pd.DataFrame
    lacking: dict[str, str] = field(default_factory=dict)
    criterion: Criterion | None = None
    skipped: Skipped = field(default_factory=Skipped)
    sources: tuple[Path, ...] = ()

    @property
    def others(self) -> tuple[str, ...]:
        """The columns that a data set has besides `LABEL_COLUMNS`."""
        usual = usual_columns()
        return tuple(str(name) for name in self.table if name not in usual)

    def values(self) -> pd.DataFrame:
        """The labels alone, as `Dataset.labels` gives them."""
        return self.table[[name for name in LABEL_COLUMNS if name in self.table]]


def label(
    dataset: Dataset,
    rules: LabelRules,
    *,
    hosp: Path | None = None,
    scheduler: Any = None,
    progress: Progress | None = None,
) -> Labels:
    """The labels of a data set, by whatever tables it has.

    `hosp`: MIMIC-IV's folder of tables, where it is not linked into the data set. `scheduler`: as
    `spread` takes it; None: one pass in this process. Raises UserError where a table is not
    MIMIC's.
    """
    if isinstance(dataset, HasMimicTables):
        tables = dataset.tables(hosp)
        return label_from_mimic(tables, rules, scheduler=scheduler, progress=progress)
    if hosp is not None:
        raise UserError(
            f"{dataset.namespace} is not labelled from MIMIC-IV's tables; leave --hosp out."
        )
    return _label_from_itself(dataset)


def label_from_mimic(
    tables: MimicTables,
    rules: LabelRules,
    *,
    scheduler: Any = None,
    progress: Progress | None = None,
) -> Labels:
    """The labels of MIMIC-IV-ECG's records, each where its table is there."""
    records, skipped = tables.records, Skipped()
    ids = records["record_id"].to_numpy(np.int64)
    made = [pd.DataFrame({"patient_id": records["patient_id"].to_numpy(np.int64)})]
    lacking: dict[str, str] = {}
    criterion: Criterion | None = None
    read = _Read(tables.paths(), progress)
    if tables.machine is None:
        lacking |= dict.fromkeys(("rr_interval", "diagnosis"), "machine_measurements")
    else:
        made.append(
            machine_labels(tables.machine, records, rules, skipped, read.of(tables.machine))
        )
    if tables.patients is None:
        lacking |= dict.fromkeys(("age", "sex"), "hosp/patients")
    else:
        made.append(patient_labels(tables.patients, records, skipped, read.of(tables.patients)))
    if tables.labevents is None:
        lacking["potassium"] = "hosp/labevents"
    else:
        criterion = choose_criterion(tables.labevents, rules)
        ecgs = Ecgs.of(records)
        if scheduler is None:
            whole = reduce_part(tables.labevents, ecgs, rules, None, read.of(tables.labevents))
            parts: tuple[Partial, ...] = (whole,)
        else:
            parts = spread(tables.labevents, ecgs, rules, scheduler)
        potassium, left_out = potassium_labels(ecgs, parts)
        made.append(potassium)
        skipped.update(left_out)
    read.all()
    table = pd.concat(made, axis=1)
    return Labels(_ordered(table, ids), lacking, criterion, +skipped, tables.paths())


def _label_from_itself(dataset: Dataset) -> Labels:
    """What a data set's own `labels` give: what is absent there was not stated."""
    index = dataset.index()
    table = dataset.labels().reindex(pd.Index(index.record_id, name="record_id"))
    table = table.reset_index(drop=True).assign(patient_id=index.patient_id)
    for name in REASONS:
        if name in table:
            table[column_of(name)] = absent(name, (table[name].isna().to_numpy(), NOT_STATED))
    lacking = {name: "the data set's own tables" for name in REASONS if name not in table}
    return Labels(_ordered(table, index.record_id), lacking)


def usual_columns() -> frozenset[str]:
    """The columns that every data set may have: ids, labels, and their reasons."""
    ids = ("record_id", "patient_id", "subject_id")
    return frozenset((*ids, *LABEL_COLUMNS, *map(column_of, REASONS)))


def _ordered(table: pd.DataFrame, record_id: RecordIds) -> pd.DataFrame:
    """Columns in their order and types: ids, labels, each label's reasons, and what else there is.

    Patients keep the type that they have.
    """
    kinds = {name: kind for name, kind in LABEL_COLUMNS.items() if name in table}
    kinds.pop("patient_id")
    reasons = [column_of(name) for name in REASONS if name in table]
    usual = usual_columns()
    others = [str(name) for name in table if name not in usual]
    typed = table[["patient_id", *kinds, *reasons]].astype(kinds)
    for name in others:
        column = table[name]
        typed[name] = column.astype(np.float64) if column.dtype.kind in "iuf" else words(column)
    return typed.set_index(pd.Index(record_id, name="record_id"))


class _Read:
    """Bytes read over several tables, one after the other."""

    def __init__(self, paths: tuple[Path, ...], progress: Progress | None) -> None:
        self.sizes = {path: path.stat().st_size for path in paths}
        self.progress = progress
        self.before = 0

    def of(self, path: Path) -> Callable[[int], None] | None:
        """What is told the bytes read of the next table."""
        if self.progress is None:
            return None
        progress, before, total = self.progress, self.before, sum(self.sizes.values())
        self.before += self.sizes[path]
        return lambda done: progress(before + done, total)

    def all(self) -> None:
        """Every table is read."""
        if self.progress is not None and self.sizes:
            self.progress(sum(self.sizes.values()), sum(self.sizes.values()))
