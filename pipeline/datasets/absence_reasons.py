"""Reasons why a record has no label. Each label has a fixed list of possible reasons."""

from collections.abc import Hashable, Iterable

import numpy as np
import pandas as pd
from jaxtyping import Bool

NOT_STATED = "not_stated"

REASONS = {
    "rr_interval": (
        *("not_listed", "other_patient", "not_measured", "unreadable", "implausible"),
        NOT_STATED,
    ),
    "age": ("no_ecg_time", "patient_not_listed", "unreadable", "implausible", NOT_STATED),
    "sex": ("patient_not_listed", "unknown_word", NOT_STATED),
    "potassium": (
        *("no_ecg_time", "no_result", "none_in_window", "implausible", "unknown_flag"),
        *("unknown_word", NOT_STATED),
    ),
    "diagnosis": (
        *("not_listed", "other_patient", "no_report", "no_diagnosis", "unreadable"),
        NOT_STATED,
    ),
}
"""Reasons by label.

- ``not_listed``: the record is not in `machine_measurements`.
- ``other_patient``: the record is listed there under another patient.
- ``not_measured``: the machine reported 29999 or nothing.
- ``unreadable``: the value or the file that contains it cannot be parsed.
- ``implausible``: the value is outside its range in `plausibility.PLAUSIBLE`.
- ``no_ecg_time``: the record list has no time for this ECG.
- ``patient_not_listed``: the patient is not in `patients`.
- ``no_result``: the patient has no potassium result with a time and a number.
- ``none_in_window``: the patient has such results, but none in the time window of this ECG.
- ``unknown_flag``: the laboratory's flag of the selected result is neither empty nor `abnormal`.
- ``unknown_word``: the value is none of the words for the label's two classes.
- ``no_report``: the selected report lines contain no word.
- ``no_diagnosis``: all selected report lines with words are skipped as non-diagnostic.
- ``not_stated``: the source has no value.
"""


def reason_column(label: str) -> str:
    """Return the name of the column with a label's reasons."""
    return f"{label}_absent"


def first_reason(
    label: str, *reasons: tuple[Bool[np.ndarray, " record"], str]
) -> "pd.Categorical[str]":
    """Return the first reason that applies to each record.

    Args:
        label: A key of `REASONS`.
        *reasons: Pairs of a mask over the records and its reason, in order of precedence.

    Returns:
        One reason per record; null if no mask applies, because the label is present.
    """
    names = REASONS[label]
    codes = np.select(
        [applies for applies, _ in reasons], [names.index(name) for _, name in reasons], -1
    )
    return pd.Categorical.from_codes(codes.astype(np.int8), categories=pd.Index(names))


def labels_in(columns: Iterable[Hashable]) -> tuple[str, ...]:
    """Return the labels of `REASONS` that are among these columns."""
    present = set(columns)
    return tuple(label for label in REASONS if label in present)
