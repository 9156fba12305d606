"""Plot of the gate's weights per expert."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.figure import Figure

from pipeline.evaluation.predictions import TaskPredictions
from pipeline.report.prediction_plots import one_line, select_predictions, sum_confusions
from pipeline.training.repeat import Repeat

THIRDS = ("lowest third", "middle third", "highest third")
TEXT_WEIGHT = 0.06
"""Smallest weight that is printed in its bar segment; smaller segments are too narrow."""


def plot_gate_weights(repeats: Sequence[Repeat], experts: Sequence[str]) -> Figure:
    """Plot mean gate weights for test records as stacked bars.

    Args:
        repeats: The trained repeats.
        experts: Labels of the experts, in the order of the weights.

    Returns:
        The figure, with one bar for each task and group of `group_gate_weights`.
    """
    groups = [
        (targets.task.title, group_gate_weights(repeats, name))
        for name, targets in repeats[0].targets.items()
    ]
    rows = sum(len(task_groups) for _, task_groups in groups)
    figure = Figure(figsize=(9, 0.9 + 0.21 * rows + 0.12 * len(groups)), layout="constrained")
    axes = figure.subplots()
    height, heights, names = 0.0, [], []
    for title, task_groups in groups:
        for index, (name, n, weights) in enumerate(task_groups):
            _draw_bar(axes, height, weights, all_records=index == 0)
            heights.append(height)
            names.append(f"{title}, all {n:,}" if index == 0 else f"{one_line(name)} ({n:,})")
            height += 1
        height += 0.6
    axes.set_yticks(heights, names, fontsize=7)
    axes.set_ylim(height - 0.9, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xlabel("mean weight on test records, all repeats", fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    axes.legend(
        axes.containers[: len(experts)],
        experts,
        ncols=min(3, len(experts)),
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        frameon=False,
        fontsize=8,
    )
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def group_gate_weights(
    repeats: Sequence[Repeat], task: str
) -> list[tuple[str, int, Float[np.ndarray, " expert"]]]:
    """Average the gate's weights over groups of labeled test records.

    Args:
        repeats: The trained repeats.
        task: Name of the task.

    Returns:
        Name, number of records and mean weights of each group. The first group has an empty name
        and contains all records. The others are the true classes, the records with each label of a
        multilabel task, or thirds of the true values of a regression task.
    """
    task_kind = repeats[0].targets[task].task.kind
    weights, members = [], []
    for repeat, predictions in zip(repeats, select_predictions(repeats, task), strict=True):
        order = np.argsort(repeat.cohort.test)
        rows = order[np.searchsorted(repeat.cohort.test, predictions.record_id, sorter=order)]
        # Average over the outputs, in case each has its own weights.
        weights.append(repeat.gate_weights[task][rows].mean(1))
        members.append(_find_members(predictions, repeat.targets[task].classes))
    all_weights = np.concatenate(weights)
    groups = [("", len(all_weights), all_weights.mean(0))]
    names = {
        "regression": THIRDS,
        "multilabel": dict.fromkeys(name for by_name in members for name in by_name),
    }
    for name in names.get(task_kind) or sum_confusions(repeats, task)[0]:
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


def _draw_bar(axes: Any, height: float, weights: np.ndarray, *, all_records: bool) -> None:
    left = 0.0
    for expert, weight in enumerate(weights):
        alpha = 1.0 if all_records else 0.6
        axes.barh(height, weight, 0.82, left=left, color=f"C{expert}", alpha=alpha)
        if weight > TEXT_WEIGHT:
            axes.text(
                left + weight / 2,
                height,
                f"{weight:.2f}",
                ha="center",
                va="center",
                color="white" if all_records else "black",
                fontsize=7,
            )
        left += weight
