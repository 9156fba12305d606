"""Plausible ranges of known label columns, and suspicious values in other columns."""

from collections import Counter

import numpy as np
import pandas as pd

from pipeline.datasets.label_columns import count_missing

_AXIS_DEGREES = (-180, 180)
_ONSET_MS = (0, 3000)

PLAUSIBLE = {
    # 300 to 20 beats per minute.
    "rr_interval": (200, 3000),
    "age": (0, 120),
    # Ion-selective electrodes measure about 1.5 to 10 mmol/L in serum. The wider limits keep
    # hemolyzed samples and exclude placeholders such as -1 and 999999.
    "potassium_mmol_l": (1.0, 20.0),
    **dict.fromkeys(("p_axis", "qrs_axis", "t_axis"), _AXIS_DEGREES),
    **dict.fromkeys(("p_onset", "p_end", "qrs_onset", "qrs_end", "t_end"), _ONSET_MS),
    "heart_rate": (20, 300),
    "pr_interval": (40, 1000),
    "qrs_duration": (20, 400),
    **dict.fromkeys(("qt_interval", "qtc_interval"), (100, 1200)),
}
"""Lowest and highest plausible value by column; other values are treated as missing.

RR interval, onsets, ends, intervals and durations are in ms, ages in years, axes in degrees and
heart rates in beats per minute. The ranges exclude the codes of ECG machines for "not measured":
29999, 65535, 32767, -32768, and 0 for an RR interval.
"""

AGE_OVER_89 = 90.0
"""Age in years that is assigned to every patient over 89, because de-identified sources do not
state the exact age."""

PTB_XL_OVER_89 = 300.0
"""PTB-XL's code for an age over 89."""

MAX_GAP = 2.0
"""Maximum gap in `find_suspicious_values`, relative to the range of the values accepted so far."""

MIN_DISTINCT = 5
"""Minimum number of distinct values. With fewer, no value is suspicious."""


def remove_implausible(
    name: str, numbers: pd.Series, source: str, counts: Counter[str]
) -> pd.Series:
    """Remove values outside the column's plausible range, and replace ages over 89.

    Args:
        name: Name of the column; columns that are not in `PLAUSIBLE` are not changed.
        numbers: The column as float64 by record id; NaN for missing values.
        source: Name of the table, for descriptions.
        counts: Updated with the number of removed or replaced values, keyed by description.

    Returns:
        The column, with NaN for missing and implausible values.
    """
    if name not in PLAUSIBLE:
        return numbers
    low, high = PLAUSIBLE[name]
    if name == "age":
        # An age such as 89.5 is not over 89 in whole years, so it is kept.
        over_89 = numbers.between(AGE_OVER_89, high) | (numbers == PTB_XL_OVER_89)
        numbers = numbers.mask(over_89, AGE_OVER_89)
        if over_89.any():
            counts[f"{source}: ages over 89, set to {AGE_OVER_89:g}"] += int(over_89.sum())
    outside = numbers.notna() & ~numbers.between(low, high)
    seconds = outside & (name == "rr_interval") & numbers.between(low / 1000, high / 1000)
    for selected, kind in (
        (seconds, f"from {low / 1000:g} to {high / 1000:g}, which look like seconds instead of ms"),
        (outside & ~seconds, f"outside {low:g} to {high:g}"),
    ):
        count_missing(counts, selected, numbers, f"{source}: values of {name} {kind}")
    return numbers.mask(outside)


def find_suspicious_values(numbers: pd.Series) -> dict[float, int]:
    """Find values far outside the rest of a column, such as codes for missing values.

    The middle half of the distinct values is accepted first, then the next value outward as
    long as its gap to the accepted values is at most `MAX_GAP` times their range.

    Args:
        numbers: The column as float64; NaN for missing values.

    Returns:
        The values that are not accepted, in ascending order, with the number of occurrences.
    """
    distinct, occurrences = np.unique(numbers.dropna().to_numpy(np.float64), return_counts=True)
    if len(distinct) < MIN_DISTINCT:
        return {}
    first, last = (len(distinct) - 1) // 4, 3 * (len(distinct) - 1) // 4
    while True:
        limit = MAX_GAP * (distinct[last] - distinct[first])
        if first > 0 and distinct[first] - distinct[first - 1] <= limit:
            first -= 1
        elif last + 1 < len(distinct) and distinct[last + 1] - distinct[last] <= limit:
            last += 1
        else:
            break
    outside = [*range(first), *range(last + 1, len(distinct))]
    return {float(distinct[position]): int(occurrences[position]) for position in outside}
