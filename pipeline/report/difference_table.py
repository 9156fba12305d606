"""Tables of paired differences: EnECG minus other methods, and experts minus random weights."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from pipeline.evaluation.differences import Difference
from pipeline.evaluation.predictions import ENSEMBLE, RANDOM, RIDGE, WITHOUT
from pipeline.report.table import (
    NOT_APPLICABLE,
    UNDEFINED,
    Table,
    method_label,
    score_columns,
    score_heading,
)
from pipeline.runs.results import RunResults

TITLE = f"Differences: {ENSEMBLE} minus methods that are chosen on validation patients"
RANDOM_TITLE = "Differences: experts minus the same experts with random weights"
MINUS = "−"

MEASURED = (
    "mean over repeats [95% interval of the paired difference, both methods on the same bootstrap "
    "draws of patients]. Negative values of errors (↓) and positive values of scores (↑)"
)
"""Beginning of the notes that explain differences."""


def enecg_differences(run: RunResults) -> list[Difference]:
    """Return the differences between EnECG and methods that are chosen on validation patients."""
    return [
        difference
        for difference in run.differences
        if difference.method == ENSEMBLE and not difference.reference.startswith(WITHOUT)
    ]


def difference_table(run: RunResults) -> Table:
    """Build a table with one row per comparison and one column per task and metric.

    Args:
        run: Results of a run.

    Returns:
        Mean difference with its interval and, except for ridge regression, the names of the methods
        that were chosen in the repeats.
    """
    by_reference: dict[str, list[Difference]] = {}
    for difference in enecg_differences(run):
        by_reference.setdefault(difference.reference, []).append(difference)
    rows = [
        (
            f"{ENSEMBLE} {MINUS} {reference}",
            *_format_row(run, differences, named=reference != RIDGE),
        )
        for reference, differences in by_reference.items()
    ]
    note = (
        f"Differences: {MEASURED} are better. Best expert and best other ensemble: the one with "
        "the lowest validation loss in each repeat."
    )
    return Table(TITLE, ("", *column_headings(run)), tuple(rows), notes=(note,))


def random_weights_table(run: RunResults) -> Table:
    """Build a table of the differences between experts and the same experts with random weights.

    Args:
        run: Results of a run with random baselines.

    Returns:
        A table with one row per expert and one column per task and metric.
    """
    rows = [
        (
            f"{expert} {MINUS} {method_label(RANDOM + expert, run)}",
            *_format_row(
                run, [difference for difference in run.differences if difference.method == expert]
            ),
        )
        for expert in run.random_baselines
    ]
    note = (
        f"Experts and random weights: {MEASURED} are better. Heads are trained with the same "
        "settings and patients. Experts with random weights are not part of the gate or ensembles."
    )
    return Table(RANDOM_TITLE, ("", *column_headings(run)), tuple(rows), notes=(note,))


def column_headings(run: RunResults) -> list[str]:
    """Return the headings of the columns of `score_columns`."""
    return [
        score_heading(task) if metric == task.metric_name else f"{task.title}, {metric} ↑"
        for task, metric, _ in score_columns(run)
    ]


def _format_row(
    run: RunResults, differences: Sequence[Difference], *, named: bool = False
) -> Iterator[str]:
    """Format the differences of one comparison, one cell per task and metric."""
    by_column = {(difference.task, difference.metric): difference for difference in differences}
    for task, metric, _ in score_columns(run):
        yield format_difference(by_column.get((task.name, metric)), named=named)


def format_difference(difference: Difference | None, *, named: bool = False) -> str:
    """Format a difference as ``mean [low, high]``.

    Args:
        difference: The difference; None if it was not computed.
        named: Whether to append the reference methods that were chosen in the repeats.

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
