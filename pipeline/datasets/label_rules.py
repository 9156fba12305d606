"""Rules for deriving labels from MIMIC's tables, with their defaults."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from enecg.errors import UserError
from pipeline.mimic_codes import NORMAL_POTASSIUM_MMOL_L, POTASSIUM_ITEMS, REPORT_LINES

NON_DIAGNOSTIC = (
    "data quality",
    "poor quality",
    "interpretation may be",
    "unsuitable for analysis",
    "please repeat",
    "leads are missing",
    "analysis error",
    "measurement error",
    "lead reversal",
    "external noise",
    "pediatric criteria",
    "pediatric ecg",
    "report made without",
    "age not entered",
    "unconfirmed",
)
"""Report lines that contain one of these phrases, in upper or lower case, are not diagnoses."""

FIRST_LINE_SKIPPED = "reports whose first line was skipped, because it is not a diagnosis"
"""Description of these reports in the counts of skipped rows."""

_MAX_ITEM = 2**53 - 1
"""Largest item id. `mimic_tables.potassium` compares item ids as DOUBLE, in which larger integers
can be equal to their neighbors."""

_MAX_WINDOW_HOURS = 24 * 365.0

Match = Literal["first", "nearest"]
Criterion = Literal["range", "flag", "thresholds"]


@dataclass(frozen=True)
class LabelRules:
    """Rules for labels from MIMIC's tables.

    Attributes:
        window_hours: Maximum hours between an ECG and its potassium result, in (0, 8760].
        match: ``"first"`` selects the earliest result in [ECG, ECG + window]; ``"nearest"`` selects
            the result nearest to the ECG in [ECG - window, ECG + window]. Ties are resolved by the
            order of the table.
        potassium_items: Item ids of potassium in MIMIC-IV's `d_labitems`.
        abnormal: Criterion for an abnormal result. ``"range"``: outside the row's reference range,
            in which the thresholds replace missing limits; ``"flag"``: the laboratory's flag;
            ``"thresholds"``: outside `potassium_low` to `potassium_high`. None selects the first of
            these criteria whose columns exist.
        potassium_low: Lowest normal value in mmol/L.
        potassium_high: Highest normal value in mmol/L.
        report: Report lines to use as the diagnosis: ``"first"`` (the first line that is not
            skipped), ``"all"`` (all lines that are not skipped, joined by ``"; "``), or the number
            of a line from ``"0"`` to ``"17"`` (no diagnosis if it is skipped).
        skip_lines: Phrases. Report lines that contain one, in upper or lower case, are skipped.

    Raises:
        UserError: A value is out of range or unknown.
    """

    window_hours: float = 1.0
    match: Match = "first"
    potassium_items: tuple[int, ...] = POTASSIUM_ITEMS
    abnormal: Criterion | None = None
    potassium_low: float = NORMAL_POTASSIUM_MMOL_L[0]
    potassium_high: float = NORMAL_POTASSIUM_MMOL_L[1]
    report: str = "first"
    skip_lines: tuple[str, ...] = NON_DIAGNOSTIC

    def __post_init__(self) -> None:
        if not 0 < self.window_hours <= _MAX_WINDOW_HOURS:
            raise UserError(
                f"The potassium window is {self.window_hours:g} hours; it must be more than 0 and "
                f"at most {_MAX_WINDOW_HOURS:g} (a year)."
            )
        if self.match not in ("first", "nearest"):
            raise UserError(f"Unknown match {self.match!r}; use first or nearest.")
        if not self.potassium_items:
            raise UserError(
                "No potassium items are given; list item ids of MIMIC-IV's d_labitems, such as "
                "50971,50822."
            )
        if not all(0 < item <= _MAX_ITEM for item in self.potassium_items):
            raise UserError(
                f"Potassium items must be between 1 and {_MAX_ITEM:,}; use item ids of MIMIC-IV's "
                "d_labitems, such as 50971,50822."
            )
        if self.abnormal not in (None, "flag", "range", "thresholds"):
            raise UserError(
                f"Unknown criterion {self.abnormal!r} for abnormal potassium; use range, flag or "
                "thresholds."
            )
        if not 0 <= self.potassium_low < self.potassium_high:
            raise UserError(
                f"The normal potassium range {self.potassium_low:g} to {self.potassium_high:g} "
                "mmol/L is empty or negative; the low limit must be at least 0 and below the high "
                "limit."
            )
        lines = {str(number) for number in range(REPORT_LINES)}
        if self.report not in {"first", "all"} | lines:
            raise UserError(
                f"Unknown report line {self.report!r}; use first, all, or a number from 0 to "
                f"{REPORT_LINES - 1}."
            )

    @property
    def window_seconds(self) -> int:
        """The window in whole seconds, the resolution of the tables."""
        return round(self.window_hours * 3600)

    def describe_window(self) -> str:
        """Describe which potassium result is used, as part of a sentence."""
        if self.match == "first":
            return f"the first result in [ECG, ECG + {self.window_hours:g} h]"
        return f"the result nearest to the ECG within {self.window_hours:g} h"

    def describe_criterion(self, used: Criterion) -> str:
        """Describe when a result is abnormal, as part of a sentence.

        Args:
            used: The criterion that is used. It differs from `abnormal` only if `abnormal` is None.

        Returns:
            The description.
        """
        limits = f"{self.potassium_low:g} to {self.potassium_high:g} mmol/L"
        return {
            "flag": "the laboratory's flag",
            "range": f"the row's reference range, with {limits} for missing limits",
            "thresholds": f"the thresholds {limits}",
        }[used]


def read_phrases(path: Path) -> tuple[str, ...]:
    """Read a list of phrases for `LabelRules.skip_lines`.

    Args:
        path: Text file in UTF-8 with one phrase per line. Empty lines are ignored.

    Returns:
        The phrases.

    Raises:
        UserError: The file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read as a list of phrases ({error}); pass a text file in UTF-8 "
            "with one phrase per line."
        ) from error
    return tuple(line.strip() for line in lines if line.strip())
