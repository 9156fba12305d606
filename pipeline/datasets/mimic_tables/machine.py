"""The ECG machine's measurements: RR interval and diagnosis of each record."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64

from enecg.errors import UserError
from pipeline.datasets.absence_reasons import first_reason
from pipeline.datasets.label_rules import PLAUSIBLE_RR_MS, LabelRules
from pipeline.datasets.mimic_tables.csv_blocks import SkippedRows, read_blocks, read_header
from pipeline.datasets.mimic_tables.fields import parse_integers, parse_numbers, parse_text
from pipeline.mimic_codes import REPORT_LINES, UNMEASURED


def read_machine_labels(
    path: Path,
    records: pd.DataFrame,
    rules: LabelRules,
    skipped: SkippedRows,
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Read RR interval and diagnosis from `machine_measurements.csv`.

    Rows whose `subject_id` differs from the record's patient are skipped. If a study is listed
    twice, the first row is used. A table that cannot be read or lacks a column, such as the
    selected report line, raises UserError.

    Args:
        path: The table, plain or gzipped.
        records: Result of `read_records`.
        rules: Selects the report lines.
        skipped: Updated with the number of rows skipped, by description.
        progress: Called with the position in the file, in bytes.

    Returns:
        One row per record: `rr_interval` (ms), `diagnosis`, and their reasons for absence.
    """
    reports = _report_columns(path, rules)
    subject = ["subject_id"] if "subject_id" in read_header(path).names else []
    studies = _Studies.of(records)
    rr = np.full(len(records), np.nan)
    unreadable = np.zeros(len(records), bool)
    diagnoses = _Categories(len(records))
    columns = ("study_id", "rr_interval", *subject, *reports)
    for batch in read_blocks(path, columns, skipped, progress=progress):
        row, place = studies.match(batch, path, skipped)
        measured = parse_numbers(batch["rr_interval"].take(place))
        skipped[f"{path.name}: rows whose rr_interval is not a number"] += measured.unreadable
        rr[row] = measured.values
        filled = pc.is_valid(batch["rr_interval"].take(place)).to_numpy(zero_copy_only=False)
        unreadable[row] = filled & ~measured.known
        diagnoses.put(row, _diagnose([batch[name].take(place) for name in reports], rules))
    lowest, highest = PLAUSIBLE_RR_MS
    plausible = (rr >= lowest) & (rr <= highest)
    diagnosis = diagnoses.column()
    unmatched = (
        (~studies.listed & ~studies.other_patient, "not_listed"),
        (~studies.listed, "other_patient"),
    )
    return pd.DataFrame(
        {
            "rr_interval": np.where(plausible, rr, np.nan),
            "rr_interval_absent": first_reason(
                "rr_interval",
                *unmatched,
                (unreadable, "unreadable"),
                (np.isnan(rr) | (rr == UNMEASURED), "not_measured"),
                (~plausible, "implausible"),
            ),
            "diagnosis": diagnosis,
            "diagnosis_absent": first_reason(
                "diagnosis", *unmatched, (diagnosis.isna().to_numpy(), "no_report")
            ),
        }
    )


def normalize_report(lines: pa.Array) -> pa.Array:
    """Collapse whitespace and strip final punctuation; null where nothing remains."""
    text = pc.replace_substring_regex(lines, r"\s+", " ")
    text = pc.replace_substring_regex(text, r"[\s.,;:]+$", "")
    text = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def _report_columns(path: Path, rules: LabelRules) -> list[str]:
    available = read_header(path).names
    every = rules.report in ("first", "all")
    wanted = [f"report_{number}" for number in (range(REPORT_LINES) if every else [rules.report])]
    found = [name for name in wanted if name in available]
    if not found:
        raise UserError(
            f"{path} has no column {wanted[0]}; download it again or select another report line."
        )
    return found


@dataclass(frozen=True)
class _Studies:
    """The records by study id.

    Attributes:
        index: Study id of each record.
        patient: Patient of each record.
        listed: Whether a row for this record has been read.
        other_patient: Whether a row for this record with another patient has been read.
    """

    index: "pd.Index[int]"
    patient: Int64[np.ndarray, " record"]
    listed: Bool[np.ndarray, " record"]
    other_patient: Bool[np.ndarray, " record"]

    @classmethod
    def of(cls, records: pd.DataFrame) -> "_Studies":
        none = np.zeros(len(records), bool)
        patient = records["patient_id"].to_numpy(np.int64)
        return cls(pd.Index(records["record_id"]), patient, none, none.copy())

    def match(
        self, batch: pa.RecordBatch, path: Path, skipped: SkippedRows
    ) -> tuple[Int64[np.ndarray, " found"], Int64[np.ndarray, " found"]]:
        """Return the records first listed in a block and their rows in it; mark them listed."""
        ids = parse_integers(batch["study_id"])
        skipped[f"{path.name}: rows whose study_id is not an integer, skipped"] += int(
            (~ids.known).sum()
        )
        row = np.where(ids.known, self.index.get_indexer(pd.Index(ids.values)), -1)
        if "subject_id" in batch.schema.names:
            subject = parse_integers(batch["subject_id"])
            other = (row >= 0) & subject.known & (subject.values != self.patient[row])
            skipped[f"{path.name}: rows whose subject_id differs from the record's, skipped"] += (
                int(other.sum())
            )
            self.other_patient[row[other]] = True
            row = np.where(other, -1, row)
        known = np.flatnonzero(row >= 0)
        found, first = np.unique(row[known], return_index=True)
        new = ~self.listed[found]
        skipped[f"{path.name}: repeated rows of a study, skipped"] += len(known) - int(new.sum())
        self.listed[found[new]] = True
        return found[new], known[first[new]]


def _diagnose(reports: list[pa.Array], rules: LabelRules) -> pa.Array:
    lines = [_normalize_distinct(report) for report in reports]
    if rules.report != "all":
        return pc.coalesce(*lines)
    joined = lines[0]
    for line in lines[1:]:
        # Joining all lines at once with null_handling="skip" loses rows in pyarrow 26.
        both = pc.binary_join_element_wise(joined, line, "; ")
        joined = pc.coalesce(both, joined, line)
    return joined


def _normalize_distinct(report: pa.Array) -> pa.Array:
    # There are only a few hundred distinct sentences.
    encoded = report.dictionary_encode()
    return normalize_report(parse_text(encoded.dictionary)).take(encoded.indices)


class _Categories:
    """A column of text with few distinct values."""

    def __init__(self, size: int) -> None:
        self.code = np.full(size, -1, np.int32)
        self.words: dict[str, int] = {}

    def put(self, row: Int64[np.ndarray, " found"], words: pa.Array) -> None:
        encoded = words.dictionary_encode()
        codes = [
            self.words.setdefault(word, len(self.words)) for word in encoded.dictionary.to_pylist()
        ]
        place = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
        self.code[row] = np.array([*codes, -1], np.int32)[place]

    def column(self) -> pd.Series:
        codes = pa.array(self.code, mask=self.code < 0)
        words = pa.array(self.words, pa.string())
        return pd.Series(words.take(codes).to_pandas(), dtype="string")
