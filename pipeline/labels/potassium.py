"""The potassium nearest an ECG: one pass over the lab table, reduced to the best row of each ECG.

What is kept is as long as the list of ECGs, however long the table is: for each ECG the best result
so far, and for each patient whether there is any. A pass over a part of the table gives a
`Partial`; partials merge to the same bits in any order, for a tie goes to the row that comes first.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Int64

from enecg.errors import UserError
from pipeline.labels.parsing import Parsed, numbers, seconds, text, whole_numbers
from pipeline.labels.reasons import absent
from pipeline.labels.rules import Criterion, LabelRules
from pipeline.labels.tables import Part, Skipped, blocks, read_header

RESULT_COLUMNS = ("subject_id", "itemid", "charttime", "valuenum")
RANGE_COLUMNS = ("ref_range_lower", "ref_range_upper")

_PATIENT_STRIDE = 1 << 40
"""Seconds between patients on the line of all ECGs: the years 1000 to 9999 take 2^39."""

_BEFORE_1970 = 1 << 38
"""Added to seconds since 1970, so that a patient's own are never below 0."""

_RESULTS_AT_ONCE = 2048
"""Each stands beside every ECG of its patient in the window, which may be hundreds."""

_MOST_PATIENTS = 1 << 22
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Ecgs:
    """All ECGs that have a time on one line, patient after patient, each patient's by time.

    `patients` (P,) ids in order; `at` (E,) places on the line, in order; `row` (E,) their places in
    the record list, `records` its length.
    """

    patients: Int64[np.ndarray, " patient"]
    at: Int64[np.ndarray, " ecg"]
    row: Int64[np.ndarray, " ecg"]
    records: int

    @classmethod
    def of(cls, records: pd.DataFrame) -> "Ecgs":
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
class Partial:
    """What a part of the table says: of the ECGs `ecg` (places on the line) the best result.

    `away` seconds from the ECG; `place` of the row in the whole table; `value` in mmol/L, and
    whether it is `abnormal`. `patients`: places of those with any result. `rows`: how many were
    read for it.
    """

    ecg: Int64[np.ndarray, " found"]
    away: Int64[np.ndarray, " found"]
    place: Int64[np.ndarray, " found"]
    value: Float64[np.ndarray, " found"]
    abnormal: Bool[np.ndarray, " found"]
    patients: Int64[np.ndarray, " patient"]
    rows: int
    skipped: Skipped


class Best:
    """The best result of every ECG so far."""

    def __init__(self, ecgs: Ecgs) -> None:
        self.ecgs = ecgs
        self.away = np.full(len(ecgs.at), _NEVER)
        self.place = np.full(len(ecgs.at), _NEVER)
        self.value = np.full(len(ecgs.at), np.nan)
        self.abnormal = np.zeros(len(ecgs.at), bool)
        self.any_result = np.zeros(len(ecgs.patients), bool)
        self.rows = 0
        self.skipped = Skipped()

    def take(self, part: Partial) -> None:
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

    def partial(self) -> Partial:
        """All that is known, as what another may take."""
        ecg = np.flatnonzero(self.away < _NEVER)
        return Partial(
            ecg,
            self.away[ecg],
            self.place[ecg],
            self.value[ecg],
            self.abnormal[ecg],
            np.flatnonzero(self.any_result),
            self.rows,
            self.skipped,
        )


def choose_criterion(path: Path, rules: LabelRules) -> Criterion:
    """What tells an abnormal result: as the rules say, or the first that the table has.

    Raises UserError where the table lacks the columns that the rules ask for.
    """
    header = read_header(path)
    has = {
        "flag": "flag" in header.names,
        "range": set(RANGE_COLUMNS) <= set(header.names),
        "thresholds": True,
    }
    if rules.abnormal is None:
        return "flag" if has["flag"] else "range" if has["range"] else "thresholds"
    if not has[rules.abnormal]:
        raise UserError(
            f"{path} has no column {' or '.join(_columns_of(rules.abnormal))}, by which --abnormal "
            f"{rules.abnormal} tells; leave the option out, or give --abnormal thresholds."
        )
    return rules.abnormal


def reduce_part(
    path: Path,
    ecgs: Ecgs,
    rules: LabelRules,
    part: Part | None = None,
    progress: Callable[[int], None] | None = None,
) -> Partial:
    """Read the lab table, or a part of it, once. Raises UserError as `blocks` does."""
    criterion = choose_criterion(path, rules)
    best, skipped = Best(ecgs), Skipped()
    # Rows are numbered within their part, and parts come one after the other.
    place = (part.number if part is not None else 0) << 40
    columns = (*RESULT_COLUMNS, *_columns_of(criterion))
    for block in blocks(path, columns, skipped, part=part, progress=progress):
        for partial in _reduce_block(block, place, path.name, ecgs, rules, criterion):
            best.take(partial)
        best.rows += len(block)
        place += len(block)
    best.skipped.update(skipped)
    return best.partial()


def potassium_labels(ecgs: Ecgs, parts: Iterable[Partial]) -> tuple[pd.DataFrame, Skipped]:
    """`potassium` (1 abnormal, 0 normal) and `potassium_mmol_l` of each record."""
    best = Best(ecgs)
    for part in parts:
        best.take(part)
    found = best.away < _NEVER
    value, abnormal = np.full((2, ecgs.records), np.nan)
    value[ecgs.row] = best.value
    abnormal[ecgs.row[found]] = best.abnormal[found]
    timed, none_at_all = np.zeros((2, ecgs.records), bool)
    timed[ecgs.row] = True
    none_at_all[ecgs.row] = ~best.any_result[ecgs.at // _PATIENT_STRIDE]
    labels = pd.DataFrame(
        {
            "potassium": abnormal,
            "potassium_mmol_l": value,
            "potassium_absent": absent(
                "potassium",
                (~timed, "no_ecg_time"),
                (none_at_all, "no_result"),
                (np.isnan(value), "none_in_window"),
            ),
        }
    )
    return labels, best.skipped


def _columns_of(criterion: Criterion) -> tuple[str, ...]:
    return {"flag": ("flag",), "range": RANGE_COLUMNS, "thresholds": ()}[criterion]


def _reduce_block(
    block: pa.RecordBatch,
    place: int,
    name: str,
    ecgs: Ecgs,
    rules: LabelRules,
    criterion: Criterion,
) -> Iterator[Partial]:
    """The results of a block, some at a time."""
    items = pa.array(
        [form.encode() for item in rules.potassium_items for form in (f"{item}", f"{item}.0")]
    )
    mine = pc.indices_nonzero(pc.is_in(block["itemid"], value_set=items))
    for first in range(0, len(mine), _RESULTS_AT_ONCE):
        some = mine.slice(first, _RESULTS_AT_ONCE)
        places = place + some.to_numpy().astype(np.int64)
        yield _beside_ecgs(block.take(some), places, name, ecgs, rules, criterion)


def _beside_ecgs(
    results: pa.RecordBatch,
    places: Int64[np.ndarray, " result"],
    name: str,
    ecgs: Ecgs,
    rules: LabelRules,
    criterion: Criterion,
) -> Partial:
    """Results, each beside every ECG in whose window it is."""
    skipped = Skipped()
    subject = _counted(whole_numbers(results["subject_id"]), "subject_id", name, skipped)
    time = _counted(seconds(results["charttime"]), "charttime", name, skipped)
    value = _counted(numbers(results["valuenum"]), "valuenum", name, skipped)
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
    abnormal = _abnormal(results.take(pa.array(kept)), value.values[kept], rules, criterion)
    return Partial(
        ecg=ecg,
        away=np.abs(at[result] - ecgs.at[ecg]),
        place=places[kept[result]],
        value=value.values[kept[result]],
        abnormal=abnormal[result],
        patients=np.unique(patient),
        rows=0,
        skipped=skipped,
    )


def _counted(parsed: Parsed, column: str, name: str, skipped: Skipped) -> Parsed:
    if parsed.unreadable:
        skipped[f"{name}: potassium rows whose {column} cannot be read, left out"] += (
            parsed.unreadable
        )
    return parsed


def _abnormal(
    results: pa.RecordBatch,
    value: Float64[np.ndarray, " result"],
    rules: LabelRules,
    criterion: Criterion,
) -> Bool[np.ndarray, " result"]:
    """Which potassium results are out of range."""
    if criterion == "flag":
        flagged = pc.not_equal(text(results["flag"]), "")
        return np.asarray(pc.fill_null(flagged, False).to_numpy(zero_copy_only=False))
    low = np.full(len(value), rules.potassium_low)
    high = np.full(len(value), rules.potassium_high)
    if criterion == "range":
        lower, upper = (numbers(results[column]) for column in RANGE_COLUMNS)
        low = np.where(lower.known, lower.values, low)
        high = np.where(upper.known, upper.values, high)
    return (value < low) | (value > high)
