"""Plots of EnECG's predictions for test records: scatter plots and confusion matrices."""

import math
import textwrap
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from enecg.tasks import OTHER_CLASS, Task
from pipeline.evaluation.predictions import ENSEMBLE, TaskPredictions
from pipeline.report.plots import EXPERT_COLOR
from pipeline.runs.results import RunResults
from pipeline.training.repeat import Repeat

CLASS_NAME_LENGTH = 60
"""Maximum length of a class name that is shown on one line; longer names are truncated."""
CLASS_LINE_LENGTH = 30
"""Maximum length of each line of a class name that is shown on two lines."""


def select_predictions(
    repeats: Sequence[Repeat], task: str, method: str = ENSEMBLE
) -> list[TaskPredictions]:
    """Return the predictions of a method for a task, one element per repeat."""
    return [
        predictions
        for repeat in repeats
        for predictions in repeat.predictions
        if (predictions.task.name, predictions.method) == (task, method)
    ]


def plot_regressions(repeats: Sequence[Repeat]) -> Figure | None:
    """Plot predicted against true values of all repeats; return None without regression tasks."""
    tasks = _select_tasks(repeats, "regression")
    if not tasks:
        return None
    figure = Figure(figsize=(3.2 * len(tasks), 3.0), layout="constrained")
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        predictions = select_predictions(repeats, task.name)
        truth = np.concatenate([repeat.truth for repeat in predictions])
        predicted = np.concatenate([repeat.predicted for repeat in predictions])
        axes.plot(truth, predicted, ".", color=EXPERT_COLOR, alpha=0.5, markersize=4)
        ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
        axes.plot(ends, ends, color="grey", linewidth=1)
        axes.set_title(task.title, fontsize=10)
        axes.set_xlabel(f"true, {task.unit}", fontsize=8)
        axes.set_ylabel(f"predicted, {task.unit}", fontsize=8)
        axes.tick_params(labelsize=7)
    return figure


def plot_confusions(repeats: Sequence[Repeat]) -> Figure | None:
    """Plot confusion matrices over all repeats, colored by fraction of the true class.

    Returns:
        The figure; None if all tasks are regression tasks.
    """
    tasks = _select_tasks(repeats, "binary") + _select_tasks(repeats, "multiclass")
    if not tasks:
        return None
    matrices = [sum_confusions(repeats, task.name) for task in tasks]
    widths = [2.4 if len(names) == 2 else 6.2 for names, _ in matrices]
    height = max(2.4 if len(names) == 2 else 1.2 + 0.28 * len(names) for names, _ in matrices)
    figure = Figure(figsize=(min(11, sum(widths)), height), layout="constrained")
    grid = figure.subplots(1, len(tasks), squeeze=False, width_ratios=widths)[0]
    for axes, task, (names, counts) in zip(grid, tasks, matrices, strict=True):
        binary = len(names) == 2
        fractions = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
        for row, column in zip(*np.nonzero(counts), strict=True):
            axes.text(
                column,
                row,
                f"{counts[row, column]:,}",
                ha="center",
                va="center",
                color="white" if fractions[row, column] > 0.6 else "black",
                fontsize=9 if binary else 6,
            )
        axes.set_title(task.title, fontsize=10)
        axes.tick_params(labelsize=7)
        if binary:
            axes.set_xticks(range(2), names)
            axes.set_yticks(range(2), names)
        else:
            axes.set_xticks(range(len(names)), range(1, len(names) + 1))
            axes.set_yticks(range(len(names)), _number(names), fontsize=6.5, linespacing=1.0)
        axes.set_xlabel("predicted", fontsize=8)
        axes.set_ylabel("true", fontsize=8)
    return figure


def truncated_names(repeats: Sequence[Repeat]) -> list[str]:
    """Return the class names that are truncated in figures."""
    lists = (targets.classes for repeat in repeats for targets in repeat.targets.values())
    names = dict.fromkeys(name for classes in lists for name in classes)
    return [name for name in names if one_line(name) != name or " ".join(_wrap(name)) != name]


def describe_thresholds(run: RunResults, method: str = ENSEMBLE) -> str:
    """Return a sentence on the thresholds of binary tasks; empty if there are none."""
    by_task = run.thresholds.get(method, {})
    if not by_task:
        return ""
    listed = "; ".join(
        f"{run.tasks[task].classes[1]}: {', '.join(map(_format_threshold, values))}"
        for task, values in by_task.items()
    )
    by_repeat = " per repeat" if len(run.config["seeds"]) > 1 else ""
    return f"Decision thresholds{by_repeat}, chosen on training and validation patients: {listed}."


def _format_threshold(value: float) -> str:
    return "∞ (never predicted)" if math.isinf(value) else f"{value:.3f}"


def sum_confusions(
    repeats: Sequence[Repeat], task: str
) -> tuple[list[str], Int[np.ndarray, "true predicted"]]:
    """Sum the confusion matrices of all repeats by class name.

    Repeats may have different classes. A diagnosis can be a class of its own in one repeat and
    part of `OTHER_CLASS` in another.

    Args:
        repeats: The trained repeats.
        task: Name of a binary or multiclass task.

    Returns:
        Class names and the confusion matrix of record counts.
    """
    lists = [repeat.targets[task].classes for repeat in repeats]
    names = [*dict.fromkeys(name for names in lists for name in names if name != OTHER_CLASS)]
    if any(OTHER_CLASS in names for names in lists):
        names.append(OTHER_CLASS)
    counts = np.zeros((len(names), len(names)), int)
    for predictions, classes in zip(select_predictions(repeats, task), lists, strict=True):
        indices = [names.index(name) for name in classes]
        counts[np.ix_(indices, indices)] += confusion_matrix(
            predictions.truth, predictions.predicted, labels=range(len(classes))
        )
    return names, counts


def one_line(name: str) -> str:
    """Truncate a class name to `CLASS_NAME_LENGTH` characters."""
    return name if len(name) <= CLASS_NAME_LENGTH else f"{name[: CLASS_NAME_LENGTH - 1]}…"


def _wrap(name: str) -> list[str]:
    return textwrap.wrap(name, CLASS_LINE_LENGTH, max_lines=2, placeholder=" …")


def _number(names: Sequence[str]) -> list[str]:
    return ["\n".join(_wrap(name)) + f"  {number}" for number, name in enumerate(names, start=1)]


def _select_tasks(repeats: Sequence[Repeat], kind: str) -> list[Task]:
    return [targets.task for targets in repeats[0].targets.values() if targets.task.kind == kind]
