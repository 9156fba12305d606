"""Parse labels from text or numbers, with a reason for each missing label.

Invalid values are counted and treated as missing; they never raise an exception.
"""

import re
from collections import Counter
from collections.abc import Mapping

import pandas as pd

from pipeline.datasets.absence_reasons import NOT_STATED, REASONS, first_reason, reason_column
from pipeline.datasets.base import LABEL_COLUMNS
from pipeline.datasets.label_columns import (
    count_missing,
    parse_nullable_strings,
    parse_numbers,
    parse_strings,
)
from pipeline.datasets.plausibility import AGE_OVER_89, remove_implausible
from pipeline.datasets.record_labels import STANDARD_COLUMNS

_TWO_CLASSES = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}
WORDS = {
    "sex": {**_TWO_CLASSES, "female": 0.0, "male": 1.0, "f": 0.0, "m": 1.0},
    "potassium": {**_TWO_CLASSES, "normal": 0.0, "abnormal": 1.0},
}
"""For each label with two classes, the class number (0 or 1) of each word in lower case."""

_Reasons = list[tuple[pd.Series, str]]
"""Pairs of a mask of absent values and their reason."""

_DECORATION = re.compile(r"^[\s.,;:*-]+|[\s.,;:*-]+$")
"""Punctuation around a diagnosis, as in `*** Atrial fibrillation. ***`."""

_WHOLE = re.compile(r"^([0-9]+)\.0*$")
_OVER_89 = re.compile(r"> ?89|(>=|≥) ?90|90 ?\+")


def parse_label(
    name: str,
    column: pd.Series,
    source: str,
    skipped: Counter[str],
    words: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Parse a column of labels.

    Values outside their range in `plausibility.PLAUSIBLE` are absent, and ages over 89 become
    `AGE_OVER_89`.

    Args:
        name: One of `LABEL_COLUMNS` other than `patient_id`.
        column: Text or numbers, indexed by record id.
        source: Name of the table or kind of files, at the beginning of each description.
        skipped: Updated with the numbers of ignored and replaced values, keyed by description.
        words: Class number (0 or 1) of each word in lower case. Default: those of `WORDS`.

    Returns:
        A column of the label, with NaN for absent values, and a column of reasons if the label is
        in `REASONS`.
    """
    words = words or WORDS.get(name)
    reasons: _Reasons = []
    if name == "diagnosis":
        values = normalize_diagnoses(parse_strings(column))
    elif words is not None:
        values, reasons = _parse_classes(name, column, source, skipped, words)
    else:
        values, reasons = _parse_quantity(name, column, source, skipped)
    labels = pd.DataFrame({name: values}, index=column.index)
    if name in REASONS:
        not_stated = (values.isna().to_numpy(bool), NOT_STATED)
        masks = [(mask.to_numpy(bool), reason) for mask, reason in reasons]
        labels[reason_column(name)] = first_reason(name, *masks, not_stated)
    return labels


def normalize_diagnoses(words: pd.Series) -> pd.Series:
    """Return diagnoses in lower case, single-spaced, without outer punctuation; NaN if empty."""
    spaced = words.str.replace(r"\s+", " ", regex=True)
    plain = spaced.str.replace(_DECORATION, "", regex=True).str.lower()
    return plain.mask(plain == "")


def parse_table(
    table: pd.DataFrame, source: str, skipped: Counter[str]
) -> list[pd.DataFrame | pd.Series]:
    """Parse the labels in a table.

    Args:
        table: Columns of text or numbers, indexed by record id.
        source: Name of the table.
        skipped: Updated as by `parse_label`.

    Returns:
        The result of `parse_label` for each label column, and the other columns unchanged. The ids
        and reasons in `STANDARD_COLUMNS` are omitted.
    """
    labels = LABEL_COLUMNS.keys() - {"patient_id"}
    return [
        parse_label(name, table[name], source, skipped) if name in labels else table[name]
        for name in map(str, table)
        if name in labels or name not in STANDARD_COLUMNS
    ]


def _parse_classes(
    name: str,
    column: pd.Series,
    source: str,
    skipped: Counter[str],
    words: Mapping[str, float],
) -> tuple[pd.Series, _Reasons]:
    """Return class numbers, NaN where absent, and the masks of absent values with their reasons."""
    stated = parse_nullable_strings(column).str.lower()
    # If any value of a column is text, pandas also reads its numbers as text, such as `1.0`.
    stated = stated.str.replace(_WHOLE, r"\1", regex=True)
    values = stated.map(words).astype("float64")
    unknown = stated.notna() & values.isna()
    *others, last = words
    allowed = f"{', '.join(others)} and {last}"
    count_missing(skipped, unknown, column, f"{source}: values of {name} other than {allowed}")
    return values, [(unknown, "unknown_word")]


def _parse_quantity(
    name: str, column: pd.Series, source: str, skipped: Counter[str]
) -> tuple[pd.Series, _Reasons]:
    """Return finite numbers in their range, and the masks of absent values with their reasons."""
    numbers, unreadable = parse_numbers(column)
    if name == "age":
        words = parse_strings(column.where(unreadable))
        over_89 = words.str.fullmatch(_OVER_89).fillna(False).astype(bool)
        numbers, unreadable = numbers.mask(over_89, AGE_OVER_89), unreadable & ~over_89
    count_missing(skipped, unreadable, column, f"{source}: values of {name} that are not numbers")
    plausible = remove_implausible(name, numbers, source, skipped)
    implausible = numbers.notna() & plausible.isna()
    return plausible, [(unreadable, "unreadable"), (implausible, "implausible")]
