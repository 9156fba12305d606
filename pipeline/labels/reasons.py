"""Why a record has no label: a short closed list of words for each."""

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
    "age": ("no_ecg_time", "patient_not_listed", "implausible", NOT_STATED),
    "sex": ("patient_not_listed", NOT_STATED),
    "potassium": (
        *("no_ecg_time", "no_result", "none_in_window", "implausible", "unknown_flag"),
        NOT_STATED,
    ),
    "diagnosis": ("not_listed", "other_patient", "no_report", NOT_STATED),
}
"""Label and reasons. `not_listed`: the record is not in machine_measurements; `other_patient`: it
is there, as somebody else's; `not_measured`: the machine says so (29999, or nothing);
`implausible`: outside the bounds in `rules`; `unreadable`: no number; `no_ecg_time`: the record
list has none; `patient_not_listed`: not in patients; `no_result`: the patient has no potassium
result at all; `none_in_window`: none near this ECG; `unknown_flag`: the laboratory's flag is
neither empty nor `abnormal`; `no_report`: the report line asked for is empty; `not_stated`: the
source has a place for it, and nothing there."""

_SUFFIX = "_absent"


def column_of(label: str) -> str:
    """The name of the column that holds a label's reasons."""
    return label + _SUFFIX


def absent(label: str, *reasons: tuple[Bool[np.ndarray, " record"], str]) -> "pd.Categorical[str]":
    """For each record the first reason that holds, null where none does: the label is there."""
    words = REASONS[label]
    codes = np.select(
        [holds for holds, _ in reasons], [words.index(word) for _, word in reasons], -1
    )
    return pd.Categorical.from_codes(codes.astype(np.int8), categories=pd.Index(words))


def labels_of(columns: Iterable[Hashable]) -> tuple[str, ...]:
    """Which labels a table with these columns has."""
    there = set(columns)
    return tuple(label for label in REASONS if label in there)
