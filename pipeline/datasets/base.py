"""What every data set gives: an ordered index of records, their signals, and the labels it has."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd
from jaxtyping import Float32

from stores.record_ids import RecordIds, is_text

if TYPE_CHECKING:
    from pipeline.waveforms.decode import LeadSignals

LABEL_COLUMNS = {
    "patient_id": "int64",
    "rr_interval": "float64",
    "age": "float64",
    "sex": "float64",
    "potassium": "float64",
    "potassium_mmol_l": "float64",
    "diagnosis": "string",
}
"""The label table's columns and dtypes; `rr_interval` in ms, `age` in years, `sex` 1 male 0
female, `potassium` 1 abnormal 0 normal, `diagnosis` the rhythm in the source's own words.
`patient_id` is `str` where the source's are text. NaN: not known."""

SAME_PATIENTS = (("mimic-iv-ecg/", "mimic-iv-ecg-demo/"), ("ptb-xl/", "ptb-xl-100/"))
"""How namespaces begin that name the same patients by the same ids: releases of one collection."""


@dataclass(frozen=True)
class RecordIndex:
    """The records of a data set in its own order, each with the patient it was taken from.

    `record_id` (N,) int64 or text, unique; `patient_id` (N,) int64 or text.
    """

    record_id: RecordIds
    patient_id: RecordIds

    def __len__(self) -> int:
        return len(self.record_id)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the record and patient ids in order: equal wherever the copy lies.

        Of little-endian int64, all records before all patients; where either is text, of both as
        JSON lists.
        """
        if is_text(self.record_id) or is_text(self.patient_id):
            listed = [self.record_id.tolist(), self.patient_id.tolist()]
            return hashlib.sha256(json.dumps(listed).encode()).hexdigest()
        joined = np.stack([self.record_id, self.patient_id]).astype("<i8")
        return hashlib.sha256(joined.tobytes()).hexdigest()


AGE_OVER_89 = 90.0
"""What stands for an age of which a source tells only that it is over 89."""


def same_patients(namespace: str, other: str) -> bool:
    """Whether a patient id of one namespace means the same person in another."""
    return namespace == other or any(
        namespace.startswith(releases) and other.startswith(releases) for releases in SAME_PATIENTS
    )


class Dataset(Protocol):
    """A source of 12-lead ECGs."""

    @property
    def namespace(self) -> str:
        """Name and release, such as `mimic-iv-ecg/1.0`: record ids are unique within it."""

    def index(self) -> RecordIndex:
        """All records, in the data set's own order, found without opening a waveform."""

    def read(self, row: int) -> Float32[np.ndarray, "12 5000"]:
        """The ECG at a row of the index, in mV, leads in the order of `enecg.signal.LEADS`.

        Raises UnreadableRecord where the ECG cannot be had.
        """

    def read_leads(self, row: int) -> "LeadSignals":
        """The leads of that ECG as they are in its files, before any rule refuses it.

        Raises UnreadableRecord where there are none.
        """

    def labels(self) -> pd.DataFrame:
        """The labels this source has, indexed by `record_id`: columns out of `LABEL_COLUMNS`, and
        whatever else it has, numbers as float64 and words as text, for tasks by their names.

        Opens no waveform. `patient_id` is always there; a column is there when the data set has
        such a label at all.
        """
