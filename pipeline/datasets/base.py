"""The protocol of a data set: an index of records, their ECGs and their labels."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd
from jaxtyping import Float32

from pipeline.waveforms.options import DEFAULT_OPTIONS, DecodeOptions
from stores.record_ids import RecordIds, as_ids, is_text

if TYPE_CHECKING:
    from pipeline.waveforms.lead_signals import LeadSignals

LABEL_COLUMNS = {
    "patient_id": "int64",
    "rr_interval": "float64",
    "age": "float64",
    "sex": "float64",
    "potassium": "float64",
    "potassium_mmol_l": "float64",
    "diagnosis": "string",
}
"""Columns of the label table and their dtypes. Missing labels are NaN, or `pd.NA` in `diagnosis`.

- ``patient_id``: int64, or str if the source's ids are text; never missing.
- ``rr_interval``: ms.
- ``age``: years; `plausibility.AGE_OVER_89` for all ages over 89.
- ``sex``: 1 male, 0 female.
- ``potassium``: 1 abnormal, 0 normal.
- ``potassium_mmol_l``: mmol/L.
- ``diagnosis``: rhythm or diagnosis in the words of the source, normalized as by
  `label_values.normalize_diagnoses`.
"""

CODE_COLUMNS = ("dx",)
"""Columns of codes that may follow `LABEL_COLUMNS`, separated by commas or semicolons."""

SAME_PATIENTS = (("mimic-iv-ecg/", "mimic-iv-ecg-demo/"), ("ptb-xl/", "ptb-xl-100/"))
"""Prefixes of namespaces that share patient ids because they are releases of one collection."""


@dataclass(frozen=True)
class RecordIndex:
    """The records of a data set in order, with their patients.

    Attributes:
        record_id: Unique ids, int64 or text.
        patient_id: Patient of each record, int64 or text.
    """

    record_id: RecordIds
    patient_id: RecordIds

    def __post_init__(self) -> None:
        # Data sets of other packages may have ids of other integer types.
        for name in ("record_id", "patient_id"):
            object.__setattr__(self, name, as_ids(getattr(self, name)))

    def __len__(self) -> int:
        return len(self.record_id)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all record ids followed by all patient ids, in order.

        Integers are digested as little-endian int64. If either kind of id is text, the digest is
        that of a JSON list of both lists.
        """
        if is_text(self.record_id) or is_text(self.patient_id):
            listed = [self.record_id.tolist(), self.patient_id.tolist()]
            return hashlib.sha256(json.dumps(listed).encode()).hexdigest()
        joined = np.stack([self.record_id, self.patient_id]).astype("<i8")
        return hashlib.sha256(joined.tobytes()).hexdigest()


def same_patients(namespace: str, other: str) -> bool:
    """Return whether equal patient ids in two namespaces refer to the same person.

    Args:
        namespace: Namespace of a data set.
        other: Namespace of another or the same data set.

    Returns:
        True for equal namespaces and for releases of one collection (`SAME_PATIENTS`).
    """
    return namespace == other or any(
        namespace.startswith(prefixes) and other.startswith(prefixes) for prefixes in SAME_PATIENTS
    )


def decoding_of(dataset: "Dataset") -> DecodeOptions:
    """Return the decoding options of a data set, or the defaults if it has none."""
    options: DecodeOptions = getattr(dataset, "decoding", DEFAULT_OPTIONS)
    return options


class Dataset(Protocol):
    """A source of 12-lead ECGs.

    A data set may have an attribute ``threads``, the recommended number of records to read
    concurrently (default 1), and an attribute ``decoding`` with its `DecodeOptions`. `index` and
    `labels` raise `UserError` if a table is invalid.
    """

    @property
    def namespace(self) -> str:
        """Name and release, such as ``mimic-iv-ecg/1.0``. Record ids are unique within it."""

    def index(self) -> RecordIndex:
        """Return all records in the data set's order, without opening a waveform."""

    def read(self, row: int) -> Float32[np.ndarray, "12 5000"]:
        """Decode the ECG of a record.

        Args:
            row: Row in the index.

        Returns:
            Ten seconds at 500 Hz in mV, leads in the order of `enecg.ecg_format.LEADS`.

        Raises:
            UnreadableRecord: The record cannot be decoded.
        """

    def read_leads(self, row: int) -> "LeadSignals":
        """Read the leads of a record at their stored rate, before `read` checks and resamples them.

        Args:
            row: Row in the index.

        Returns:
            Up to the first ten seconds in mV, with derived leads if `decoding` requests them.

        Raises:
            UnreadableRecord: A file cannot be read, a lead is missing, or signals of a lead differ.
        """

    def labels(self) -> pd.DataFrame:
        """Return the labels of all records, without opening a waveform.

        Returns:
            A table indexed by `record_id` with ``patient_id``, the available `LABEL_COLUMNS`, and
            additional columns (float64 or text), to which custom tasks refer by name.
        """
