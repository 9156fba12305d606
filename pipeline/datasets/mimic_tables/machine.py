"""What the ECG machine says of a record: the RR interval, and its diagnosis in its own words."""

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
    """`rr_interval` (ms) and `diagnosis` of each record, out of `machine_measurements.csv`.

    `records` as `read_records` gives them. A row whose `subject_id`, where the table has that
    column, is another than the record's is not used, and of a study that is listed twice the first
    row is. Raises UserError as `blocks` does, and where the report line asked for is no column.
    """
    reports = _reports(path, rules)
    whose = ["subject_id"] if "subject_id" in read_header(path).names else []
    studies = _Studies.of(records)
    rr = np.full(len(records), np.nan)
    unreadable = np.zeros(len(records), bool)
    diagnoses = _Words(len(records))
    columns = ("study_id", "rr_interval", *whose, *reports)
    for batch in read_blocks(path, columns, skipped, progress=progress):
        row, place = studies.first_of_each(batch, path, skipped)
        measured = parse_numbers(batch["rr_interval"].take(place))
        skipped[f"{path.name}: rows whose rr_interval is no number"] += measured.unreadable
        rr[row] = measured.values
        said = pc.is_valid(batch["rr_interval"].take(place)).to_numpy(zero_copy_only=False)
        unreadable[row] = said & ~measured.known
        diagnoses.put(row, _diagnosis([batch[name].take(place) for name in reports], rules))
    lowest, highest = PLAUSIBLE_RR_MS
    plausible = (rr >= lowest) & (rr <= highest)
    diagnosis = diagnoses.column()
    nowhere = (
        (~studies.listed & ~studies.other_patient, "not_listed"),
        (~studies.listed, "other_patient"),
    )
    return pd.DataFrame(
        {
            "rr_interval": np.where(plausible, rr, np.nan),
            "rr_interval_absent": first_reason(
                "rr_interval",
                *nowhere,
                (unreadable, "unreadable"),
                (np.isnan(rr) | (rr == UNMEASURED), "not_measured"),
                (~plausible, "implausible"),
            ),
            "diagnosis": diagnosis,
            "diagnosis_absent": first_reason(
                "diagnosis", *nowhere, (diagnosis.isna().to_numpy(), "no_report")
            ),
        }
    )


def normalize_report(lines: pa.Array) -> pa.Array:
    """Report lines with single spaces and no punctuation at the end; null where nothing is left."""
    tidy = pc.replace_substring_regex(lines, r"\s+", " ")
    tidy = pc.replace_substring_regex(tidy, r"[\s.,;:]+$", "")
    tidy = pc.utf8_trim_whitespace(tidy)
    return pc.if_else(pc.equal(tidy, ""), pa.scalar(None, pa.string()), tidy)


def _reports(path: Path, rules: LabelRules) -> list[str]:
    """The columns of report lines that the rules ask for, by number."""
    there = read_header(path).names
    every = rules.report in ("first", "all")
    asked = [f"report_{number}" for number in (range(REPORT_LINES) if every else [rules.report])]
    found = [name for name in asked if name in there]
    if not found:
        raise UserError(
            f"{path} is no table of MIMIC's (it has no column {asked[0]}); copy it again, or ask "
            "for another report line."
        )
    return found


@dataclass(frozen=True)
class _Studies:
    """The records by study: which are `listed` so far, and which as an `other_patient`'s."""

    index: "pd.Index[int]"
    patient: Int64[np.ndarray, " record"]
    listed: Bool[np.ndarray, " record"]
    other_patient: Bool[np.ndarray, " record"]

    @classmethod
    def of(cls, records: pd.DataFrame) -> "_Studies":
        none = np.zeros(len(records), bool)
        patient = records["patient_id"].to_numpy(np.int64)
        return cls(pd.Index(records["record_id"]), patient, none, none.copy())

    def first_of_each(
        self, batch: pa.RecordBatch, path: Path, skipped: SkippedRows
    ) -> tuple[Int64[np.ndarray, " found"], Int64[np.ndarray, " found"]]:
        """Records that a block lists first, and their places in it; marks them listed."""
        ids = parse_integers(batch["study_id"])
        skipped[f"{path.name}: rows whose study_id is no whole number, left out"] += int(
            (~ids.known).sum()
        )
        row = np.where(ids.known, self.index.get_indexer(pd.Index(ids.values)), -1)
        if "subject_id" in batch.schema.names:
            subject = parse_integers(batch["subject_id"])
            other = (row >= 0) & subject.known & (subject.values != self.patient[row])
            skipped[f"{path.name}: rows of another patient than the record's, left out"] += int(
                other.sum()
            )
            self.other_patient[row[other]] = True
            row = np.where(other, -1, row)
        known = np.flatnonzero(row >= 0)
        found, first = np.unique(row[known], return_index=True)
        new = ~self.listed[found]
        skipped[f"{path.name}: rows of a study listed before, left out"] += len(known) - int(
            new.sum()
        )
        self.listed[found[new]] = True
        return found[new], known[first[new]]


def _diagnosis(reports: list[pa.Array], rules: LabelRules) -> pa.Array:
    lines = [_tidy(report) for report in reports]
    if rules.report != "all":
        return pc.coalesce(*lines)
    joined = lines[0]
    for line in lines[1:]:
        # Null where one of them is. (Joining all at once, nulls skipped, pyarrow 26 drops rows.)
        both = pc.binary_join_element_wise(joined, line, "; ")
        joined = pc.coalesce(both, joined, line)
    return joined


def _tidy(report: pa.Array) -> pa.Array:
    # The machine has some hundred sentences: each is made tidy once a block.
    encoded = report.dictionary_encode()
    return normalize_report(parse_text(encoded.dictionary)).take(encoded.indices)


class _Words:
    """A column of text in which few words come often: each is kept once."""

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
