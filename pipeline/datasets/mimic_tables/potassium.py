"""The potassium result that labels each ECG, found in one pass over the lab table.

Memory depends on the number of ECGs, not on the length of the table: the best result so far of each
ECG, and whether each patient has any result. A pass over a part of the table gives
`PartialResults`. These merge to the same bits in any order, as ties go to the earlier row.
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
"""Seconds between patients on the common time axis; the years 1000 to 9999 take 2^39."""

_EPOCH_OFFSET = 1 << 38
"""Added to seconds since 1970, so that times before 1970 are not negative."""

_RESULTS_PER_STEP = 2048
"""Limits memory: each result is paired with every ECG of its patient in the window."""

_MAX_PATIENTS = 1 << 22
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class EcgTimes:
    """All ECGs with a time, on one axis: patient after patient, sorted by time within each.

    Attributes:
        patients: (patient,) sorted patient ids.
        at: (ecg,) sorted positions on the axis.
        row: (ecg,) row of each ECG in the record list.
        records: Length of the record list.
    """

    patients: Int64[np.ndarray, " patient"]
    at: Int64[np.ndarray, " ecg"]
    row: Int64[np.ndarray, " ecg"]
    records: int

    @classmethod
    def of(cls, records: pd.DataFrame) -> "EcgTimes":
        """Return the times of the ECGs of `read_records`.

        Args:
            records: Result of `read_records`.

        Returns:
            The times.

        Raises:
            UserError: There are more than 4,194,304 patients.
        """
        patients, patient = np.unique(records["patient_id"].to_numpy(np.int64), return_inverse=True)
        if len(patients) > _MAX_PATIENTS:
            raise UserError(
                f"The data set has {len(patients)} patients, but at most {_MAX_PATIENTS} are "
                "supported; label it in parts."
            )
        timed = np.flatnonzero(records["ecg_time"].notna())
        time = records["ecg_time"].to_numpy("datetime64[s]")[timed].astype(np.int64)
        at = _to_axis(patient[timed], time)
        order = np.argsort(at, kind="stable")
        return cls(patients, at[order], timed[order], len(records))


def _to_axis(
    patient: Int64[np.ndarray, " row"], seconds: Int64[np.ndarray, " row"]
) -> Int64[np.ndarray, " row"]:
    at: Int64[np.ndarray, " row"] = patient * _PATIENT_STRIDE + _EPOCH_OFFSET + seconds
    return at


@dataclass(frozen=True)
class PartialResults:
    """The results for ECGs that a part of the lab table contains.

    Attributes:
        ecg: (found,) index into `EcgTimes.at`.
        distance: (found,) seconds between result and ECG.
        place: (found,) position of the row in the whole table.
        value: (found,) potassium, mmol/L.
        abnormal: (found,) 1, 0 or NaN, as from `classify_results`.
        patients: (patient,) indices of the patients with any result.
        rows: Number of rows read.
        skipped: Number of rows skipped, by description.
    """

    ecg: Int64[np.ndarray, " found"]
    distance: Int64[np.ndarray, " found"]
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
        self.distance = np.full(len(ecgs.at), _NEVER)
        self.place = np.full(len(ecgs.at), _NEVER)
        self.value = np.full(len(ecgs.at), np.nan)
        self.abnormal = np.full(len(ecgs.at), np.nan)
        self.any_result = np.zeros(len(ecgs.patients), bool)
        self.rows = 0
        self.skipped = SkippedRows()

    def update(self, part: PartialResults) -> None:
        """Keep the results that are nearer to their ECG, or as near and earlier in the table."""
        order = np.lexsort((part.place, part.distance, part.ecg))
        ecg, first = np.unique(part.ecg[order], return_index=True)
        chosen = order[first]
        distance, place = part.distance[chosen], part.place[chosen]
        tied = distance == self.distance[ecg]
        better = (distance < self.distance[ecg]) | (tied & (place < self.place[ecg]))
        ecg, chosen = ecg[better], chosen[better]
        self.distance[ecg], self.place[ecg] = distance[better], place[better]
        self.value[ecg], self.abnormal[ecg] = part.value[chosen], part.abnormal[chosen]
        self.any_result[part.patients] = True
        self.rows += part.rows
        self.skipped.update(part.skipped)

    def to_partial(self) -> PartialResults:
        """Return the results for merging with those of other parts."""
        ecg = np.flatnonzero(self.distance < _NEVER)
        return PartialResults(
            ecg,
            self.distance[ecg],
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
    """Read the lab table, or a part of it, and keep the best result of each ECG.

    A damaged table raises UserError, as in `read_blocks`.

    Args:
        path: `labevents.csv`, plain or gzipped.
        ecgs: The ECGs.
        rules: Which results are used.
        part: The part to read. None: the whole table.
        progress: Called with the position in the file, in bytes.

    Returns:
        The best results in this part.
    """
    criterion = choose_criterion(path, rules)
    best, skipped = BestResults(ecgs), SkippedRows()
    # Rows are numbered within their part; later parts have larger numbers.
    place = (part.number if part is not None else 0) << 40
    columns = (*RESULT_COLUMNS, *criterion_columns(criterion))
    for block in read_blocks(path, columns, skipped, part=part, progress=progress):
        for partial in _reduce_block(block, place, path.name, ecgs, rules, criterion, skipped):
            best.update(partial)
        best.rows += len(block)
        place += len(block)
    best.skipped.update(skipped)
    return best.to_partial()


def merge_potassium(
    ecgs: EcgTimes, parts: Iterable[PartialResults]
) -> tuple[pd.DataFrame, SkippedRows]:
    """Merge the results of all parts into labels.

    Only the result selected by the rules counts: if it is implausible there is no label; if its
    flag is unknown there is only a value.

    Args:
        ecgs: The ECGs.
        parts: The results of each part of the lab table, in any order.

    Returns:
        One row per record: `potassium` (1 abnormal, 0 normal), `potassium_mmol_l` and the reasons
        for absence; and the number of rows skipped.
    """
    best = BestResults(ecgs)
    for part in parts:
        best.update(part)
    value, abnormal = np.full((2, ecgs.records), np.nan)
    value[ecgs.row], abnormal[ecgs.row] = best.value, best.abnormal
    lowest, highest = PLAUSIBLE_POTASSIUM_MMOL_L
    plausible = (value >= lowest) & (value <= highest)
    timed, no_result = np.zeros((2, ecgs.records), bool)
    timed[ecgs.row] = True
    no_result[ecgs.row] = ~best.any_result[ecgs.at // _PATIENT_STRIDE]
    labels = pd.DataFrame(
        {
            "potassium": np.where(plausible, abnormal, np.nan),
            "potassium_mmol_l": np.where(plausible, value, np.nan),
            "potassium_absent": first_reason(
                "potassium",
                (~timed, "no_ecg_time"),
                (no_result, "no_result"),
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
    """Select a block's potassium rows and pair them with ECGs, some rows at a time."""
    item = parse_integers(block["itemid"])
    skipped[f"{name}: rows whose itemid is unreadable, skipped"] += item.unreadable
    selected = np.flatnonzero(item.known & np.isin(item.values, rules.potassium_items))
    for first in range(0, len(selected), _RESULTS_PER_STEP):
        rows = selected[first : first + _RESULTS_PER_STEP]
        results = block.take(pa.array(rows))
        yield _pair_with_ecgs(results, place + rows, name, ecgs, rules, criterion, skipped)


def _pair_with_ecgs(
    results: pa.RecordBatch,
    places: Int64[np.ndarray, " result"],
    name: str,
    ecgs: EcgTimes,
    rules: LabelRules,
    criterion: Criterion,
    skipped: SkippedRows,
) -> PartialResults:
    """Pair each result with every ECG of its patient whose window contains it."""
    subject = _count(parse_integers(results["subject_id"]), "subject_id", name, skipped)
    time = _count(parse_times(results["charttime"]), "charttime", name, skipped)
    value = _count(parse_numbers(results["valuenum"]), "valuenum", name, skipped)
    empty = int((~value.known).sum()) - value.unreadable
    skipped[f"{name}: potassium rows without valuenum, skipped"] += empty
    patient = np.searchsorted(ecgs.patients, subject.values)
    patient[patient == len(ecgs.patients)] = 0
    ours = subject.known & time.known & value.known
    ours &= len(ecgs.patients) > 0
    ours[ours] = ecgs.patients[patient[ours]] == subject.values[ours]
    kept = np.flatnonzero(ours)
    patient = patient[kept]
    at = _to_axis(patient, time.values[kept])
    window = rules.window_seconds
    after = window if rules.match == "nearest" else 0
    low = np.searchsorted(ecgs.at, at - window, side="left")
    high = np.searchsorted(ecgs.at, at + after, side="right")
    # Repeat each result for every ECG from low to high.
    count = high - low
    result = np.repeat(np.arange(len(kept)), count)
    ecg = np.arange(len(result)) - np.repeat(np.cumsum(count) - count, count) + low[result]
    abnormal = classify_results(results.take(pa.array(kept)), value.values[kept], rules, criterion)
    return PartialResults(
        ecg=ecg,
        distance=np.abs(at[result] - ecgs.at[ecg]),
        place=places[kept[result]],
        value=value.values[kept[result]],
        abnormal=abnormal[result],
        patients=np.unique(patient),
        rows=0,
        skipped=SkippedRows(),
    )


def _count(parsed: ParsedColumn, column: str, name: str, skipped: SkippedRows) -> ParsedColumn:
    if parsed.unreadable:
        key = f"{name}: potassium rows whose {column} is unreadable, skipped"
        skipped[key] += parsed.unreadable
    return parsed
