"""Laboratory results of synthetic patients, in the format of MIMIC-IV's `hosp/labevents.csv`."""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.mimic_codes import (
    ABNORMAL_FLAG,
    POTASSIUM_REFERENCE_MMOL_L,
    POTASSIUM_SERUM_ITEM,
    POTASSIUM_WHOLE_BLOOD_ITEM,
)
from pipeline.synthetic.population import PlannedEcg, draw_potassium

WITH_POTASSIUM = 0.85
"""Probability that an ECG is followed by a result of its potassium concentration within an hour."""

LAB_COLUMNS = (
    *("labevent_id", "subject_id", "hadm_id", "specimen_id", "itemid", "order_provider_id"),
    *("charttime", "storetime", "value", "valuenum", "valueuom", "ref_range_lower"),
    *("ref_range_upper", "flag", "priority", "comments"),
)
"""Columns of `labevents.csv`."""

Row = dict[str, Any]


@dataclass(frozen=True)
class _Item:
    """A laboratory test.

    Attributes:
        itemid: MIMIC-IV item id.
        unit: Unit of the results.
        low: Lower end of the reference range.
        high: Upper end of the reference range.
    """

    itemid: int
    unit: str
    low: float
    high: float


_SERUM = _Item(POTASSIUM_SERUM_ITEM, "mEq/L", *POTASSIUM_REFERENCE_MMOL_L)
_WHOLE_BLOOD = _Item(POTASSIUM_WHOLE_BLOOD_ITEM, "mEq/L", *POTASSIUM_REFERENCE_MMOL_L)
_OTHER_ITEMS = (
    _Item(50983, "mEq/L", 133.0, 145.0),  # sodium
    _Item(50912, "mg/dL", 0.5, 1.2),  # creatinine
    _Item(51097, "mEq/L", 12.0, 129.0),  # potassium, urine
)


def lab_events(ecgs: Sequence[PlannedEcg], seed: int) -> Iterator[Row]:
    """Generate the rows of `labevents.csv`, sorted by patient and time.

    Most ECGs are followed by a result of their potassium concentration within an hour. The other
    rows must not be used as labels: later or earlier results, other tests, and missing results.

    Args:
        ecgs: ECGs of all patients.
        seed: Seed of the data set.

    Yields:
        One row at a time, as values by column name; columns without a key are empty.
    """
    rng = np.random.default_rng([seed, 4])
    rows: list[Row] = []

    def add_row(ecg: PlannedEcg, item: _Item, minutes: float, value: float | None) -> None:
        time = ecg.time + dt.timedelta(seconds=int(minutes * 60))
        rounded = None if value is None else round(value, 1)
        abnormal = rounded is not None and not item.low <= rounded <= item.high
        rows.append(
            {
                "subject_id": ecg.subject_id,
                "specimen_id": int(rng.integers(10**7, 10**8)),
                "itemid": item.itemid,
                "charttime": time,
                "storetime": time + dt.timedelta(minutes=int(rng.integers(5, 120))),
                "value": "___" if rounded is None else f"{rounded:g}",
                "valuenum": rounded,
                "valueuom": item.unit,
                "ref_range_lower": item.low,
                "ref_range_upper": item.high,
                "flag": ABNORMAL_FLAG if abnormal else None,
                "priority": str(rng.choice(["STAT", "ROUTINE"])),
                "comments": "HEMOLYZED, RESULTS NOT REPORTED." if rounded is None else None,
            }
        )

    for ecg in ecgs:
        item = _SERUM if rng.random() < 0.75 else _WHOLE_BLOOD
        if rng.random() < WITH_POTASSIUM:
            minutes = rng.uniform(5, 59)
            add_row(ecg, item, minutes, ecg.potassium_mmol_l)
            if rng.random() < 0.15:  # an earlier, unusable specimen
                add_row(ecg, item, minutes * rng.uniform(0.1, 0.9), None)
            if rng.random() < 0.1:  # a second result, after treatment
                add_row(ecg, item, rng.uniform(minutes + 0.5, 60), draw_potassium(rng))
        if rng.random() < 0.3:
            add_row(ecg, item, -rng.uniform(1, 90), draw_potassium(rng))
        if rng.random() < 0.3:
            add_row(ecg, item, rng.uniform(61, 170), draw_potassium(rng))
        for other in _OTHER_ITEMS:
            if rng.random() < 0.5:
                minutes, middle = rng.uniform(0, 59), (other.low + other.high) / 2
                add_row(ecg, other, minutes, abs(rng.normal(middle, (other.high - other.low) / 3)))
    rows.sort(key=lambda row: (row["subject_id"], row["charttime"]))
    for number, row in enumerate(rows, start=1):
        yield {"labevent_id": number, **row}
