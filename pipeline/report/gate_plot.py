"""Plot of the gate's weights per expert."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.figure import Figure

from pipeline.evaluation.predictions import TaskPredictions
from pipeline.report.prediction_plots import list_classes, truncate
from pipeline.report.theme import INK, ON_COLOR, new_figure
from pipeline.runs.run_details import RunDetails

THIRDS = ("lowest third", "middle third", "highest third")
TEXT_WEIGHT = 0.09
"""Smallest weight that is printed in its bar segment; smaller segments are too narrow."""
MAX_GROUPS = 40
"""Maximum number of bars besides that of all records; the largest groups are shown."""


def plot_gate_weights(details: RunDetails, task: str, colors: Sequence[str]) -> Figure:
    """Plot the mean gate weights of a task for test records as stacked bars.

    Args:
        details: Details of the run.
        task: Name of the task.
        colors: Color of each expert, in the order of the weights.

    Returns:
        The figure, with one bar per group; see `group_gate_weights` and `MAX_GROUPS`.
    """
    groups = group_gate_weights(details, task)
    all_records, subgroups = groups[0], groups[1:]
    largest = sorted(subgroups, key=lambda group: -group[1])[:MAX_GROUPS]
    groups = [all_records, *(group for group in subgroups if group in largest)]
    figure = new_figure(height=max(0.9 + 0.26 * len(groups), 1.6))
    axes = figure.subplots()
    heights = [0.0, *(index + 1.4 for index in range(len(groups) - 1))]
    for height, (_, _, weights) in zip(heights, groups, strict=True):
        _draw_bar(axes, height, weights, colors, all_records=height == 0)
    names = [
        f"{truncate(name, 26)} ({n:,})" if name else f"all records ({n:,})" for name, n, _ in groups
    ]
    axes.set_yticks(heights, names)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(heights[-1] + 0.6, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xlabel("mean weight")
    axes.spines["left"].set_visible(False)
    return figure


def group_gate_weights(
    details: RunDetails, task: str
) -> list[tuple[str, int, Float[np.ndarray, " expert"]]]:
    """Average the gate's weights over groups of labeled test records.

    Args:
        details: Details of a run with gate weights.
        task: Name of the task.

    Returns:
        Name, number of records and mean weights of each group. The first group has an empty name
        and contains all records. The others are the true classes, the records with each label of a
        multilabel task, or thirds of the true values of a regression task.
    """
    weights, lists = details.gate_weights[task], details.classes(task)
    members = [
        _find_members(predictions, classes)
        for predictions, classes in zip(details.ensemble(task), lists, strict=True)
    ]
    all_weights = np.concatenate(weights)
    groups = [("", len(all_weights), all_weights.mean(0))]
    names = THIRDS if details.targets[0][task].task.kind == "regression" else list_classes(lists)
    for name in names:
        in_group = np.concatenate(
            [
                by_name.get(name, np.zeros(len(part), bool))
                for by_name, part in zip(members, weights, strict=True)
            ]
        )
        if in_group.any():
            groups.append((name, int(in_group.sum()), all_weights[in_group].mean(0)))
    return groups


def _find_members(
    predictions: TaskPredictions, classes: Sequence[str]
) -> dict[str, Bool[np.ndarray, " record"]]:
    """Return a mask of the records of each group of one repeat."""
    truth = predictions.truth
    if predictions.task.kind == "multilabel":
        return {name: truth[:, column] == 1 for column, name in enumerate(classes)}
    if predictions.task.kind == "regression":
        third = np.searchsorted(np.quantile(truth, (1 / 3, 2 / 3)), truth)
        return {name: third == number for number, name in enumerate(THIRDS)}
    return {name: truth == number for number, name in enumerate(classes)}


def _draw_bar(
    axes: Any, height: float, weights: np.ndarray, colors: Sequence[str], *, all_records: bool
) -> None:
    left = 0.0
    for color, weight in zip(colors, weights, strict=True):
        alpha = 1.0 if all_records else 0.55
        axes.barh(height, weight, 0.82, left=left, color=color, alpha=alpha, linewidth=0)
        if weight > TEXT_WEIGHT:
            axes.text(
                *(left + weight / 2, height, f"{weight:.2f}"),
                ha="center",
                va="center",
                color=ON_COLOR if all_records else INK,
                fontsize=7.5,
            )
        left += weight
