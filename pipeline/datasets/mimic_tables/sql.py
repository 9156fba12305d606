"""Quoting of names and values in SQL."""

from collections.abc import Iterable


def quote_name(name: str) -> str:
    """Return a column name as a SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """Return text as a SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def quote_list(values: Iterable[str | int]) -> str:
    """Return values as a SQL list in parentheses."""
    texts = [quote_text(value) if isinstance(value, str) else str(value) for value in values]
    return f"({', '.join(texts)})"
