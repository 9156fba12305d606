"""Confusion matrices, class names, and descriptions of decision thresholds."""

import math
import textwrap
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from enecg.tasks import OTHER_CLASS
from pipeline.evaluation.predictions import ENSEMBLE
from pipeline.report.theme import FILL, INK, ON_COLOR, new_figure
from pipeline.runs.results import RunResults
from pipeline.runs.run_details import RunDetails

FEW_CLASSES = 4
"""Maximum number of classes whose names are shown on both axes of a confusion matrix."""
SHORT_NAME_LENGTH = 18
"""Maximum number of characters of these names; longer names are truncated."""
CLASS_NAME_LENGTH = 34
"""Maximum length of a class name in the plot of the AUROC of each class."""
CLASS_LINE_LENGTH = 30
"""Maximum length of a line of a class name in a confusion matrix of more than `FEW_CLASSES`
classes. Names have up to two lines."""
DARK_CELL = 0.6
"""Share of a row above which the number in a cell of the matrix is white."""


def plot_confusion(details: RunDetails, task: str) -> Figure:
    """Plot the confusion matrix of a task over all repeats, colored by share of the true class.

    Args:
        details: Details of the run.
        task: Name of a binary or multiclass task.

    Returns:
        The figure.
    """
    names, counts = sum_confusions(details, task)
    size = len(names)
    figure = new_figure() if size <= FEW_CLASSES else new_figure(8.9, 1.3 + 0.29 * size)
    axes = figure.subplots()
    fractions = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        share = float(fractions[row, column])
        corner = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, facecolor=FILL, alpha=max(share, 0.04), linewidth=0))
        axes.text(
            *(column, row, f"{counts[row, column]:,}"),
            ha="center",
            va="center",
            color=ON_COLOR if share > DARK_CELL else INK,
            fontsize=10 if size <= FEW_CLASSES else 7.5,
        )
    axes.set_xlim(-0.5, size - 0.5)
    axes.set_ylim(size - 0.5, -0.5)
    axes.spines[["top", "right"]].set_visible(True)
    if size <= FEW_CLASSES:
        short = [truncate(name, SHORT_NAME_LENGTH) for name in names]
        axes.set_xticks(range(size), short)
        axes.set_yticks(range(size), short)
    else:
        axes.set_xticks(range(size), [str(number) for number in range(1, size + 1)])
        axes.set_yticks(range(size), _number(names), fontsize=7, linespacing=1.0)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return figure


def truncated_names(details: RunDetails, task: str) -> list[str]:
    """Return the class names of a task that are truncated in at least one plot of its classes.

    Args:
        details: Details of the run.
        task: Name of the task.

    Returns:
        The full names.
    """
    names = list_classes(details.classes(task))
    length = SHORT_NAME_LENGTH if len(names) <= FEW_CLASSES else CLASS_NAME_LENGTH
    return [name for name in names if len(name) > length]


def describe_thresholds(run: RunResults, task: str, method: str = ENSEMBLE) -> str:
    """Describe the decision thresholds of a binary task.

    Args:
        run: Results of a run.
        task: Name of a task.
        method: Name of the method. Default: EnECG.

    Returns:
        One sentence; empty if the task is not binary or the method has no threshold for it.
    """
    values = run.thresholds.get(method, {}).get(task)
    if not values:
        return ""
    listed = ", ".join(map(_format_threshold, values))
    by_repeat = "s per repeat" if len(values) > 1 else ""
    name = run.tasks[task].classes[1]
    return f"Decision threshold{by_repeat} for {name}, chosen without test patients: {listed}."


def _format_threshold(value: float) -> str:
    return "∞ (never predicted)" if math.isinf(value) else f"{value:.3f}"


def sum_confusions(
    details: RunDetails, task: str
) -> tuple[list[str], Int[np.ndarray, "true predicted"]]:
    """Sum the confusion matrices of all repeats by class name.

    Repeats can have different classes: a diagnosis can be a separate class in one repeat and part
    of `OTHER_CLASS` in another.

    Args:
        details: Details of the run.
        task: Name of a binary or multiclass task.

    Returns:
        Class names and the confusion matrix of record counts.
    """
    lists = details.classes(task)
    names = list_classes(lists)
    counts = np.zeros((len(names), len(names)), int)
    for predictions, classes in zip(details.ensemble(task), lists, strict=True):
        indices = [names.index(name) for name in classes]
        size = len(classes)
        cells = (size * predictions.truth + predictions.predicted).astype(int)
        counts[np.ix_(indices, indices)] += np.bincount(cells, minlength=size**2).reshape(size, -1)
    return names, counts


def list_classes(lists: Sequence[Sequence[str]]) -> list[str]:
    """Return the class names of all repeats, `OTHER_CLASS` last."""
    names = [*dict.fromkeys(name for names in lists for name in names if name != OTHER_CLASS)]
    if any(OTHER_CLASS in names for names in lists):
        names.append(OTHER_CLASS)
    return names


def truncate(name: str, length: int) -> str:
    """Truncate a name to at most `length` characters, including an ellipsis if it is longer."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def _wrap(name: str) -> list[str]:
    return textwrap.wrap(name, CLASS_LINE_LENGTH, max_lines=2, placeholder=" …")


def _number(names: Sequence[str]) -> list[str]:
    return ["\n".join(_wrap(name)) + f"  {number}" for number, name in enumerate(names, start=1)]
