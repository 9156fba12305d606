"""Fields of MIMIC's tables, parsed to text, numbers and times.

Each field is parsed independently of the other fields in its block. Blocks without unusual fields
take a faster path to the same values.
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Shaped

from pipeline.datasets.label_columns import MISSING_VALUES

_INTEGER = r"^[+-]?[0-9]{1,18}(\.0*)?$"
_NUMBER = r"^[+-]?([0-9]{1,300}\.?[0-9]{0,300}|\.[0-9]{1,300})([eE][+-]?[0-9]{1,3})?$"
_TIME = (
    r"^[1-9][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"[ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]+)?)?$"
)

_MAX_DIGITS = 15
_TIME_LENGTH = len("2150-03-01 12:40:00")


@dataclass(frozen=True)
class ParsedColumn:
    """A parsed column.

    Attributes:
        values: (row,) values; undefined where not known.
        known: (row,) whether the field was parsed.
        unreadable: Number of fields that are neither missing nor valid.
    """

    values: Shaped[np.ndarray, " row"]
    known: Bool[np.ndarray, " row"]
    unreadable: int


def parse_text(column: pa.Array) -> pa.Array:
    """Convert UTF-8 bytes to stripped strings."""
    return pc.utf8_trim_whitespace(column.cast(pa.string()))


def parse_integers(column: pa.Array) -> ParsedColumn:
    """Parse integers of up to 18 digits to int64; `12.0` is an integer too."""
    if _all_digits(column):
        return _all_known(column.cast(pa.string()).cast(pa.int64()))
    matched, missing, valid = _match(column, _INTEGER)
    digits = pc.replace_substring_regex(matched, r"(^\+)|(\.0*$)", "")
    return _parsed(pc.fill_null(digits.cast(pa.int64()), 0), missing, valid)


def parse_numbers(column: pa.Array) -> ParsedColumn:
    """Parse finite numbers to float64, NaN where not known."""
    if _all_digits(column):
        return _all_known(column.cast(pa.string()).cast(pa.float64()))
    matched, missing, _ = _match(column, _NUMBER)
    values = pc.replace_substring_regex(matched, r"^\+", "").cast(pa.float64())
    values = np.asarray(pc.fill_null(values, np.nan).to_numpy(zero_copy_only=False))
    values = np.where(np.isfinite(values), values, np.nan)
    known = np.isfinite(values)
    return ParsedColumn(values, known, int((~known & ~missing).sum()))


def parse_times(column: pa.Array) -> ParsedColumn:
    """Parse times such as `2150-03-01 12:40:00` to int64 seconds since 1970."""
    # A date without a time of day is unreadable: it would place a result at midnight.
    usual = _parse_usual_times(column)
    if usual is not None:
        return _all_known(usual.cast(pa.int64()))
    matched, missing, _ = _match(column, _TIME)
    matched = pc.replace_substring_regex(matched, r"\.[0-9]+$", "")
    try:
        times = matched.cast(pa.timestamp("s"))
    except pa.ArrowInvalid:  # such as February 30
        times = pa.array(map(_parse_time, matched.to_pylist()), pa.timestamp("s"))
    valid = times.is_valid().to_numpy(zero_copy_only=False)
    return _parsed(pc.fill_null(times.cast(pa.int64()), 0), missing, valid)


def _all_digits(column: pa.Array) -> bool:
    """Return whether every field is an unsigned integer of at most `_MAX_DIGITS` digits."""
    return bool(
        column.null_count == 0
        and pc.all(pc.ascii_is_decimal(column.cast(pa.string()))).as_py()
        and pc.all(pc.less_equal(pc.binary_length(column), _MAX_DIGITS)).as_py()
    )


def _parse_usual_times(column: pa.Array) -> pa.Array | None:
    """Parse times if all have MIMIC's usual format, else return None."""
    if column.null_count or not pc.all(pc.equal(pc.binary_length(column), _TIME_LENGTH)).as_py():
        return None
    try:
        times = column.cast(pa.string()).cast(pa.timestamp("s"))
    except pa.ArrowInvalid:
        return None
    return times if pc.all(pc.greater_equal(pc.year(times), 1000)).as_py() else None


def _all_known(values: pa.Array) -> ParsedColumn:
    return ParsedColumn(values.to_numpy(), np.ones(len(values), bool), 0)


def _match(
    column: pa.Array, pattern: str
) -> tuple[pa.Array, Bool[np.ndarray, " row"], Bool[np.ndarray, " row"]]:
    """Return the text where it matches a pattern, else null; where it is missing; where valid."""
    text = parse_text(column)
    missing = pc.or_kleene(text.is_null(), pc.is_in(text, value_set=pa.array(MISSING_VALUES)))
    valid = pc.fill_null(pc.match_substring_regex(text, pattern), False)
    return (
        pc.if_else(valid, text, pa.scalar(None, pa.string())),
        missing.to_numpy(zero_copy_only=False),
        valid.to_numpy(zero_copy_only=False),
    )


def _parsed(
    values: pa.Array, missing: Bool[np.ndarray, " row"], valid: Bool[np.ndarray, " row"]
) -> ParsedColumn:
    unreadable = int((~valid & ~missing).sum())
    return ParsedColumn(values.to_numpy(zero_copy_only=False), valid, unreadable)


def _parse_time(text: str | None) -> datetime | None:
    try:
        return None if text is None else datetime.fromisoformat(text)
    except ValueError:
        return None
