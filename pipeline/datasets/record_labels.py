"""Labels of a data set's records, with a reason for each label that is missing."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd

from pipeline.datasets.absence_reasons import REASONS, labels_in, reason_column
from pipeline.datasets.base import LABEL_COLUMNS, RecordIndex
from pipeline.datasets.label_columns import parse_strings
from pipeline.datasets.label_rules import FIRST_LINE_SKIPPED, Criterion
from stores.record_ids import RecordIds

STANDARD_COLUMNS = frozenset(
    ("record_id", "patient_id", "subject_id", *LABEL_COLUMNS, *map(reason_column, REASONS))
)
"""Columns that every data set may have: ids, labels and reasons."""

OWN_TABLES = "the data set's own tables"
"""Value in `RecordLabels.missing_tables` for labels of data sets other than MIMIC."""

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)``."""


@dataclass(frozen=True)
class RecordLabels:
    """Labels of all records of a data set.

    Attributes:
        table: One row per record in the order of the data set, indexed by `record_id`. The columns
            are the available `LABEL_COLUMNS`, a column of reasons for each label in `REASONS`, and
            extra columns (float64 or strings).
        missing_tables: For each label without a column, the table that is missing, or
            `OWN_TABLES`.
        criterion: Criterion for abnormal potassium; None if there is no lab table.
        skipped: Numbers of rows and values that were replaced, ignored or used in part, keyed by
            description.
        sources: Paths of MIMIC's tables; empty for other data sets.
    """

    table: pd.DataFrame
    missing_tables: dict[str, str] = field(default_factory=dict)
    criterion: Criterion | None = None
    skipped: Counter[str] = field(default_factory=Counter)
    sources: tuple[Path, ...] = ()

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Columns besides ids, labels and reasons."""
        return tuple(str(name) for name in self.table if name not in STANDARD_COLUMNS)

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for each description in `skipped`."""
        return describe_skipped(self.skipped, len(self.table))

    def values(self) -> pd.DataFrame:
        """Return the table without reasons, as `Dataset.labels` does."""
        return self.table.drop(columns=[reason_column(name) for name in labels_in(self.table)])


@runtime_checkable
class HasRecordLabels(Protocol):
    """A data set with a reason for each absent label."""

    def record_labels(self, progress: Progress | None = None) -> RecordLabels:
        """Return the labels of all records.

        Args:
            progress: Called as ``progress(done, total)``, with numbers of records unless the data
                set documents another unit. May never be called if the labels are read quickly.

        Returns:
            The labels, in the order of the data set's index.
        """


def assemble_labels(
    index: RecordIndex, columns: Iterable[pd.DataFrame | pd.Series], skipped: Counter[str]
) -> RecordLabels:
    """Combine the labels of a data set other than MIMIC.

    Args:
        index: The data set's records and patients.
        columns: Results of `parse_label` (labels with reasons), and extra columns. Each has one row
            per record, in the order of the index.
        skipped: Numbers of ignored and replaced rows and values, keyed by description.

    Returns:
        The labels.
    """
    parts = [part.reset_index(drop=True) for part in columns]
    table = pd.concat([pd.DataFrame({"patient_id": index.patient_id}), *parts], axis=1)
    missing_tables = {name: OWN_TABLES for name in REASONS if name not in table}
    return RecordLabels(arrange_columns(table, index.record_id), missing_tables, skipped=+skipped)


def describe_skipped(skipped: Counter[str], records: int) -> tuple[str, ...]:
    """Return a sentence for each description, in alphabetical order.

    Args:
        skipped: Counts keyed by description.
        records: Number of records of the data set.

    Returns:
        The sentences. The sentence for `FIRST_LINE_SKIPPED` also states the share of the records.
    """
    notes = []
    for description, count in sorted(skipped.items()):
        share = ""
        if description.endswith(FIRST_LINE_SKIPPED):
            share = f" ({count / records:.1%} of the ECGs)"
        notes.append(f"{description}: {count:,}{share}.")
    return tuple(notes)


def arrange_columns(table: pd.DataFrame, record_id: RecordIds) -> pd.DataFrame:
    """Sort the columns of a label table and convert them to their dtypes.

    Args:
        table: One row per record with patients, labels, reasons and extra columns, in any order.
        record_id: Record id of each row.

    Returns:
        Patients, labels, reasons and extra columns, indexed by `record_id`. `patient_id` keeps its
        dtype; extra columns become float64 or strings.
    """
    dtypes = {name: dtype for name, dtype in LABEL_COLUMNS.items() if name in table}
    dtypes.pop("patient_id")
    reasons = [reason_column(name) for name in REASONS if name in table]
    arranged = table[["patient_id", *dtypes, *reasons]].astype(dtypes)
    for name in (str(name) for name in table if name not in STANDARD_COLUMNS):
        column = table[name]
        numeric = column.dtype.kind in "iuf"
        arranged[name] = column.astype(np.float64) if numeric else parse_strings(column)
    return arranged.set_index(pd.Index(record_id, name="record_id"))
