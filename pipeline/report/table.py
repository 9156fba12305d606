"""Tables of scores: methods in rows, tasks or metrics in columns."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from enecg.metrics import SECONDARY_METRICS
from pipeline.evaluation.predictions import BASELINES, CHANCE, RANDOM, WITHOUT, ZERO_SHOT
from pipeline.evaluation.scores import SUMMARY_METRICS, Measure
from pipeline.runs.results import RunResults
from pipeline.runs.task_summary import TaskSummary

NOT_APPLICABLE = "–"
UNDEFINED = "undefined"
PARAMETERS = "parameters of heads and gate, trainable / total"

Column = tuple[TaskSummary, str, bool]
"""Task, metric, and whether a higher value is better."""


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
    """Return a method's name, with remarks on training and pretraining.

    Args:
        method: Name of the method.
        run: Results of a run.

    Returns:
        The name. Remarks in parentheses state that heads or experts are untrained, or that an
        expert was pretrained on the data set.
    """
    if method in BASELINES:
        return method
    expert = method.removeprefix(ZERO_SHOT)
    if expert in run.weights:
        weights = run.weights[expert]
        remarks = ["untrained heads"] if method.startswith(ZERO_SHOT) else []
        remarks += [f"untrained, {weights}"] if weights.startswith("random:") else []
        remarks += ["pretrained on this data set"] if expert in run.pretrained else []
        return f"{expert} ({'; '.join(remarks)})" if remarks else expert
    if method.startswith(RANDOM):
        expert = method.removeprefix(RANDOM)
        return f"{expert} (untrained, {run.random_baselines.get(expert, RANDOM.rstrip(':'))})"
    if method.startswith(WITHOUT):
        others = [name for name in run.weights if name != method.removeprefix(WITHOUT)]
        untrained = [name for name in others if name in run.untrained]
        if not untrained:
            return method
        return f"{method} ({len(untrained)} of {len(others)} experts untrained)"
    if run.untrained:
        return f"{method} ({len(run.untrained)} of {len(run.weights)} experts untrained)"
    return method


def score_table(run: RunResults, methods: Sequence[str], title: str) -> Table:
    """Build a table of the main metric of every task and, if any, its `SUMMARY_METRICS` metric.

    Args:
        run: Results of a run.
        methods: Methods in rows.
        title: Title of the table.

    Returns:
        Mean ± SD over repeats with the 95% interval, and numbers of parameters. The last row
        contains the numbers of test records and patients.
    """
    columns = score_columns(run)
    measures = [
        [find_measure(run, method, task, metric) for method in methods]
        for task, metric, _ in columns
    ]
    rows = [
        (
            method_label(method, run),
            *(format_measure(column[row]) for column in measures),
            format_parameters(run, method),
        )
        for row, method in enumerate(methods)
    ]
    rows.append(
        ("test records (patients)", *(_format_counts(run, task.name) for task, *_ in columns), "")
    )
    heading = (
        score_heading(task) if metric == task.metric_name else f"{task.title}, {metric} ↑"
        for task, metric, _ in columns
    )
    return Table(
        title, ("", *heading, PARAMETERS), tuple(rows), find_best_cells(run, methods, columns)
    )


def score_columns(run: RunResults) -> list[Column]:
    """Return the columns of `score_table` between names and parameters."""
    return [
        column
        for task in run.tasks.values()
        for column in (
            (task, task.metric_name, task.higher_is_better),
            *([(task, SUMMARY_METRICS[task.kind], True)] if task.kind in SUMMARY_METRICS else []),
        )
    ]


def find_measure(run: RunResults, method: str, task: TaskSummary, metric: str) -> Measure | None:
    """Return a metric of a method on a task.

    Args:
        run: Results of a run.
        method: Name of the method.
        task: The task.
        metric: Name of the metric.

    Returns:
        The metric; None if the method does not have it.
    """
    score = run.score(method, task.name)
    if score is None or score.metric == metric:
        return score
    return next((measure for measure in score.others if measure.metric == metric), None)


def find_best_cells(
    run: RunResults, methods: Sequence[str], columns: Sequence[Column]
) -> frozenset[tuple[int, int]]:
    """Find the cells in bold: the best method of a column, if it is better than the baselines.

    Args:
        run: Results of a run.
        methods: Methods in rows.
        columns: Columns of the table after the first.

    Returns:
        (row, column) of the best method of each column, if its 95% interval is better than those of
        all baselines, without overlap. Without the chance baseline, only regression tasks have bold
        cells, because the constant predictor is not a lower bound of macro-F1.
    """
    best = set()
    for column, (task, metric, higher_is_better) in enumerate(columns, start=1):
        if task.kind != "regression" and run.score(CHANCE, task.name) is None:
            continue
        measures = {method: find_measure(run, method, task, metric) for method in run.methods}
        defined = {
            method: measure
            for method, measure in measures.items()
            if measure is not None and not math.isnan(measure.mean)
        }
        sign = 1 if higher_is_better else -1
        candidates = [method for method in methods if method in defined]
        first = max(candidates, key=lambda method: sign * defined[method].mean, default=None)
        baselines = [defined[method] for method in BASELINES if method in defined]
        if first is None or first in BASELINES or not baselines:
            continue
        if all(_is_better(defined[first], baseline, higher_is_better) for baseline in baselines):
            best.add((methods.index(first), column))
    return frozenset(best)


def _is_better(measure: Measure, baseline: Measure, higher_is_better: bool) -> bool:
    """Return whether an interval lies entirely on the better side of a baseline's interval."""
    return measure.low > baseline.high if higher_is_better else measure.high < baseline.low


def other_metrics_table(run: RunResults, methods: Sequence[str], task: TaskSummary) -> Table | None:
    """Build a table of a task's secondary metrics.

    Args:
        run: Results of a run.
        methods: Methods in rows.
        task: The task.

    Returns:
        The table; None if these methods have no secondary metrics.
    """
    scores = {method: run.score(method, task.name) for method in methods}
    scored = [method for method in methods if scores[method] is not None]
    names = {
        measure.metric for score in scores.values() if score is not None for measure in score.others
    }
    metrics = [metric for metric in SECONDARY_METRICS[task.kind] if metric.name in names]
    if not metrics:
        return None
    rows = tuple(
        (
            method_label(method, run),
            *(format_measure(find_measure(run, method, task, metric.name)) for metric in metrics),
        )
        for method in scored
    )
    columns = [(task, metric.name, metric.higher_is_better) for metric in metrics]
    heading = (
        _heading(metric.name, task.unit if metric.has_unit else "", metric.higher_is_better)
        for metric in metrics
    )
    title = f"{task.title}: other metrics"
    if task.kind == "binary":
        title += f" (positive class: {task.classes[1]})"
    return Table(title, ("", *heading), rows, find_best_cells(run, scored, columns))


def format_measure(measure: Measure | None) -> str:
    """Format a measure as ``mean ± SD [low, high]`` with one to three decimals.

    Args:
        measure: The measure.

    Returns:
        The text; `NOT_APPLICABLE` for None, and `UNDEFINED` for a mean of NaN.
    """
    if measure is None:
        return NOT_APPLICABLE
    if math.isnan(measure.mean):
        return UNDEFINED
    digits = 1 if abs(measure.mean) >= 5 else 2 if abs(measure.mean) >= 1 else 3
    deviation = "" if measure.deviation is None else f" ± {measure.deviation:.{digits}f}"
    interval = f"[{measure.low:.{digits}f}, {measure.high:.{digits}f}]"
    return f"{measure.mean:.{digits}f}{deviation} {interval}"


def format_parameters(run: RunResults, method: str) -> str:
    """Format a method's number of parameters in heads and gate.

    Args:
        run: Results of a run.
        method: Name of the method.

    Returns:
        Trainable and total number, or ``not counted``.
    """
    if method in BASELINES:
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
