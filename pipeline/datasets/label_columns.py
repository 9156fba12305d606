"""Parsing of the columns of users' tables to numbers or words."""

from collections import Counter
from collections.abc import Sequence

import pandas as pd

MISSING_VALUES = ("", "NA", "N/A", "<NA>", "NaN", "nan", "NULL", "null")
"""Fields of a CSV that mean missing. `None` is not among them, because it may be a class, such as a
severity."""

_EXAMPLES = 3
_EXAMPLE_LENGTH = 40


def parse_numbers(column: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Parse a column of finite numbers.

    Args:
        column: Text or numbers.

    Returns:
        The numbers as float64, NaN for other values; and a mask of the values that are neither
        missing nor finite numbers.
    """
    stated = column if column.dtype.kind in "iuf" else parse_stated_words(column)
    numbers = pd.to_numeric(stated, errors="coerce").astype("float64")
    finite = numbers.notna() & ~numbers.isin([float("inf"), float("-inf")])
    return numbers.where(finite), (stated.notna() & ~finite).astype(bool)


def parse_words(column: pd.Series) -> pd.Series:
    """Parse a column of words.

    Args:
        column: Text or numbers.

    Returns:
        Strings without surrounding spaces; NaN for missing and empty values. Whole numbers have no
        decimal point (`1.0` becomes `1`), and `true` and `false` are in lower case.
    """
    codes, distinct = pd.factorize(column)
    words = pd.Series([*map(_word, distinct), None], dtype="string")
    taken = words.take(codes.tolist()).set_axis(column.index)
    return taken.mask(taken == "")


def parse_stated_words(column: pd.Series) -> pd.Series:
    """Parse a column of words like `parse_words`, and replace `MISSING_VALUES` by NaN."""
    words = parse_words(column)
    return words.mask(words.isin(MISSING_VALUES))


def _word(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    word = str(value).strip()
    return word.lower() if word.lower() in ("true", "false") else word


def list_classes(words: pd.Series) -> list[str]:
    """Return the distinct words, sorted numerically if all are numbers, else alphabetically."""
    distinct = [str(word) for word in words.dropna().unique()]
    try:
        return sorted(distinct, key=float)
    except ValueError:
        return sorted(distinct)


def count_missing(
    counts: Counter[str], selected: pd.Series, column: pd.Series, description: str
) -> None:
    """Count values that are treated as missing, with the first one and its record as an example.

    Args:
        counts: Updated with the number of selected values, if any, keyed by description.
        selected: Mask of the values to count.
        column: The column, indexed by record id.
        description: What is counted, such as ``"labels.csv: values of age that are not numbers"``.
    """
    if selected.any():
        example = column[selected].iloc[[0]]
        value = repr(_word(example.iloc[0])[:_EXAMPLE_LENGTH])
        counts[
            f"{description}, such as {value} of record {example.index[0]}, treated as missing"
        ] += int(selected.sum())


def quote_examples(values: Sequence[str]) -> str:
    """Quote the first few values for an error message."""
    more = ", ..." if len(values) > _EXAMPLES else ""
    return ", ".join(map(repr, values[:_EXAMPLES])) + more
