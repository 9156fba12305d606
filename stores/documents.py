"""Parsing of JSON documents in store roots and run folders.

The documents are not trusted, because other users can have write permission.
"""

import json
from typing import Any

MAX_DOCUMENT_BYTES = 4 << 20
"""Maximum size of a document; a store's zarr.json with its provenance has a few kilobytes."""
MAX_VALUE_BYTES = 1 << 30
"""Maximum size of a chunk of record ids or status; such a chunk is read into memory at once."""

MAX_DEPTH = 32
"""Maximum nesting of lists and objects in a document."""


class InvalidDocument(ValueError):
    """A document is missing, is not JSON, or is nested too deeply."""


def parse_document(value: bytes | None, *, finite: bool = True) -> Any:
    """Parse a JSON document.

    Args:
        value: The document in UTF-8; None if it does not exist.
        finite: Whether to reject the constants NaN and Infinity, which JSON does not allow but
            Python's `json` module writes by default.

    Returns:
        The parsed value, nested at most `MAX_DEPTH` levels deep.

    Raises:
        InvalidDocument: The document is missing, is not JSON, or is nested too deeply.
    """
    try:
        parse_constant = _reject_constant if finite else None
        document = json.loads(value or b"", parse_constant=parse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidDocument(f"not valid JSON ({type(error).__name__})") from error
    level, depth = [document], 0
    while level:
        if depth >= MAX_DEPTH:
            raise InvalidDocument(f"nested more than {MAX_DEPTH} levels deep")
        level = [child for parent in level for child in _children(parent)]
        depth += 1
    return document


def _reject_constant(name: str) -> None:
    raise ValueError(name)


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
