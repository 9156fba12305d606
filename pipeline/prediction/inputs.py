"""ECGs to make predictions for: WFDB records by path, or records of a data set."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float32

from enecg.errors import UserError
from pipeline.datasets.base import Dataset
from pipeline.datasets.id_columns import HEADER_SUFFIX, match_ids
from pipeline.datasets.selection import select_records
from pipeline.datasets.wfdb_listing import find_records
from pipeline.waveforms.decode import to_ecg
from pipeline.waveforms.errors import UnreadableRecord
from pipeline.waveforms.lead_signals import LeadSignals, read_leads
from pipeline.waveforms.options import DecodeOptions
from pipeline.waveforms.quality import examine
from stores.record_ids import RecordIds, is_text

_SUFFIXES = (HEADER_SUFFIX, ".dat")
_HEADER_SUFFIXES = (HEADER_SUFFIX, HEADER_SUFFIX.upper())


@dataclass(frozen=True)
class DecodedEcg:
    """A decoded ECG.

    Attributes:
        ecg: Ten seconds in mV at 500 Hz, in the order of `enecg.ecg_format.LEADS`.
        findings: Sentences about the quality of the signal.
    """

    ecg: Float32[np.ndarray, "12 5000"]
    findings: tuple[str, ...]


class EcgSource(Protocol):
    """A sequence of ECGs."""

    @property
    def records(self) -> Sequence[int | str]:
        """Id or path of each record."""

    @property
    def threads(self) -> int:
        """Recommended number of records to read concurrently."""

    def read(self, position: int) -> DecodedEcg:
        """Read the record at a position; raise UnreadableRecord if it cannot be used."""


@dataclass(frozen=True)
class WfdbPaths:
    """WFDB records given by their paths.

    Attributes:
        records: Paths without suffix.
        options: Options for short records and missing leads.
        threads: Number of records to read concurrently.
    """

    records: tuple[str, ...]
    options: DecodeOptions
    threads: int = 1

    @classmethod
    def find(cls, paths: Iterable[str | Path], options: DecodeOptions) -> "WfdbPaths":
        """List the records at paths, without reading them.

        Args:
            paths: Records, with or without ``.hea`` or ``.dat``, or directories, whose records at
                any depth are listed, without hidden files and folders.
            options: Options for short records and missing leads.

        Returns:
            The records in the order of `paths`, each once.

        Raises:
            UserError: A directory contains no record, cannot be read, or contains a record with an
                invalid name or two headers.
        """
        records = dict.fromkeys(record for path in paths for record in _expand(Path(path)))
        return cls(tuple(records), options)

    def read(self, position: int) -> DecodedEcg:
        """Read a record; see `EcgSource.read`."""
        _check_header(Path(self.records[position]))
        signals = read_leads(self.records[position], options=self.options)
        return _with_findings(to_ecg(signals, self.options), signals, self.options)


@dataclass(frozen=True)
class DatasetRecords:
    """Records of a data set.

    Attributes:
        dataset: The data set.
        rows: Row of each record in the data set's index.
        options: Options with which the data set decodes records.
    """

    dataset: Dataset
    rows: tuple[int, ...]
    options: DecodeOptions

    @classmethod
    def select(
        cls,
        dataset: Dataset,
        options: DecodeOptions,
        *,
        ids: Sequence[str | int] = (),
        records_file: str | Path | None = None,
        limit: int | None = None,
    ) -> "DatasetRecords":
        """Select records.

        Args:
            dataset: The data set.
            options: Options with which the data set decodes records.
            ids: Ids of the records; if given, `records_file` is ignored. Duplicates are removed.
            records_file: File of record ids; see `read_record_ids`. Without `ids` and
                `records_file`, all records are selected.
            limit: Maximum number of records. Default: no limit.

        Returns:
            The records; in the order of `ids` if they are given, otherwise in the order of the
            index.

        Raises:
            UserError: An id is not in the data set, or the file is invalid.
        """
        index = dataset.index().record_id
        if not ids:
            selected = select_records(index, limit=limit, records=records_file)
            return cls(dataset, tuple(np.flatnonzero(np.isin(index, selected)).tolist()), options)
        rows = dict.fromkeys(_find_rows(index, ids, dataset.namespace))
        return cls(dataset, tuple(rows)[:limit], options)

    @property
    def records(self) -> Sequence[int | str]:
        """Id of each record."""
        ids: list[int | str] = self.dataset.index().record_id[list(self.rows)].tolist()
        return ids

    @property
    def threads(self) -> int:
        """Recommended number of records to read concurrently."""
        threads: int = getattr(self.dataset, "threads", 1)
        return threads

    def read(self, position: int) -> DecodedEcg:
        """Read a record; see `EcgSource.read`."""
        row = self.rows[position]
        # Do not derive the ECG from `read_leads`: a data set from another package may decode
        # differently in `read`, and the experts must get the result of `read`.
        return _with_findings(self.dataset.read(row), self.dataset.read_leads(row), self.options)


def _with_findings(
    ecg: Float32[np.ndarray, "12 5000"], signals: LeadSignals, options: DecodeOptions
) -> DecodedEcg:
    return DecodedEcg(ecg, tuple(finding.detail for finding in examine(signals, options)))


def _check_header(record: Path) -> None:
    """Raise UnreadableRecord if there is no header, which may mean that the path is wrong."""
    header, *others = (record.with_name(record.name + suffix) for suffix in _HEADER_SUFFIXES)
    try:
        if any(path.exists() for path in (header, *others)):
            return
    except OSError:
        # `read_leads` raises an error with the reason.
        return
    if record.exists():
        detail = f"{record} is not a WFDB record; pass a {HEADER_SUFFIX} file."
    else:
        detail = (
            f"{header} does not exist, and {record} is not a folder; correct the path, or copy the "
            "header to this path."
        )
    raise UnreadableRecord("missing_file", detail)


def _expand(path: Path) -> Iterator[str]:
    """Yield the records of a path."""
    # Unlike `Path.is_dir`, `os.path.isdir` does not raise for a name that is too long.
    if not os.path.isdir(path):  # noqa: PTH112
        yield str(path.with_suffix("") if path.suffix.lower() in _SUFFIXES else path)
        return
    found = find_records(path)
    if not found:
        raise UserError(
            f"{path} contains no WFDB record (no {HEADER_SUFFIX} file in it or below); pass the "
            "folder of the records."
        )
    yield from (str(path / record) for record in found)


def _find_rows(index: RecordIds, ids: Sequence[str | int], namespace: str) -> list[int]:
    """Return the rows of record ids; raise UserError if an id is not in the data set."""
    texts = [str(record) for record in ids]
    if is_text(index):
        texts = match_ids(texts, index).tolist()
    rows = {str(known): row for row, known in enumerate(index.tolist())}
    for record, text in zip(ids, texts, strict=True):
        if text not in rows:
            raise UserError(
                f"{namespace} has no record {record}; pass ids such as {index[0]}, or omit "
                "--dataset and pass paths of WFDB records."
            )
    return [rows[text] for text in texts]
