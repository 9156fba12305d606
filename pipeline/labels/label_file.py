"""Read a user's label file and join it to the records of a data set by record id."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from enecg.errors import UserError
from pipeline.datasets.base import RecordIndex
from pipeline.datasets.id_columns import normalize_unicode
from pipeline.datasets.record_table import RecordTable, read_record_table
from pipeline.labels.parquet_file import has_digest, read_metadata


@dataclass(frozen=True)
class LabelFile:
    """Labels from a file.

    Attributes:
        rows: The requested columns, joined to the data set's records.
        sha256: SHA-256 of the file.
        digest: Label digest; None if the file was not written by `write_labels`, or was changed.
        changed: Whether the contents differ from the label digest in the metadata.
    """

    rows: RecordTable
    sha256: str
    digest: str | None = None
    changed: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on the origin of the labels, skipped rows and records outside the data set."""
        name, unknown = self.rows.path.name, len(self.rows.unknown_records)
        digest = f"; label digest {self.digest[:12]}" if self.digest else ""
        notes = [f"Labels from {name} (SHA-256 {self.sha256[:12]}{digest})."]
        if self.changed:
            notes.append(
                f"{name} was changed after enecg label wrote it; its contents do not match the "
                "digest in its metadata."
            )
        if self.rows.invalid_rows:
            notes.append(f"Skipped {self.rows.invalid_rows}, in {name}.")
        if unknown:
            notes.append(f"{unknown} records of {name} are not in the data set.")
        return tuple(notes)


def read_label_file(path: Path, index: RecordIndex, columns: Collection[str]) -> LabelFile:
    """Read columns of a label file for the records of a data set.

    Args:
        path: CSV, gzipped CSV or Parquet file with a column `record_id` or `study_id`.
        index: The data set's records and patients.
        columns: Names of the columns to read.

    Returns:
        The labels. A patient column in the file is only compared with the data set's patients.

    Raises:
        UserError: The file is invalid (see `read_record_table`), or assigns a record to a different
            patient than the data set.
    """
    rows = read_record_table(path, index.record_id, columns)
    if rows.patients is not None:
        check_patients(rows.patients, index, rows.path)
    with rows.path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    metadata = read_metadata(rows.path) if rows.path.suffix == ".parquet" else None
    if metadata is None:
        return LabelFile(rows, sha256)
    digest = metadata.get("digest")
    if not has_digest(rows.path, digest):
        return LabelFile(rows, sha256, changed=True)
    return LabelFile(rows, sha256, digest)


def check_patients(patients: pd.Series, index: RecordIndex, path: Path) -> None:
    """Check that a file assigns no record to a different patient than the data set.

    Args:
        patients: Patient of each record as text; missing if the file has none.
        index: The data set's records and patients.
        path: The file, for the message.

    Raises:
        UserError: The file names another patient for at least one record.
    """
    expected = normalize_unicode(pd.Series(index.patient_id.astype(str), patients.index))
    differ = (patients.notna() & (patients != expected)).to_numpy(bool)
    if differ.any():
        first = int(np.flatnonzero(differ)[0])
        raise UserError(
            f"{path} assigns {int(differ.sum())} records to other patients than the data set, for "
            f"example record {index.record_id[first]} to patient {patients.iloc[first]} instead of "
            f"{index.patient_id[first]}; check --dataset, or remove the patient column."
        )
