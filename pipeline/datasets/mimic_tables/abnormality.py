"""Abnormal potassium: by the laboratory's flag, the row's reference range, or thresholds."""

from pathlib import Path

from enecg.errors import UserError
from pipeline.datasets.label_rules import Criterion, LabelRules
from pipeline.datasets.mimic_tables import columns
from pipeline.datasets.mimic_tables.csv_file import read_header
from pipeline.datasets.mimic_tables.sql import quote_text
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
    names = set(read_header(path))
    if rules.abnormal is None:
        return next(name for name, needed in _COLUMNS.items() if names.issuperset(needed))
    needed = _COLUMNS[rules.abnormal]
    if not names.issuperset(needed):
        raise UserError(
            f"{path} has no column {' or '.join(needed)}, which --abnormal {rules.abnormal} "
            "needs; omit the option or use --abnormal thresholds."
        )
    return rules.abnormal


def criterion_columns(criterion: Criterion) -> tuple[str, ...]:
    """Return the columns of the lab table that a criterion needs."""
    return _COLUMNS[criterion]


def is_abnormal(criterion: Criterion, value: str, rules: LabelRules) -> str:
    """Return a BOOLEAN expression over the lab table's columns.

    Args:
        criterion: Result of `choose_criterion`.
        value: Expression of the potassium, mmol/L.
        rules: The thresholds; values equal to a limit are normal.

    Returns:
        The expression, NULL where the flag is an unknown word.
    """
    if criterion == "flag":
        flag = columns.text("flag")
        return (
            f"CASE WHEN ({flag}) IS NULL THEN false "
            f"WHEN lower({flag}) = {quote_text(ABNORMAL_FLAG)} THEN true END"
        )
    low, high = f"DOUBLE '{rules.potassium_low}'", f"DOUBLE '{rules.potassium_high}'"
    if criterion == "range":
        lower, upper = map(columns.number, _COLUMNS["range"])
        low, high = f"coalesce({lower}, {low})", f"coalesce({upper}, {high})"
    return f"({value}) NOT BETWEEN {low} AND {high}"
