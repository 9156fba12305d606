"""Labels of a data set's records, with a reason for each label that is missing."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.datasets.absence_reasons import REASONS, reason_column
from pipeline.datasets.base import LABEL_COLUMNS
from pipeline.datasets.label_columns import parse_words
from pipeline.datasets.label_rules import Criterion
from stores.record_ids import RecordIds

STANDARD_COLUMNS = frozenset(
    ("record_id", "patient_id", "subject_id", *LABEL_COLUMNS, *map(reason_column, REASONS))
)
"""Columns that every data set may have: ids, labels and reasons."""


@dataclass(frozen=True)
class RecordLabels:
    """Labels of all records of a data set.

    Attributes:
        table: One row per record in the data set's order, indexed by `record_id`: `LABEL_COLUMNS`,
            a column of reasons for each label, then extra columns, float64 or words.
        missing_tables: For each label without a column, the table that is missing.
        criterion: What makes potassium abnormal; None if there is no lab table.
        skipped: Number of rows not used, or used in part, by description.
        sources: Paths of the tables.
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

    def values(self) -> pd.DataFrame:
        """Return the label columns alone, as `Dataset.labels` does."""
        return self.table[[name for name in LABEL_COLUMNS if name in self.table]]


def arrange_columns(table: pd.DataFrame, record_id: RecordIds) -> pd.DataFrame:
    """Put columns in their order and dtypes.

    Args:
        table: One row per record: `patient_id`, labels, reasons, extra columns.
        record_id: Record id of each row.

    Returns:
        Patients, labels, reasons and extra columns, indexed by `record_id`. `patient_id` keeps its
        dtype; extra columns become float64 or words.
    """
    dtypes = {name: dtype for name, dtype in LABEL_COLUMNS.items() if name in table}
    dtypes.pop("patient_id")
    reasons = [reason_column(name) for name in REASONS if name in table]
    arranged = table[["patient_id", *dtypes, *reasons]].astype(dtypes)
    for name in (str(name) for name in table if name not in STANDARD_COLUMNS):
        column = table[name]
        numeric = column.dtype.kind in "iuf"
        arranged[name] = column.astype(np.float64) if numeric else parse_words(column)
    return arranged.set_index(pd.Index(record_id, name="record_id"))
