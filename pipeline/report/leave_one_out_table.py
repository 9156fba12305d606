"""Table of EnECG without each of its experts."""

import math

from pipeline.evaluation.predictions import ENSEMBLE, WITHOUT
from pipeline.report.difference_table import MEASURED, MINUS, column_headings, format_difference
from pipeline.report.table import (
    Table,
    find_measure,
    format_measure,
    method_label,
    score_columns,
)
from pipeline.runs.results import RunResults

TITLE = f"Leave one out: {ENSEMBLE} without each of its experts"


def list_left_out(run: RunResults) -> list[str]:
    """Return the methods of a run that are EnECG without an expert."""
    return [method for method in run.methods if method.startswith(WITHOUT)]


def leave_one_out_table(run: RunResults) -> Table:
    """Build a table with EnECG and EnECG without each expert in rows.

    Args:
        run: Results of a run with `WITHOUT` methods.

    Returns:
        One column per task and metric. The first row has the score of EnECG with its interval. The
        other rows have the mean score of EnECG without an expert, and the paired difference.
    """
    columns = score_columns(run)
    differences = {
        (difference.reference, difference.task, difference.metric): difference
        for difference in run.differences
    }
    full = (
        format_measure(find_measure(run, ENSEMBLE, task, metric)) for task, metric, _ in columns
    )
    rows = [(method_label(ENSEMBLE, run), *full)]
    for method in list_left_out(run):
        cells = []
        for task, metric, _ in columns:
            measure = find_measure(run, method, task, metric)
            score = format_measure(measure).partition(" ")[0]
            difference = differences.get((method, task.name, metric))
            defined = difference is not None and not math.isnan(difference.mean)
            cells.append(f"{score}; {format_difference(difference)}" if defined else score)
        rows.append((method_label(method, run), *cells))
    note = (
        f"Leave one out: score of {ENSEMBLE} without the expert; {ENSEMBLE} {MINUS} {ENSEMBLE} "
        f"without the expert: {MEASURED} show that the expert helps. The gate and its prior are "
        "trained again on the heads of the other experts."
    )
    return Table(TITLE, ("", *column_headings(run)), tuple(rows), notes=(note,))
