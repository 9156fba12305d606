"""The potassium nearest an ECG: one pass over the lab table, reduced to the best row of each ECG.

What is kept is as long as the list of ECGs, however long the table is: for each ECG the best result
so far, and for each patient whether there is any. A pass over a part of the table gives a
`PartialResults`; they merge to the same bits in any order, for a tie goes to the earlier row.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float64, Int64

from enecg.errors import UserError
from pipeline.datasets.absence_reasons import first_reason
from pipeline.datasets.label_rules import PLAUSIBLE_POTASSIUM_MMOL_L, Criterion, LabelRules
from pipeline.datasets.mimic_tables.abnormality import (
    choose_criterion,
    classify_results,
    criterion_columns,
)
from pipeline.datasets.mimic_tables.csv_blocks import CsvPart, SkippedRows, read_blocks
from pipeline.datasets.mimic_tables.fields import (
    ParsedColumn,
    parse_integers,
    parse_numbers,
    parse_times,
)

RESULT_COLUMNS = ("subject_id", "itemid", "charttime", "valuenum")

_PATIENT_STRIDE = 1 << 40
"""Seconds between patients on the line of all ECGs: the years 1000 to 9999 take 2^39."""

_BEFORE_1970 = 1 << 38
"""Added to seconds since 1970, so that a patient's own are never below 0."""

_RESULTS_AT_ONCE = 2048
"""Each stands beside every ECG of its patient in the window, which may be hundreds."""

_MOST_PATIENTS = 1 << 22
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class EcgTimes:
    """All ECGs that have a time on one line, patient after patient, each patient's by time.

    `patients` (P,) ids in order; `at` (E,) places on the line, in order; `row` (E,) their places in
    the record list, `records` its length.
    """

    patients: Int64[np.ndarray, " patient"]
    at: Int64[np.ndarray, " ecg"]
    row: Int64[np.ndarray, " ecg"]
    records: int

    @classmethod
    def of(cls, records: pd.DataFrame) -> "EcgTimes":
        """The ECGs of `read_records`."""
        patients, whose = np.unique(records["patient_id"].to_numpy(np.int64), return_inverse=True)
        if len(patients) > _MOST_PATIENTS:
            raise UserError(
                f"{len(patients)} patients are more than the {_MOST_PATIENTS} that labels are made "
                "for; label the data set in parts."
            )
        timed = np.flatnonzero(records["ecg_time"].notna())
        time = records["ecg_time"].to_numpy("datetime64[s]")[timed].astype(np.int64)
        at = _on_the_line(whose[timed], time)
        order = np.argsort(at, kind="stable")
        return cls(patients, at[order], timed[order], len(records))


def _on_the_line(
    patient: Int64[np.ndarray, " row"], seconds: Int64[np.ndarray, " row"]
) -> Int64[np.ndarray, " row"]:
    at: Int64[np.ndarray, " row"] = patient * _PATIENT_STRIDE + _BEFORE_1970 + seconds
    return at


@dataclass(frozen=True)
class PartialResults:
    """What a part of the table says: of the ECGs `ecg` (places on the line) the best result.

    `away` seconds from the ECG; `place` of the row in the whole table; `value` in mmol/L, and
    whether it is `abnormal` (1, 0, or NaN as `classify_results` has it). `patients`: places of
    those with any result. `rows`: how many were read for it.
    """

    ecg: Int64[np.ndarray, " found"]
    away: Int64[np.ndarray, " found"]
    place: Int64[np.ndarray, " found"]
    value: Float64[np.ndarray, " found"]
    abnormal: Float64[np.ndarray, " found"]
    patients: Int64[np.ndarray, " patient"]
    rows: int
    skipped: SkippedRows


class BestResults:
    """The best result of every ECG so far."""

    def __init__(self, ecgs: EcgTimes) -> None:
        self.ecgs = ecgs
        self.away = np.full(len(ecgs.at), _NEVER)
        self.place = np.full(len(ecgs.at), _NEVER)
        self.value = np.full(len(ecgs.at), np.nan)
        self.abnormal = np.full(len(ecgs.at), np.nan)
        self.any_result = np.zeros(len(ecgs.patients), bool)
        self.rows = 0
        self.skipped = SkippedRows()

    def take(self, part: PartialResults) -> None:
        """Keep what is better: nearer to its ECG, or as near and earlier in the table."""
        order = np.lexsort((part.place, part.away, part.ecg))
        ecg, first = np.unique(part.ecg[order], return_index=True)
        chosen = order[first]
        away, place = part.away[chosen], part.place[chosen]
        nearer = away < self.away[ecg]
        better = nearer | ((away == self.away[ecg]) & (place < self.place[ecg]))
        ecg, chosen = ecg[better], chosen[better]
        self.away[ecg], self.place[ecg] = away[better], place[better]
        self.value[ecg], self.abnormal[ecg] = part.value[chosen], part.abnormal[chosen]
        self.any_result[part.patients] = True
        self.rows += part.rows
        self.skipped.update(part.skipped)

    def partial(self) -> PartialResults:
        """All that is known, as what another may take."""
        ecg = np.flatnonzero(self.away < _NEVER)
        return PartialResults(
            ecg,
            self.away[ecg],
            self.place[ecg],
            self.value[ecg],
            self.abnormal[ecg],
            np.flatnonzero(self.any_result),
            self.rows,
            self.skipped,
        )


def reduce_part(
    path: Path,
    ecgs: EcgTimes,
    rules: LabelRules,
    part: CsvPart | None = None,
    progress: Callable[[int], None] | None = None,
) -> PartialResults:
    """Read the lab table, or a part of it, once. Raises UserError as `blocks` does."""
    criterion = choose_criterion(path, rules)
    best, skipped = BestResults(ecgs), SkippedRows()
    # Rows are numbered within their part, and parts come one after the other.
    place = (part.number if part is not None else 0) << 40
    columns = (*RESULT_COLUMNS, *criterion_columns(criterion))
    for block in read_blocks(path, columns, skipped, part=part, progress=progress):
        for partial in _reduce_block(block, place, path.name, ecgs, rules, criterion, skipped):
            best.take(partial)
        best.rows += len(block)
        place += len(block)
    best.skipped.update(skipped)
    return best.partial()


def merge_potassium(
    ecgs: EcgTimes, parts: Iterable[PartialResults]
) -> tuple[pd.DataFrame, SkippedRows]:
    """`potassium` (1 abnormal, 0 normal) and `potassium_mmol_l` of each record.

    The result that the rules name decides: where it is implausible there is no label, and where
    its flag is unknown its value alone.
    """
    best = BestResults(ecgs)
    for part in parts:
        best.take(part)
    value, abnormal = np.full((2, ecgs.records), np.nan)
    value[ecgs.row], abnormal[ecgs.row] = best.value, best.abnormal
    lowest, highest = PLAUSIBLE_POTASSIUM_MMOL_L
    plausible = (value >= lowest) & (value <= highest)
    timed, none_at_all = np.zeros((2, ecgs.records), bool)
    timed[ecgs.row] = True
    none_at_all[ecgs.row] = ~best.any_result[ecgs.at // _PATIENT_STRIDE]
    labels = pd.DataFrame(
        {
            "potassium": np.where(plausible, abnormal, np.nan),
            "potassium_mmol_l": np.where(plausible, value, np.nan),
            "potassium_absent": first_reason(
                "potassium",
                (~timed, "no_ecg_time"),
                (none_at_all, "no_result"),
                (np.isnan(value), "none_in_window"),
                (~plausible, "implausible"),
                (np.isnan(abnormal), "unknown_flag"),
            ),
        }
    )
    return labels, best.skipped


def _reduce_block(
    block: pa.RecordBatch,
    place: int,
    name: str,
    ecgs: EcgTimes,
    rules: LabelRules,
    criterion: Criterion,
    skipped: SkippedRows,
) -> Iterator[PartialResults]:
    """The results of a block, some at a time."""
    item = parse_integers(block["itemid"])
    skipped[f"{name}: rows whose itemid cannot be read, left out"] += item.unreadable
    mine = np.flatnonzero(item.known & np.isin(item.values, rules.potassium_items))
    for first in range(0, len(mine), _RESULTS_AT_ONCE):
        some = mine[first : first + _RESULTS_AT_ONCE]
        results = block.take(pa.array(some))
        yield _beside_ecgs(results, place + some, name, ecgs, rules, criterion, skipped)


def _beside_ecgs(
    results: pa.RecordBatch,
    places: Int64[np.ndarray, " result"],
    name: str,
    ecgs: EcgTimes,
    rules: LabelRules,
    criterion: Criterion,
    skipped: SkippedRows,
) -> PartialResults:
    """Results, each beside every ECG in whose window it is."""
    subject = _counted(parse_integers(results["subject_id"]), "subject_id", name, skipped)
    time = _counted(parse_times(results["charttime"]), "charttime", name, skipped)
    value = _counted(parse_numbers(results["valuenum"]), "valuenum", name, skipped)
    empty = int((~value.known).sum()) - value.unreadable
    skipped[f"{name}: potassium rows without a valuenum, passed over for the next"] += empty
    patient = np.searchsorted(ecgs.patients, subject.values)
    patient[patient == len(ecgs.patients)] = 0
    ours = subject.known & time.known & value.known
    ours &= len(ecgs.patients) > 0
    ours[ours] = ecgs.patients[patient[ours]] == subject.values[ours]
    kept = np.flatnonzero(ours)
    patient = patient[kept]
    at = _on_the_line(patient, time.values[kept])
    window = rules.window_seconds
    after = window if rules.match == "nearest" else 0
    low = np.searchsorted(ecgs.at, at - window, side="left")
    high = np.searchsorted(ecgs.at, at + after, side="right")
    # A result stands once for every ECG between low and high.
    count = high - low
    result = np.repeat(np.arange(len(kept)), count)
    ecg = np.arange(len(result)) - np.repeat(np.cumsum(count) - count, count) + low[result]
    abnormal = classify_results(results.take(pa.array(kept)), value.values[kept], rules, criterion)
    return PartialResults(
        ecg=ecg,
        away=np.abs(at[result] - ecgs.at[ecg]),
        place=places[kept[result]],
        value=value.values[kept[result]],
        abnormal=abnormal[result],
        patients=np.unique(patient),
        rows=0,
        skipped=SkippedRows(),
    )


def _counted(parsed: ParsedColumn, column: str, name: str, skipped: SkippedRows) -> ParsedColumn:
    if parsed.unreadable:
        skipped[f"{name}: potassium rows whose {column} cannot be read, left out"] += (
            parsed.unreadable
        )
    return parsed
