"""Check the signals of a data set, and count the records with each finding."""

import csv
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int

from enecg.errors import UserError
from pipeline.datasets.base import Dataset, RecordIndex, decoding_of
from pipeline.report.formats import csv_cell
from pipeline.waveforms.errors import UnreadableRecord
from pipeline.waveforms.quality import (
    DUPLICATE_RECORDING,
    FINDINGS,
    Finding,
    examine,
    make_finding,
)
from pipeline.waveforms.recording_digests import DigestTable, digest_recording

MAX_EXAMPLES = 3
"""Maximum number of record ids kept per finding."""

COLUMNS = ("record_id", "patient_id", "findings", "missing_share", "detail")
"""Columns of the CSV file of flagged records. `findings` are separated by semicolons, and `detail`
has one sentence per finding."""

_READ_AHEAD = 64
"""Maximum number of records that are being read or wait to be counted."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CheckedRecord:
    """The findings on one record.

    Attributes:
        record_id: Record id, an integer or text.
        patient_id: Patient id, an integer or text.
        findings: The findings; empty if there are none.
        missing_share: Share of missing samples, 0 to 1; NaN if the record cannot be read.
        location: Path or URL of the record; empty if it cannot be read.
        digest: Digest of the samples; None if the record cannot be read, or if every lead is
            constant or lacks samples.
        duplicate_of: Id of an earlier record with the same samples; None if there is none.
    """

    record_id: object
    patient_id: object
    findings: tuple[Finding, ...]
    missing_share: float = np.nan
    location: str = ""
    digest: bytes | None = None
    duplicate_of: object = None


@dataclass
class SignalReport:
    """Running counts of findings.

    Attributes:
        records: Number of checked records.
        unreadable: Number of records that an extraction would exclude.
        flagged: Number of records with at least one finding, including unreadable records.
        selected: Number of records with a finding selected by the argument `only` of
            `check_signals`.
        counts: Number of records per finding.
        examples: The first `MAX_EXAMPLES` record ids by finding; duplicates as ``ID = EARLIER_ID``.
        leads: Number of records per finding and lead.
    """

    records: int = 0
    unreadable: int = 0
    flagged: int = 0
    selected: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    leads: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, record: CheckedRecord, only: Collection[str]) -> None:
        """Count a record.

        Args:
            record: The findings on the record.
            only: Reasons of the findings to count in `selected`; empty selects all findings.
        """
        self.records += 1
        self.flagged += bool(record.findings)
        self.selected += any(f.reason in only or not only for f in record.findings)
        self.unreadable += any(f.reason not in FINDINGS for f in record.findings)
        for finding in record.findings:
            self.counts[finding.reason] += 1
            self.leads.setdefault(finding.reason, Counter()).update(finding.leads)
            examples = self.examples.setdefault(finding.reason, [])
            if len(examples) < MAX_EXAMPLES:
                duplicate = finding.reason == DUPLICATE_RECORDING
                earlier = f" = {record.duplicate_of}" if duplicate else ""
                examples.append(f"{record.record_id}{earlier}")

    def percent(self, count: int) -> float:
        """Return `count` as a percentage of all records checked."""
        return 100 * count / max(self.records, 1)


def check_signals(
    dataset: Dataset,
    rows: Int[np.ndarray, " pick"],
    *,
    threads: int = 1,
    out: Path | None = None,
    only: Collection[str] = (),
    progress: Progress | None = None,
) -> SignalReport:
    """Check the signals of the records at the given rows.

    Args:
        dataset: The data set to read.
        rows: Rows of the data set's index.
        threads: Number of records to read in parallel.
        out: CSV file to write, with the columns `COLUMNS` and one row per flagged record. Default:
            none.
        only: Reasons of the findings to count in `selected`; empty selects all findings.
        progress: Called as ``progress(done, total)`` with record counts.

    Returns:
        Counts and examples per finding.

    Raises:
        UserError: The CSV file cannot be written.
    """
    report = SignalReport()
    index, digests = dataset.index(), DigestTable(len(rows))
    with _csv_writer(out) as write:
        for number, record in enumerate(_check_records(dataset, rows, threads)):
            if record.digest is not None:
                earlier = digests.find_or_add(number, record.digest)
                if earlier is not None:
                    record = _mark_duplicate(record, index, int(rows[earlier]))
            report.add(record, only)
            if record.findings:
                write(record)
            if progress is not None:
                progress(report.records, len(rows))
    return report


def _check_records(
    dataset: Dataset, rows: Int[np.ndarray, " pick"], threads: int
) -> Iterator[CheckedRecord]:
    """Read and check the records at the given rows in threads; yield the results in order."""
    index = dataset.index()

    def check_record(row: int) -> CheckedRecord:
        ids = (index.record_id[row], index.patient_id[row])
        try:
            signals = dataset.read_leads(row)
        except UnreadableRecord as error:
            return CheckedRecord(*ids, (Finding(error.reason, detail=error.detail),))
        return CheckedRecord(
            *ids,
            examine(signals, decoding_of(dataset)),
            float(np.isnan(signals.mv).mean()),
            signals.location,
            digest_recording(signals),
        )

    pending: deque[Future[CheckedRecord]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for row in rows.tolist():
            pending.append(pool.submit(check_record, row))
            if len(pending) >= _READ_AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _mark_duplicate(record: CheckedRecord, index: RecordIndex, earlier: int) -> CheckedRecord:
    """Add the finding that the record at row `earlier` has the same samples."""
    other = index.record_id[earlier]
    finding = make_finding(
        DUPLICATE_RECORDING, record.location, record=other, patient=index.patient_id[earlier]
    )
    return replace(record, findings=(*record.findings, finding), duplicate_of=other)


@contextmanager
def _csv_writer(out: Path | None) -> Iterator[Callable[[CheckedRecord], None]]:
    """Yield a function that appends a record to the CSV file `out`, if there is one."""
    if out is None:
        yield lambda record: None
        return
    with _convert_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        file = out.open("w", newline="", encoding="utf-8")
    table = csv.writer(file)

    def write(record: CheckedRecord) -> None:
        findings = "; ".join(map(str, record.findings))
        missing = "" if np.isnan(record.missing_share) else f"{record.missing_share:.4g}"
        detail = " ".join(finding.detail for finding in record.findings)
        fields = (record.record_id, record.patient_id, findings, missing, detail)
        with _convert_errors(out):
            table.writerow([csv_cell(str(field)) for field in fields])

    try:
        table.writerow(COLUMNS)
        yield write
    finally:
        with _convert_errors(out):
            file.close()


@contextmanager
def _convert_errors(out: Path) -> Iterator[None]:
    """Raise OSError as a UserError that names the file `out`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{out} cannot be written ({error.strerror}); choose another --out."
        ) from error
