"""Table of paired differences between EnECG and other methods."""

import math
from collections import Counter

from pipeline.evaluation.differences import Difference
from pipeline.evaluation.predictions import ENSEMBLE, RIDGE
from pipeline.report.table import (
    NOT_APPLICABLE,
    UNDEFINED,
    Table,
    score_columns,
    score_heading,
)
from pipeline.runs.results import RunResults

TITLE = f"Differences: {ENSEMBLE} minus methods that are chosen on validation patients"
MINUS = "−"


def difference_table(run: RunResults) -> Table:
    """Build a table with one row per comparison and one column per task and metric.

    Args:
        run: Results of a run.

    Returns:
        Mean difference with its interval, and the name of the other method.
    """
    by_key = {
        (difference.reference, difference.task, difference.metric): difference
        for difference in run.differences
    }
    columns = score_columns(run)
    rows = []
    for reference in dict.fromkeys(difference.reference for difference in run.differences):
        cells = (
            format_difference(by_key.get((reference, task.name, metric)), named=reference != RIDGE)
            for task, metric, _ in columns
        )
        rows.append((f"{ENSEMBLE} {MINUS} {reference}", *cells))
    heading = (
        score_heading(task) if metric == task.metric_name else f"{task.title}, {metric} ↑"
        for task, metric, _ in columns
    )
    note = (
        "Differences: mean over repeats [95% interval of the paired difference, both methods on "
        "the same bootstrap draws of patients]. Negative values of errors (↓) and positive values "
        "of scores (↑) are better. Best expert and best other ensemble: the one with the lowest "
        "validation loss in each repeat."
    )
    return Table(TITLE, ("", *heading), tuple(rows), notes=(note,))


def format_difference(difference: Difference | None, *, named: bool = False) -> str:
    """Format a difference as ``mean [low, high]``.

    Args:
        difference: The difference; None if it was not computed.
        named: Whether to append the names of the methods that were chosen for comparison.

    Returns:
        Text of a table cell.
    """
    if difference is None:
        return NOT_APPLICABLE
    if math.isnan(difference.mean):
        return UNDEFINED
    digits = 1 if abs(difference.mean) >= 5 else 2 if abs(difference.mean) >= 1 else 3
    low, high = (_sign(value, digits) for value in (difference.low, difference.high))
    text = f"{_sign(difference.mean, digits)} [{low}, {high}]"
    if not named:
        return text
    counts = Counter(difference.chosen)
    names = (
        f"{name} {count}/{len(difference.chosen)}" if len(counts) > 1 else name
        for name, count in counts.most_common()
    )
    return f"{text}; {', '.join(names)}"


def _sign(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", MINUS)
