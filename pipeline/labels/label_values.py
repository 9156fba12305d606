"""What stands in a column of labels, as numbers, as two classes or as words."""

from collections.abc import Sequence

import pandas as pd

from enecg.errors import UserError

TWO_CLASSES = (("0", "1"), ("false", "true"))
"""What may stand for the classes 0 and 1 whatever they are called."""

_EXAMPLES = 3


def numbers(column: pd.Series, name: str, where: str) -> pd.Series:
    """A column of numbers, float64, NaN where nothing is known.

    Raises UserError where there is a word or an infinity.
    """
    known = column if column.dtype.kind in "iuf" else words(column)
    values = pd.to_numeric(known, errors="coerce").astype("float64")
    wrong = (values.isna() & known.notna()) | values.isin([float("inf"), float("-inf")])
    if wrong.any():
        raise UserError(
            f"{name} in {where} has {int(wrong.sum())} values that are no numbers, such as "
            f"'{column[wrong].iloc[0]}'; leave what is unknown empty, or ask for it as binary or "
            "multiclass."
        )
    return values


def words(column: pd.Series) -> pd.Series:
    """A column of words without spaces around them; whole numbers without a point, `true` and
    `false` in small letters; NaN where nothing is known.
    """
    place, distinct = pd.factorize(column)
    told = pd.Series([*map(_word, distinct), None], dtype="string")
    taken = told.take(place.tolist()).set_axis(column.index)
    return taken.mask(taken == "")


def _word(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    word = str(value).strip()
    return word.lower() if word.lower() in ("true", "false") else word


def distinct_words(column: pd.Series) -> list[str]:
    """The words of a column of `words`, numbers by size, other words by the alphabet."""
    found = [str(word) for word in column.dropna().unique()]
    try:
        return sorted(found, key=float)
    except ValueError:
        return sorted(found)


def class_numbers(column: pd.Series, classes: tuple[str, ...], name: str, where: str) -> pd.Series:
    """0 and 1 for the two classes of a column of `words`, float64, NaN where nothing is known.

    Raises UserError where there is another word.
    """
    strange = [word for word in distinct_words(column) if word not in classes]
    if strange:
        raise UserError(
            f"{name} in {where} has values that are neither {classes[0]!r} nor {classes[1]!r}, "
            f"such as {examples(strange)}; write it so."
        )
    return column.map({word: float(place) for place, word in enumerate(classes)}).astype("float64")


def class_numbers_of_any(
    column: pd.Series, spellings: Sequence[tuple[str, ...]], name: str, where: str
) -> pd.Series:
    """0 and 1 for a column of `words`, each spelled by any of these pairs, in whatever case.

    Raises UserError where there is another word.
    """
    place = {word: place for pair in spellings for place, word in enumerate(pair)}
    known = column.str.lower()
    strange = [word for word in distinct_words(column) if word.lower() not in place]
    if strange:
        allowed = ", ".join(" or ".join(map(repr, pair)) for pair in spellings)
        raise UserError(
            f"{name} in {where} has values such as {examples(strange)}; write {allowed}."
        )
    return known.map({word: float(number) for word, number in place.items()}).astype("float64")


def examples(values: Sequence[str]) -> str:
    """The first few of many values."""
    more = ", ..." if len(values) > _EXAMPLES else ""
    return ", ".join(map(repr, values[:_EXAMPLES])) + more
