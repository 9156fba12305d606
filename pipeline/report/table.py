"""Tables of scores: methods in rows, tasks or metrics in columns."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from enecg.metrics import SECONDARY_METRICS
from pipeline.evaluation.predictions import CONSTANT, ZERO_SHOT
from pipeline.evaluation.scores import Measure
from pipeline.runs.results import RunResults, TaskSummary

NOT_APPLICABLE = "–"
UNDEFINED = "undefined"
PARAMETERS = "parameters of heads and gate, trainable / total"


@dataclass(frozen=True)
class Table:
    """A table of strings.

    Attributes:
        title: Title; may be empty.
        heading: One cell per column.
        rows: Rows of cells.
        best: Cells in bold, as (row, column).
        notes: Sentences below the table.
    """

    title: str
    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()
    notes: tuple[str, ...] = ()


def method_label(method: str, run: RunResults) -> str:
    """Return a method's name, marked if its heads or its experts' weights are untrained."""
    if method == CONSTANT:
        return method
    expert = method.removeprefix(ZERO_SHOT)
    if expert in run.weights:
        weights = run.weights[expert]
        marks = ["untrained heads"] if method.startswith(ZERO_SHOT) else []
        marks += [f"untrained, {weights}"] if weights.startswith("random:") else []
        return f"{expert} ({'; '.join(marks)})" if marks else expert
    if run.untrained:
        return f"{method} ({len(run.untrained)} of {len(run.weights)} experts untrained)"
    return method


def score_table(run: RunResults, methods: Sequence[str], title: str) -> Table:
    """Build a table of the main metric of every task.

    Args:
        run: Results of a run.
        methods: Methods in rows.
        title: Title of the table.

    Returns:
        Mean ± SD over repeats with the 95% interval, and numbers of parameters. The last row
        counts test records and patients.
    """
    tasks = list(run.tasks.values())
    scores = [[run.score(method, task.name) for task in tasks] for method in methods]
    rows = [
        (
            method_label(method, run),
            *(format_measure(score) for score in of_method),
            format_parameters(run, method),
        )
        for method, of_method in zip(methods, scores, strict=True)
    ]
    rows.append(
        ("test records (patients)", *(_format_counts(run, task.name) for task in tasks), "")
    )
    best = {
        (_best_row(methods, [row[column] for row in scores], task.higher_is_better), column + 1)
        for column, task in enumerate(tasks)
    }
    heading = ("", *(score_heading(task) for task in tasks), PARAMETERS)
    return Table(title, heading, tuple(rows), frozenset(best))


def other_metrics_table(run: RunResults, methods: Sequence[str], task: TaskSummary) -> Table | None:
    """Build a table of a task's metrics besides the main one.

    Args:
        run: Results of a run.
        methods: Methods in rows.
        task: The task.

    Returns:
        The table; None if the run has no other metrics of this task.
    """
    scores = {method: run.score(method, task.name) for method in methods}
    measures = {
        method: {one.metric: one for one in score.others}
        for method, score in scores.items()
        if score is not None
    }
    metrics = [
        metric
        for metric in SECONDARY_METRICS[task.kind]
        if any(metric.name in by_metric for by_metric in measures.values())
    ]
    if not metrics:
        return None
    columns = [
        [by_metric.get(metric.name) for by_metric in measures.values()] for metric in metrics
    ]
    rows = [
        (method_label(method, run), *(format_measure(column[row]) for column in columns))
        for row, method in enumerate(measures)
    ]
    best = {
        (_best_row(list(measures), column, metric.higher_is_better), place)
        for place, (metric, column) in enumerate(zip(metrics, columns, strict=True), start=1)
    }
    heading = (
        _heading(metric.name, task.unit if metric.has_unit else "", metric.higher_is_better)
        for metric in metrics
    )
    return Table(f"{task.title}: other metrics", ("", *heading), tuple(rows), frozenset(best))


def format_measure(measure: Measure | None) -> str:
    """Format as ``mean ± SD [low, high]`` with about three significant digits."""
    if measure is None:
        return NOT_APPLICABLE
    if math.isnan(measure.mean):
        return UNDEFINED
    digits = 1 if abs(measure.mean) >= 5 else 2 if abs(measure.mean) >= 1 else 3
    deviation = "" if measure.deviation is None else f" ± {measure.deviation:.{digits}f}"
    interval = f"[{measure.low:.{digits}f}, {measure.high:.{digits}f}]"
    return f"{measure.mean:.{digits}f}{deviation} {interval}"


def format_parameters(run: RunResults, method: str) -> str:
    """Format a method's trainable and total parameters of heads and gate."""
    if method == CONSTANT:
        return "0 / 0"
    if method not in run.parameters:
        return "not counted"
    trainable, total = run.parameters[method]
    return f"{trainable:,} / {total:,}"


def score_heading(task: TaskSummary) -> str:
    """Format title, main metric, unit and direction of a task."""
    metric = _heading(task.metric_name, task.unit, task.higher_is_better)
    return f"{task.title}, {metric}"


def _heading(metric: str, unit: str, higher_is_better: bool) -> str:
    return f"{metric}{f' {unit}' if unit else ''} {'↑' if higher_is_better else '↓'}"


def _format_counts(run: RunResults, task: str) -> str:
    score = next(score for score in run.scores if score.task == task)
    counts = zip(score.n, score.patients, strict=True)
    return " / ".join(f"{n:,} ({patients:,})" for n, patients in counts)


def _best_row(
    methods: Sequence[str], column: Sequence[Measure | None], higher_is_better: bool
) -> int:
    """Return the row of the best method; -1 if it is the constant predictor or none is defined."""
    values = {
        row: one.mean if higher_is_better else -one.mean
        for row, one in enumerate(column)
        if one is not None and not math.isnan(one.mean)
    }
    best = max(values, key=lambda row: values[row], default=-1)
    return -1 if best >= 0 and methods[best] == CONSTANT else best
