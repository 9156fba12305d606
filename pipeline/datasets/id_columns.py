"""Ids as tables have them: in which columns, what they are exactly, and which records they name.

A whole number goes through no float on its way, which would make one of two ids past 2**53.
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
"""Headers under which a table's record ids are looked for."""

PATIENT_COLUMNS = ("patient_id", "subject_id")
"""Headers under which a table's patients are looked for."""

HEADER_SUFFIX = ".hea"
"""What the name of a WFDB record's header ends in."""

EXACT_FLOAT = 2**53
"""Up to here every whole number is a float64 of its own."""

_INT64 = range(-(2**63), 2**63)
_WHOLE = re.compile(r"([+-]?)0*([0-9]{1,19})(?:\.0*)?")


def normalize_column_name(header: object) -> str:
    """A column's name; that of a column of ids without spaces around it, in small letters."""
    name = str(header)
    plain = name.strip().lower()
    return plain if plain in (*ID_COLUMNS, *PATIENT_COLUMNS) else name


def parse_integers(
    column: "pd.Series[int]",
) -> tuple[Int64[np.ndarray, " row"], Bool[np.ndarray, " row"]]:
    """A column's fields as int64, 0 where one is no such number, and where they are.

    `5.0` is whole; a float past `EXACT_FLOAT` is not, for it may have been another number.
    """
    if column.dtype == np.int64:
        return column.to_numpy(), np.ones(len(column), bool)
    found = [_whole(field) for field in column]
    known = np.array([one is not None for one in found], bool)
    return np.array([one or 0 for one in found], np.int64), known


def parse_text_ids(column: "pd.Series[str]") -> "pd.Series[str]":
    """Ids as text, without spaces around them; NaN where there is none.

    A whole number in a column of floats has no point: that it is one is pandas' doing.
    """
    written = column.map(_text, na_action="ignore").astype("str").str.strip()
    return written.mask(written == "")


def match_ids(written: Iterable[str], record_id: RecordIds) -> RecordIds:
    """Ids of text as a data set has them, those that it has not as they are written.

    They may be written with `.hea`, or in another form of Unicode (`u` and two dots for `ü`), as
    some systems name files, where one record alone can be meant. Raises UserError where the data
    set has two ids that are equal without the spaces around them, for tables do not keep those.
    """
    exact: dict[str, str] = {}
    forms: dict[str, str | None] = {}
    for one in record_id.tolist():
        if (other := exact.setdefault(one.strip(), one)) != one:
            raise UserError(
                f"The records {other!r} and {one!r} differ by spaces alone, and no table can tell "
                "them apart; rename one of them."
            )
        form = _form(one)
        forms[form] = None if form in forms else one

    def named(text: str) -> str:
        text = text.strip()
        ways = (text, text.removesuffix(HEADER_SUFFIX))
        exactly = (exact.get(way) for way in ways)
        alike = (forms.get(_form(way)) for way in ways)
        return next((one for one in (*exactly, *alike) if one is not None), text)

    return np.array([named(one) for one in written], str)


def normalize_unicode(patients: "pd.Series[str]") -> "pd.Series[str]":
    """Patients' ids in one form of Unicode, so that nobody is two."""
    return patients.map(_form, na_action="ignore").astype("str")


def _form(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip())


def _whole(field: object) -> int | None:
    number: int | None = None
    if isinstance(field, str):
        found = _WHOLE.fullmatch(field.strip())
        number = int(found[1] + found[2]) if found else None
    elif isinstance(field, int | np.integer) and not isinstance(field, bool):
        number = int(field)
    elif isinstance(field, float | np.floating):
        wide = float(field)
        number = int(wide) if abs(wide) <= EXACT_FLOAT and wide.is_integer() else None
    return number if number is not None and number in _INT64 else None


def _text(field: object) -> str:
    whole = _whole(field) if isinstance(field, float | np.floating) else None
    return str(field if whole is None else whole)
