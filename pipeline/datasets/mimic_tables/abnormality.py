"""What makes a potassium abnormal: the laboratory's flag, the row's own range, or thresholds."""

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

RANGE_COLUMNS = ("ref_range_lower", "ref_range_upper")


def choose_criterion(path: Path, rules: LabelRules) -> Criterion:
    """What tells an abnormal result: as the rules say, or the first that the table has.

    Raises UserError where the table lacks the columns that the rules ask for.
    """
    header = read_header(path)
    has = {
        "flag": "flag" in header.names,
        "range": set(RANGE_COLUMNS) <= set(header.names),
        "thresholds": True,
    }
    if rules.abnormal is None:
        return "flag" if has["flag"] else "range" if has["range"] else "thresholds"
    if not has[rules.abnormal]:
        raise UserError(
            f"{path} has no column {' or '.join(criterion_columns(rules.abnormal))}, which "
            f"--abnormal {rules.abnormal} needs; omit the option or use --abnormal thresholds."
        )
    return rules.abnormal


def criterion_columns(criterion: Criterion) -> tuple[str, ...]:
    """The columns of the lab table by which a criterion tells."""
    return {"flag": ("flag",), "range": RANGE_COLUMNS, "thresholds": ()}[criterion]


def classify_results(
    results: pa.RecordBatch,
    value: Float64[np.ndarray, " result"],
    rules: LabelRules,
    criterion: Criterion,
) -> Float64[np.ndarray, " result"]:
    """Potassium results as 1 abnormal, 0 normal, NaN where the flag is a word that is not known.

    `value` in mmol/L; the limits themselves are normal.
    """
    if criterion == "flag":
        told = pc.fill_null(parse_text(results["flag"]), "")
        normal = pc.is_in(told, value_set=pa.array(MISSING_VALUES))
        flagged = pc.equal(pc.utf8_lower(told), ABNORMAL_FLAG)
        unknown = np.where(_bools(flagged), 1.0, np.nan)
        return np.where(_bools(normal), 0.0, unknown)
    low = np.full(len(value), rules.potassium_low)
    high = np.full(len(value), rules.potassium_high)
    if criterion == "range":
        lower, upper = (parse_numbers(results[column]) for column in RANGE_COLUMNS)
        low = np.where(lower.known, lower.values, low)
        high = np.where(upper.known, upper.values, high)
    return ((value < low) | (value > high)).astype(np.float64)


def _bools(column: pa.Array) -> Bool[np.ndarray, " result"]:
    return np.asarray(column.to_numpy(zero_copy_only=False))
