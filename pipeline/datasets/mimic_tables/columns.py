"""SQL expressions that read values from text columns of MIMIC's tables.

`text`, `integer`, `number` and `time` take the name of a column and return an expression, which is
NULL if the field is missing or unreadable. Spaces around a field are ignored.
"""

from collections.abc import Callable

from pipeline.datasets.label_columns import MISSING_VALUES
from pipeline.datasets.mimic_tables.sql import quote_list, quote_name

_INTEGER = r"[+-]?[0-9]{1,18}(\.0*)?"
_NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
_TIME = r"[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}[ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]+)?)?"
_TIME_LENGTH = len("2150-03-01 12:40:00")


def text(column: str) -> str:
    """Return an expression for text without surrounding spaces."""
    trimmed = f"trim({quote_name(column)})"
    return f"CASE WHEN {trimmed} NOT IN {quote_list(MISSING_VALUES)} THEN {trimmed} END"


def integer(column: str) -> str:
    """Return an expression for a BIGINT of at most 18 digits; ``12.0`` is an integer."""
    return _cast(column, _INTEGER, quote_name(column), "BIGINT")


def number(column: str) -> str:
    """Return an expression for a finite DOUBLE."""
    value = _cast(column, _NUMBER, quote_name(column), "DOUBLE")
    return f"CASE WHEN isfinite({value}) THEN {value} END"


def time(column: str) -> str:
    """Return an expression for a TIMESTAMP in whole seconds; a date alone is unreadable."""
    # A date without a time of day would mean midnight.
    return _cast(column, _TIME, f"left(ltrim({quote_name(column)}), {_TIME_LENGTH})", "TIMESTAMP")


def is_stated(column: str) -> str:
    """Return a BOOLEAN expression for whether a field is not missing; it is never NULL."""
    return f"({text(column)}) IS NOT NULL"


def parsed(column: str, expression: Callable[[str], str]) -> str:
    """Return two columns for a SELECT: the value, and whether it is stated but unreadable.

    The second column is named `unreadable_COLUMN`.

    Args:
        column: Name of the text column, which is also the name of the column of values.
        expression: `integer`, `number` or `time`.

    Returns:
        The two columns, separated by a comma.
    """
    value = expression(column)
    unreadable = f"CASE WHEN ({value}) IS NULL THEN {is_stated(column)} ELSE false END"
    return f"{value} AS {column}, {unreadable} AS unreadable_{column}"


def _cast(column: str, pattern: str, value: str, kind: str) -> str:
    # Match the pattern first, because the cast also accepts text such as 0x10 and 1_0.
    matches = f"regexp_full_match({quote_name(column)}, ' *({pattern}) *')"
    return f"CASE WHEN {matches} THEN try_cast({value} AS {kind}) END"
