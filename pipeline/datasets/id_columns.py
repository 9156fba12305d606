"""Record and patient ids in tables: their columns, exact integers, and matching of text.

Integers are never converted to float, which would merge ids beyond 2**53.
"""

import re
import unicodedata
from collections.abc import Iterable

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64

from enecg.errors import UserError
from stores.record_ids import RecordIds

ID_COLUMNS = ("record_id", "study_id")
"""Names of columns of record ids, in order of precedence."""

PATIENT_COLUMNS = ("patient_id", "subject_id")
"""Names of columns of patient ids."""

HEADER_SUFFIX = ".hea"
"""File suffix of WFDB headers in lower case; some systems write it in capitals."""

EXACT_FLOAT = 2**53
"""Largest integer up to which float64 represents every integer."""

_INT64 = range(-(2**63), 2**63)
_INTEGER = re.compile(r"([+-]?)0*([0-9]{1,19})(?:\.0*)?")


def normalize_column_name(header: object) -> str:
    """Return a column's name; for id columns, in lower case without surrounding spaces."""
    name = str(header)
    plain = name.strip().lower()
    return plain if plain in (*ID_COLUMNS, *PATIENT_COLUMNS) else name


def parse_integers(
    column: "pd.Series[int]",
) -> tuple[Int64[np.ndarray, " row"], Bool[np.ndarray, " row"]]:
    """Parse a column of integers exactly.

    Args:
        column: Integers, floats or text. ``5.0`` is parsed as an integer. Floats beyond
            `EXACT_FLOAT` are not, because they may have been rounded.

    Returns:
        The integers, with 0 for other fields; and a mask of the fields that are integers.
    """
    if column.dtype == np.int64:
        return column.to_numpy(), np.ones(len(column), bool)
    parsed = [_parse_integer(field) for field in column]
    known = np.array([number is not None for number in parsed], bool)
    return np.array([number or 0 for number in parsed], np.int64), known


def parse_text_ids(column: "pd.Series[str]") -> "pd.Series[str]":
    """Return ids as text without surrounding spaces; NaN for missing ids.

    Integers in a column of floats become text without a decimal point, because pandas converts a
    column of integers to floats if a value is missing.
    """
    text = column.map(_format_id, na_action="ignore").astype("str").str.strip()
    return text.mask(text == "")


def match_ids(ids: Iterable[str], record_id: RecordIds) -> RecordIds:
    """Replace text ids with the data set's spelling of them.

    Surrounding spaces are ignored. The first match in this order is used:

    1. the id;
    2. the id without the suffix ``.hea``;
    3. one of these, ignoring differences in Unicode normalization, if only one id matches.

    Args:
        ids: Ids from a table.
        record_id: The data set's ids.

    Returns:
        The data set's ids; ids without a match are unchanged.

    Raises:
        UserError: Two of the data set's ids differ only in surrounding spaces.
    """
    exact: dict[str, str] = {}
    normalized: dict[str, str | None] = {}
    for own in record_id.tolist():
        if (other := exact.setdefault(own.strip(), own)) != own:
            raise UserError(
                f"The records {other!r} and {own!r} differ only in spaces, so a table cannot "
                "distinguish them; rename one of them."
            )
        form = _normalize(own)
        normalized[form] = None if form in normalized else own

    def match(text: str) -> str:
        text = text.strip()
        spellings = [text]
        if text.lower().endswith(HEADER_SUFFIX):
            spellings.append(text[: -len(HEADER_SUFFIX)])
        matches = (
            *(exact.get(spelling) for spelling in spellings),
            *(normalized.get(_normalize(spelling)) for spelling in spellings),
        )
        return next((own for own in matches if own is not None), text)

    return np.array([match(text) for text in ids], str)


def normalize_unicode(patients: "pd.Series[str]") -> "pd.Series[str]":
    """Return patient ids in Unicode NFC without surrounding spaces, so that equal ids match."""
    return patients.map(_normalize, na_action="ignore").astype("str")


def _normalize(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip())


def _parse_integer(field: object) -> int | None:
    number: int | None = None
    if isinstance(field, str):
        match = _INTEGER.fullmatch(field.strip())
        number = int(match[1] + match[2]) if match else None
    elif isinstance(field, int | np.integer) and not isinstance(field, bool):
        number = int(field)
    elif isinstance(field, float | np.floating):
        value = float(field)
        number = int(value) if abs(value) <= EXACT_FLOAT and value.is_integer() else None
    return number if number is not None and number in _INT64 else None


def _format_id(field: object) -> str:
    integer = _parse_integer(field) if isinstance(field, float | np.floating) else None
    return str(field if integer is None else integer)
