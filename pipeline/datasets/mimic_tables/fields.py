"""Fields of a table as text, numbers and times; what cannot be read is texts apart from nothing.

Every field is judged alone, so that a number does not depend on what else its block holds. Blocks
that hold nothing unusual are parsed without looking for it, to the same numbers.
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Shaped

from pipeline.datasets.label_columns import MISSING_VALUES

_WHOLE = r"^[+-]?[0-9]{1,18}(\.0*)?$"
_NUMBER = r"^[+-]?([0-9]{1,300}\.?[0-9]{0,300}|\.[0-9]{1,300})([eE][+-]?[0-9]{1,3})?$"
_TIME = (
    r"^[1-9][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"[ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]+)?)?$"
)


_DIGITS = 15
_USUAL_TIME = len("2150-03-01 12:40:00")


@dataclass(frozen=True)
class ParsedColumn:
    """A column's `values`, where they are `known`, and where a field is `unreadable`."""

    values: Shaped[np.ndarray, " row"]
    known: Bool[np.ndarray, " row"]
    unreadable: int


def parse_text(column: pa.Array) -> pa.Array:
    """Bytes in UTF-8 as text without spaces around."""
    return pc.utf8_trim_whitespace(column.cast(pa.string()))


def parse_integers(column: pa.Array) -> ParsedColumn:
    """int64; `12.0` is whole too."""
    if _only_digits(column):
        return _all_known(column.cast(pa.string()).cast(pa.int64()))
    texts, empty, good = _matching(column, _WHOLE)
    plain = pc.replace_substring_regex(texts, r"(^\+)|(\.0*$)", "")
    return _parsed(pc.fill_null(plain.cast(pa.int64()), 0), empty, good)


def parse_numbers(column: pa.Array) -> ParsedColumn:
    """float64, NaN where nothing is known; an infinity is no number."""
    if _only_digits(column):
        return _all_known(column.cast(pa.string()).cast(pa.float64()))
    texts, empty, _ = _matching(column, _NUMBER)
    values = pc.replace_substring_regex(texts, r"^\+", "").cast(pa.float64())
    values = np.asarray(pc.fill_null(values, np.nan).to_numpy(zero_copy_only=False))
    values = np.where(np.isfinite(values), values, np.nan)
    known = np.isfinite(values)
    return ParsedColumn(values, known, int((~known & ~empty).sum()))


def parse_times(column: pa.Array) -> ParsedColumn:
    """Times such as `2150-03-01 12:40:00`, to the second, as int64 seconds since 1970.

    A date without a time of day is none: it would put a result at midnight.
    """
    usual = _usual_times(column)
    if usual is not None:
        return _all_known(usual.cast(pa.int64()))
    texts, empty, _ = _matching(column, _TIME)
    texts = pc.replace_substring_regex(texts, r"\.[0-9]+$", "")
    try:
        times = texts.cast(pa.timestamp("s"))
    except pa.ArrowInvalid:  # the 30th of February
        times = pa.array(map(_time, texts.to_pylist()), pa.timestamp("s"))
    good = times.is_valid().to_numpy(zero_copy_only=False)
    return _parsed(pc.fill_null(times.cast(pa.int64()), 0), empty, good)


def _only_digits(column: pa.Array) -> bool:
    """Whether every field is a plain number of at most `_DIGITS` digits, as in most blocks."""
    return bool(
        column.null_count == 0
        and pc.all(pc.ascii_is_decimal(column.cast(pa.string()))).as_py()
        and pc.all(pc.less_equal(pc.binary_length(column), _DIGITS)).as_py()
    )


def _usual_times(column: pa.Array) -> pa.Array | None:
    """The times, where each is written as MIMIC's are."""
    if column.null_count or not pc.all(pc.equal(pc.binary_length(column), _USUAL_TIME)).as_py():
        return None
    try:
        times = column.cast(pa.string()).cast(pa.timestamp("s"))
    except pa.ArrowInvalid:
        return None
    return times if pc.all(pc.greater_equal(pc.year(times), 1000)).as_py() else None


def _all_known(values: pa.Array) -> ParsedColumn:
    return ParsedColumn(values.to_numpy(), np.ones(len(values), bool), 0)


def _matching(
    column: pa.Array, pattern: str
) -> tuple[pa.Array, Bool[np.ndarray, " row"], Bool[np.ndarray, " row"]]:
    """A column's text where it is of a pattern, else null; where it says nothing; where it is."""
    texts = parse_text(column)
    empty = pc.or_kleene(texts.is_null(), pc.is_in(texts, value_set=pa.array(MISSING_VALUES)))
    good = pc.fill_null(pc.match_substring_regex(texts, pattern), False)
    return (
        pc.if_else(good, texts, pa.scalar(None, pa.string())),
        empty.to_numpy(zero_copy_only=False),
        good.to_numpy(zero_copy_only=False),
    )


def _parsed(
    values: pa.Array, empty: Bool[np.ndarray, " row"], good: Bool[np.ndarray, " row"]
) -> ParsedColumn:
    return ParsedColumn(values.to_numpy(zero_copy_only=False), good, int((~good & ~empty).sum()))


def _time(texts: str | None) -> datetime | None:
    try:
        return None if texts is None else datetime.fromisoformat(texts)
    except ValueError:
        return None
