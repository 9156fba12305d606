"""Abnormal potassium: by the laboratory's flag, the row's reference range, or thresholds."""

from pathlib import Path

from enecg.errors import UserError
from pipeline.datasets.label_rules import Criterion, LabelRules
from pipeline.datasets.mimic_tables import columns
from pipeline.datasets.mimic_tables.csv_file import read_header
from pipeline.datasets.mimic_tables.sql import quote_text
from pipeline.mimic_codes import ABNORMAL_FLAG

# The criteria in order of preference, with the columns that each requires. The reference range is
# preferred to the flag, which contradicts the range in some rows.
_COLUMNS: dict[Criterion, tuple[str, ...]] = {
    "range": ("ref_range_lower", "ref_range_upper"),
    "flag": ("flag",),
    "thresholds": (),
}


def choose_criterion(path: Path, rules: LabelRules) -> Criterion:
    """Return the criterion of the rules, or the first criterion whose columns exist.

    Args:
        path: The lab table.
        rules: The rules; `abnormal` may be None.

    Returns:
        The criterion.

    Raises:
        UserError: The table cannot be read, or lacks a column of the criterion in the rules.
    """
    names = set(read_header(path))
    if rules.abnormal is None:
        return next(name for name, needed in _COLUMNS.items() if names.issuperset(needed))
    missing = [name for name in _COLUMNS[rules.abnormal] if name not in names]
    if missing:
        raise UserError(
            f"{path} has no column {' or '.join(missing)}, which --abnormal {rules.abnormal} "
            "requires; omit the option or use --abnormal thresholds."
        )
    return rules.abnormal


def available_columns(path: Path) -> tuple[str, ...]:
    """Return the columns of the criteria whose columns all exist in the lab table."""
    names = set(read_header(path))
    return tuple(
        column
        for columns_needed in _COLUMNS.values()
        if names.issuperset(columns_needed)
        for column in columns_needed
    )


def is_abnormal(criterion: Criterion, value: str, rules: LabelRules) -> str:
    """Return a BOOLEAN expression for whether a row of the lab table is abnormal.

    Args:
        criterion: Result of `choose_criterion`.
        value: Expression for the potassium in mmol/L.
        rules: Rules with the thresholds; values equal to a limit are normal.

    Returns:
        The expression; it is NULL for an unknown flag or, for other criteria, a missing value.
    """
    if criterion == "flag":
        return is_flagged()
    low, high = f"DOUBLE '{rules.potassium_low}'", f"DOUBLE '{rules.potassium_high}'"
    if criterion == "range":
        lower, upper = map(columns.number, _COLUMNS["range"])
        low, high = f"coalesce({lower}, {low})", f"coalesce({upper}, {high})"
    return f"({value}) NOT BETWEEN {low} AND {high}"


def is_flagged() -> str:
    """Return a BOOLEAN expression for the laboratory's flag.

    Returns:
        The expression; it is false for a missing flag and NULL for an unknown one.
    """
    flag = columns.text("flag")
    return (
        f"CASE WHEN ({flag}) IS NULL THEN false "
        f"WHEN lower({flag}) = {quote_text(ABNORMAL_FLAG)} THEN true END"
    )


def contradicts_flag(value: str, available: tuple[str, ...]) -> str:
    """Return a BOOLEAN expression for whether a row's flag contradicts its reference range.

    Args:
        value: Expression for the potassium in mmol/L.
        available: Result of `available_columns`.

    Returns:
        The expression; it is false for rows without a value or a range, or with an unknown flag.
    """
    if not {"flag", *_COLUMNS["range"]}.issubset(available):
        return "false"
    lower, upper = map(columns.number, _COLUMNS["range"])
    # A row may state only one of the limits.
    low, high = f"coalesce({lower}, '-inf'::DOUBLE)", f"coalesce({upper}, 'inf'::DOUBLE)"
    has_range = f"(({lower}) IS NOT NULL OR ({upper}) IS NOT NULL)"
    outside = f"({value}) NOT BETWEEN {low} AND {high}"
    return f"coalesce({has_range} AND ({is_flagged()}) <> ({outside}), false)"
