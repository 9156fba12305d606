"""Parsing of columns of users' tables as numbers or strings."""

from collections import Counter
from collections.abc import Sequence

import pandas as pd

MISSING_VALUES = ("", "NA", "N/A", "<NA>", "NaN", "nan", "NULL", "null")
"""Texts in tables that are parsed as missing. `None` is not among them, because it may be the name
of a class, for example of a severity."""

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
    stated = column if column.dtype.kind in "iuf" else parse_nullable_strings(column)
    numbers = pd.to_numeric(stated, errors="coerce").astype("float64")
    finite = numbers.notna() & ~numbers.isin([float("inf"), float("-inf")])
    return numbers.where(finite), (stated.notna() & ~finite).astype(bool)


def parse_strings(column: pd.Series) -> pd.Series:
    """Convert a column to strings.

    Args:
        column: Text or numbers.

    Returns:
        Strings (dtype ``string``) without surrounding spaces; `pd.NA` for missing and empty values.
        Floats without a fraction become integers (1.0 becomes `1`, but the text `1.0` is kept), and
        `true` and `false` are in lower case.
    """
    codes, distinct = pd.factorize(column)
    strings = pd.Series([*map(_to_string, distinct), None], dtype="string")
    taken = strings.take(codes.tolist()).set_axis(column.index)
    return taken.mask(taken == "")


def parse_nullable_strings(column: pd.Series) -> pd.Series:
    """Convert a column to strings like `parse_strings`, with `pd.NA` for `MISSING_VALUES`."""
    strings = parse_strings(column)
    return strings.mask(strings.isin(MISSING_VALUES))


def _to_string(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value).strip()
    return text.lower() if text.lower() in ("true", "false") else text


def list_classes(strings: pd.Series) -> list[str]:
    """Return the distinct strings, sorted numerically if all are numbers, else alphabetically."""
    distinct = [str(text) for text in strings.dropna().unique()]
    try:
        return sorted(distinct, key=float)
    except ValueError:
        return sorted(distinct)


def count_missing(
    counts: Counter[str], selected: pd.Series, column: pd.Series, description: str
) -> None:
    """Count values that are treated as missing, with the first one and its record as an example.

    Args:
        counts: Updated with the number of selected values, keyed by description and example.
        selected: Mask of the values to count.
        column: The column, indexed by record id.
        description: What is counted, such as ``"labels.csv: values of age that are not numbers"``.
    """
    if selected.any():
        example = column[selected].iloc[[0]]
        value = repr(_to_string(example.iloc[0])[:_EXAMPLE_LENGTH])
        counts[
            f"{description}, such as {value} of record {example.index[0]}, treated as missing"
        ] += int(selected.sum())


def quote_examples(values: Sequence[str]) -> str:
    """Quote the first few values for an error message."""
    more = ", ..." if len(values) > _EXAMPLES else ""
    return ", ".join(map(repr, values[:_EXAMPLES])) + more
