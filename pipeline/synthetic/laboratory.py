"""The laboratory of the synthetic hospital: potassium, and rows that must not be taken for it."""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.random import Generator

from pipeline.mimic_codes import (
    ABNORMAL_FLAG,
    POTASSIUM_REFERENCE_MMOL_L,
    POTASSIUM_SERUM_ITEM,
    POTASSIUM_WHOLE_BLOOD_ITEM,
)

ABNORMAL_POTASSIUM = 0.15
"""Part of the potassium results out of range. In MIMIC-IV it is about 3 %, which leaves nothing to
learn from in a demo of some hundred ECGs."""

WITH_POTASSIUM = 0.85
"""Part of the ECGs that have a potassium result within the hour after."""

LAB_COLUMNS = (
    *("labevent_id", "subject_id", "hadm_id", "specimen_id", "itemid", "order_provider_id"),
    *("charttime", "storetime", "value", "valuenum", "valueuom", "ref_range_lower"),
    *("ref_range_upper", "flag", "priority", "comments"),
)
"""The columns of MIMIC-IV's `hosp/labevents.csv`."""

Row = dict[str, Any]


@runtime_checkable
class Tested(Protocol):
    """An ECG as the laboratory sees it: whose, when, and at what potassium (mmol/L)."""

    @property
    def subject_id(self) -> int:
        """Whose blood it is."""

    @property
    def time(self) -> dt.datetime:
        """When the ECG was taken."""

    @property
    def potassium(self) -> float:
        """What the blood holds then, in mmol/L."""


def draw_potassium(rng: Generator) -> float:
    """Serum potassium in mmol/L, out of range in `ABNORMAL_POTASSIUM` of the cases, high or low."""
    which = rng.random() / ABNORMAL_POTASSIUM
    if which < 0.6:
        return float(np.clip(5.5 + rng.gamma(2, 0.45), 5.5, 8.4))
    if which < 1:
        return float(np.clip(3.05 - rng.gamma(2, 0.2), 1.9, 3.05))
    return float(np.clip(rng.normal(4.15, 0.35), 3.4, 5.0))


@dataclass(frozen=True)
class _Item:
    """A laboratory test: MIMIC-IV's itemid, its unit, and its reference range."""

    itemid: int
    unit: str
    low: float
    high: float


_POTASSIUM = _Item(POTASSIUM_SERUM_ITEM, "mEq/L", *POTASSIUM_REFERENCE_MMOL_L)
_POTASSIUM_WHOLE_BLOOD = _Item(POTASSIUM_WHOLE_BLOOD_ITEM, "mEq/L", *POTASSIUM_REFERENCE_MMOL_L)
_OTHERS = (
    _Item(50983, "mEq/L", 133.0, 145.0),  # sodium
    _Item(50912, "mg/dL", 0.5, 1.2),  # creatinine
    _Item(51097, "mEq/L", 12.0, 129.0),  # potassium, urine
)


def lab_events(ecgs: Sequence[Tested], seed: int) -> Iterator[Row]:
    """The rows of `labevents.csv`, in order of time within a patient: for most ECGs the potassium
    they were taken at, charted within the hour, and rows that must not be taken for it."""
    rng = np.random.default_rng([seed, 4])
    rows: list[Row] = []

    def chart(ecg: Tested, item: _Item, minutes: float, value: float | None) -> None:
        time = ecg.time + dt.timedelta(seconds=int(minutes * 60))
        shown = None if value is None else round(value, 1)
        out = shown is not None and not item.low <= shown <= item.high
        rows.append(
            {
                "subject_id": ecg.subject_id,
                "specimen_id": int(rng.integers(10**7, 10**8)),
                "itemid": item.itemid,
                "charttime": time,
                "storetime": time + dt.timedelta(minutes=int(rng.integers(5, 120))),
                "value": "___" if shown is None else f"{shown:g}",
                "valuenum": shown,
                "valueuom": item.unit,
                "ref_range_lower": item.low,
                "ref_range_upper": item.high,
                "flag": ABNORMAL_FLAG if out else None,
                "priority": str(rng.choice(["STAT", "ROUTINE"])),
                "comments": "HEMOLYZED, RESULTS NOT REPORTED." if shown is None else None,
            }
        )

    def other_value(item: _Item) -> float:
        return float(rng.normal((item.low + item.high) / 2, (item.high - item.low) / 3))

    for ecg in ecgs:
        item = _POTASSIUM if rng.random() < 0.75 else _POTASSIUM_WHOLE_BLOOD
        if rng.random() < WITH_POTASSIUM:
            minutes = rng.uniform(5, 59)
            chart(ecg, item, minutes, ecg.potassium)
            if rng.random() < 0.15:  # a sample that could not be used, first
                chart(ecg, item, minutes * rng.uniform(0.1, 0.9), None)
            if rng.random() < 0.1:  # a second one, after treatment
                chart(ecg, item, rng.uniform(minutes + 0.5, 60), draw_potassium(rng))
        if rng.random() < 0.3:
            chart(ecg, item, -rng.uniform(1, 90), draw_potassium(rng))
        if rng.random() < 0.3:
            chart(ecg, item, rng.uniform(61, 170), draw_potassium(rng))
        for other in _OTHERS:
            if rng.random() < 0.5:
                chart(ecg, other, rng.uniform(0, 59), abs(other_value(other)))
    rows.sort(key=lambda row: (row["subject_id"], row["charttime"]))
    for number, row in enumerate(rows, start=1):
        yield {"labevent_id": number, **row}
