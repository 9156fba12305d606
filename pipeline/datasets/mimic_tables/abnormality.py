"""Abnormal potassium: by the laboratory's flag, the row's reference range, or thresholds."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64

from enecg.errors import UserError
from pipeline.datasets.label_columns import MISSING_VALUES
from pipeline.datasets.label_rules import Criterion, LabelRules
from pipeline.datasets.mimic_tables.csv_blocks import read_header
from pipeline.datasets.mimic_tables.fields import parse_numbers, parse_text
from pipeline.mimic_codes import ABNORMAL_FLAG

_COLUMNS: dict[Criterion, tuple[str, ...]] = {
    "flag": ("flag",),
    "range": ("ref_range_lower", "ref_range_upper"),
    "thresholds": (),
}


def choose_criterion(path: Path, rules: LabelRules) -> Criterion:
    """Return the criterion of the rules, or the first that the lab table has columns for.

    Args:
        path: The lab table.
        rules: The rules; `abnormal` may be None.

    Returns:
        The criterion.

    Raises:
        UserError: The table lacks the columns of the criterion in the rules.
    """
    names = set(read_header(path).names)
    if rules.abnormal is None:
        return next(name for name, columns in _COLUMNS.items() if names.issuperset(columns))
    columns = _COLUMNS[rules.abnormal]
    if not names.issuperset(columns):
        raise UserError(
            f"{path} has no column {' or '.join(columns)}, which --abnormal {rules.abnormal} "
            "needs; omit the option or use --abnormal thresholds."
        )
    return rules.abnormal


def criterion_columns(criterion: Criterion) -> tuple[str, ...]:
    """Return the columns of the lab table that a criterion needs."""
    return _COLUMNS[criterion]


def classify_results(
    results: pa.RecordBatch,
    value: Float64[np.ndarray, " result"],
    rules: LabelRules,
    criterion: Criterion,
) -> Float64[np.ndarray, " result"]:
    """Classify potassium results as normal or abnormal.

    Args:
        results: Rows of the lab table with `criterion_columns`.
        value: Potassium of each row, mmol/L.
        rules: The thresholds; values equal to a limit are normal.
        criterion: Result of `choose_criterion`.

    Returns:
        1 abnormal, 0 normal, NaN where the flag is an unknown word.
    """
    if criterion == "flag":
        flag = pc.fill_null(parse_text(results["flag"]), "")
        normal = pc.is_in(flag, value_set=pa.array(MISSING_VALUES))
        abnormal = pc.equal(pc.utf8_lower(flag), ABNORMAL_FLAG)
        return np.where(_to_numpy(normal), 0.0, np.where(_to_numpy(abnormal), 1.0, np.nan))
    low = np.full(len(value), rules.potassium_low)
    high = np.full(len(value), rules.potassium_high)
    if criterion == "range":
        lower, upper = (parse_numbers(results[column]) for column in _COLUMNS["range"])
        low = np.where(lower.known, lower.values, low)
        high = np.where(upper.known, upper.values, high)
    return ((value < low) | (value > high)).astype(np.float64)


def _to_numpy(column: pa.Array) -> Bool[np.ndarray, " result"]:
    return np.asarray(column.to_numpy(zero_copy_only=False))
