"""What a label is: the choices that a lab may make otherwise, each with its default."""

from dataclasses import dataclass
from typing import Literal

from enecg.errors import UserError

POTASSIUM_ITEMS = (50971, 50822)
"""MIMIC-IV `d_labitems`: potassium in blood by chemistry, and in whole blood by blood gas."""

NORMAL_POTASSIUM_MMOL_L = (3.5, 5.1)
"""What is normal where neither the laboratory nor the table says so."""

PLAUSIBLE_POTASSIUM_MMOL_L = (1.0, 20.0)
"""Twice as wide as what ion-selective electrodes are made to measure in serum, some 1.5 to 10:
haemolysis has its place in it, and -1 or 999999, which stand for something else, have not."""

ABNORMAL_FLAG = "abnormal"
"""The one word that MIMIC-IV's `labevents` has in `flag`; nothing there means normal."""

PLAUSIBLE_AGE_YEARS = (0, 120)
"""Nobody was younger, and one person known was older. Outside it there is no label."""

PLAUSIBLE_RR_MS = (200, 3000)
"""300 to 20 beats a minute. Outside it there is no label."""

UNMEASURED = 29999
"""MIMIC-IV-ECG's word, in any column of measurements, for what the machine could not measure."""

REPORT_LINES = 18
"""`report_0` to `report_17` in `machine_measurements.csv`."""

_LARGEST_ITEM = 10**18 - 1
"""The most digits that a table's whole numbers are read with."""

_LONGEST_WINDOW_HOURS = 24 * 365.0

Match = Literal["first", "nearest"]
Criterion = Literal["flag", "range", "thresholds"]


@dataclass(frozen=True)
class LabelRules:
    """How the labels are taken out of the tables.

    Potassium is a result of `potassium_items` in the window: by `match` the `first` that was
    charted in [ECG, ECG + `window_hours`], or the `nearest` in [ECG - `window_hours`,
    ECG + `window_hours`]; of two alike the row that the table has first. It is abnormal by
    `abnormal`: the laboratory's `flag`; the row's own reference `range`, and where a row has none
    the thresholds; or outside `potassium_low` to `potassium_high` mmol/L (`thresholds`). None: the
    first of the three that the table has columns for.

    `report`: which line of the machine's report is the diagnosis: the `first` that is not empty,
    `all` of them joined by `; `, or one by its number, `0` to `17`.

    Raises UserError where a choice is none.
    """

    window_hours: float = 1.0
    match: Match = "first"
    potassium_items: tuple[int, ...] = POTASSIUM_ITEMS
    abnormal: Criterion | None = None
    potassium_low: float = NORMAL_POTASSIUM_MMOL_L[0]
    potassium_high: float = NORMAL_POTASSIUM_MMOL_L[1]
    report: str = "first"

    def __post_init__(self) -> None:
        if not 0 < self.window_hours <= _LONGEST_WINDOW_HOURS:
            raise UserError(
                f"The window is {self.window_hours:g} hours; give more than 0 and at most "
                f"{_LONGEST_WINDOW_HOURS:g}, a year."
            )
        if self.match not in ("first", "nearest"):
            raise UserError(f"There is no match {self.match!r}; write first or nearest.")
        if not self.potassium_items:
            raise UserError(
                "No potassium items are given; name itemids of MIMIC-IV's d_labitems, such as "
                "50971,50822."
            )
        if not all(0 < item <= _LARGEST_ITEM for item in self.potassium_items):
            raise UserError(
                f"The potassium items are not all from 1 to {_LARGEST_ITEM:,}; give itemids of "
                "MIMIC-IV's d_labitems, such as 50971,50822."
            )
        if self.abnormal not in (None, "flag", "range", "thresholds"):
            raise UserError(
                f"Abnormal cannot be told by {self.abnormal!r}; write flag, range or thresholds."
            )
        if not 0 <= self.potassium_low < self.potassium_high:
            raise UserError(
                f"Potassium cannot be normal from {self.potassium_low:g} to "
                f"{self.potassium_high:g} mmol/L; give a low limit below the high one."
            )
        lines = {str(number) for number in range(REPORT_LINES)}
        if self.report not in {"first", "all"} | lines:
            raise UserError(
                f"There is no report line {self.report!r}; write first, all, or a number from 0 "
                f"to {REPORT_LINES - 1}."
            )

    @property
    def window_seconds(self) -> int:
        """The window, to the second as the tables have it."""
        return round(self.window_hours * 3600)

    def window(self) -> str:
        """Where a result is looked for, in words."""
        if self.match == "first":
            return f"the first result in [ECG, ECG + {self.window_hours:g} h]"
        return f"the result nearest to the ECG within {self.window_hours:g} h of it"

    def criterion(self, used: Criterion) -> str:
        """What made a result abnormal, in words."""
        limits = f"{self.potassium_low:g} to {self.potassium_high:g} mmol/L"
        return {
            "flag": "the laboratory's flag",
            "range": f"the row's own reference range, or {limits} where it has none",
            "thresholds": f"the thresholds {limits}",
        }[used]
