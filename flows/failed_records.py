"""Failed records of stores: records with the reason of a failure instead of an embedding."""

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from enecg.errors import UserError

if TYPE_CHECKING:
    from pipeline.extraction.summary import Failure
    from stores.embeddings import EmbeddingStore

FOLDER = "failed-records"
"""Subfolder of lists of failed records in the folder that `enecg runs serve` serves."""


@dataclass(frozen=True)
class FailedRecord:
    """A failed row of a store.

    Attributes:
        record_id: Id of the record.
        expert: Expert of the store.
        reason: Reason code, one of the store's flags; ``status_N`` for a status N without a flag.
        detail: A message that names the file or the value; empty if `list_failed` received none.
    """

    record_id: int | str
    expert: str
    reason: str
    detail: str = ""


def failed_rows(store: "EmbeddingStore") -> Iterator[tuple[int | str, str]]:
    """Yield the id and the reason of each failed record of a store, in the order of its rows."""
    from stores.status import FIRST_REASON, flag_of

    for record, status in zip(store.record_id.tolist(), store.status().tolist(), strict=True):
        if status >= FIRST_REASON:
            yield record, flag_of(status, store.flags)


def list_failed(
    stores: Iterable["EmbeddingStore"], failures: Iterable["Failure"]
) -> list[FailedRecord]:
    """List the failed records of stores, in this and earlier runs.

    Args:
        stores: The stores.
        failures: Failures of this run with their details.

    Returns:
        The failed records, by store and row.
    """
    details = {(failure.record_id, failure.reason): failure.detail for failure in failures}
    return [
        FailedRecord(record, store.location.parent.name, reason, details.get((record, reason), ""))
        for store in stores
        for record, reason in failed_rows(store)
    ]


def write_failed(records: Sequence[FailedRecord], file: Path) -> None:
    """Write failed records to a CSV file that only its owner can read.

    Args:
        records: The failed records.
        file: File to write; its folder is created.

    Raises:
        UserError: The file cannot be written.
    """
    from pipeline.report.formats import csv_cell

    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            partial.touch(mode=0o600)
            with partial.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.writer(stream, lineterminator="\n")
                writer.writerow(("record_id", "expert", "reason", "detail"))
                for record in records:
                    row = (str(record.record_id), record.expert, record.reason, record.detail)
                    writer.writerow(map(csv_cell, row))
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{file} cannot be written ({error.strerror}); check the folder of ENECG_PAGES_ROOT."
        ) from error
