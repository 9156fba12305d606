"""Columns of labels in users' tables, parsed to numbers, two classes or words."""

from collections.abc import Sequence

import pandas as pd

from enecg.errors import UserError
from enecg.tasks import Task
from pipeline.datasets.plausibility import PLAUSIBLE

MISSING_VALUES = ("", "NA", "N/A", "<NA>", "NaN", "nan", "NULL", "null")
"""Fields of a CSV that mean missing. `None` is a word: it may be a severity."""

_BINARY_SPELLINGS = (("0", "1"), ("false", "true"))
_SEX_SPELLINGS = (("f", "m"),)
_EXAMPLES = 3


def parse_paper_labels(task: Task, column: pd.Series, source: str) -> pd.Series:
    """Parse a column of labels for one of the paper's tasks.

    Args:
        task: One of `enecg.tasks.TASKS`.
        column: Column of a user's table.
        source: Name of the table, for error messages.

    Returns:
        Labels as in `LABEL_COLUMNS`, NaN where missing. RR intervals outside the plausible range
        are missing.

    Raises:
        UserError: A value cannot be a label of this task.
    """
    if task.kind == "multiclass":
        return parse_words(column)
    if task.kind == "regression":
        numbers = parse_numbers(column, task.column, source)
        if task.name == "rr_interval":
            numbers = numbers.where(numbers.between(*PLAUSIBLE["rr_interval"]))
        return numbers
    spellings = (*_BINARY_SPELLINGS, task.classes, *(_SEX_SPELLINGS if task.name == "sex" else ()))
    number = {word: float(place) for pair in spellings for place, word in enumerate(pair)}
    words = parse_words(column).str.lower()
    unknown = [word for word in list_classes(parse_words(column)) if word.lower() not in number]
    if unknown:
        allowed = ", ".join(" or ".join(map(repr, pair)) for pair in spellings)
        raise UserError(
            f"{source}: column {task.column} has values such as {quote_examples(unknown)}; use "
            f"{allowed}."
        )
    return words.map(number).astype("float64")


def parse_numbers(column: pd.Series, name: str, source: str) -> pd.Series:
    """Parse a column of finite numbers.

    Args:
        column: Column of a user's table.
        name: Name of the column, for error messages.
        source: Name of the table, for error messages.

    Returns:
        float64, NaN where missing.

    Raises:
        UserError: A value is a word or infinite.
    """
    known = column if column.dtype.kind in "iuf" else parse_words(column)
    numbers = pd.to_numeric(known, errors="coerce").astype("float64")
    wrong = (numbers.isna() & known.notna()) | numbers.isin([float("inf"), float("-inf")])
    if wrong.any():
        raise UserError(
            f"{source}: column {name} has {int(wrong.sum())} values that are not numbers, such as "
            f"'{column[wrong].iloc[0]}'; leave unknown values empty, or make the task binary or "
            "multiclass."
        )
    return numbers


def parse_words(column: pd.Series) -> pd.Series:
    """Parse a column of words: stripped, NaN where missing.

    Args:
        column: Column of a user's table.

    Returns:
        Strings. Whole numbers lose their point (`1.0` is `1`); `true` and `false` become lower
        case.
    """
    codes, distinct = pd.factorize(column)
    words = pd.Series([*map(_word, distinct), None], dtype="string")
    taken = words.take(codes.tolist()).set_axis(column.index)
    return taken.mask(taken == "")


def _word(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    word = str(value).strip()
    return word.lower() if word.lower() in ("true", "false") else word


def list_classes(words: pd.Series) -> list[str]:
    """Return the distinct words, sorted as numbers if all are numbers, else alphabetically."""
    found = [str(word) for word in words.dropna().unique()]
    try:
        return sorted(found, key=float)
    except ValueError:
        return sorted(found)


def encode_binary(words: pd.Series, classes: tuple[str, ...], name: str, source: str) -> pd.Series:
    """Encode a column of words as class numbers 0 and 1.

    Args:
        words: Column from `parse_words`.
        classes: The words of class 0 and class 1.
        name: Name of the column, for error messages.
        source: Name of the table, for error messages.

    Returns:
        float64, NaN where missing.

    Raises:
        UserError: There is a word that is neither class.
    """
    unknown = [word for word in list_classes(words) if word not in classes]
    if unknown:
        raise UserError(
            f"{source}: column {name} has values other than {classes[0]!r} and {classes[1]!r}, "
            f"such as {quote_examples(unknown)}; use these two."
        )
    return words.map({word: float(place) for place, word in enumerate(classes)}).astype("float64")


def quote_examples(values: Sequence[str]) -> str:
    """Quote the first few values for an error message."""
    more = ", ..." if len(values) > _EXAMPLES else ""
    return ", ".join(map(repr, values[:_EXAMPLES])) + more
