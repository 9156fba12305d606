"""Plot of the gate's weights per expert."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from pipeline.report.prediction_plots import one_line, select_predictions, sum_confusions
from pipeline.training.repeat import Repeat

THIRDS = ("lowest third", "middle third", "highest third")
TEXT_WEIGHT = 0.06
"""Smallest weight whose bar segment has space for its value."""


def plot_gate_weights(repeats: Sequence[Repeat], experts: Sequence[str]) -> Figure:
    """Plot mean gate weights on test records as stacked bars.

    Args:
        repeats: Trained repeats.
        experts: Labels of the experts, in the order of the weights.

    Returns:
        One bar per task, and one for each group of `group_gate_weights`.
    """
    groups = [
        (targets.task.title, group_gate_weights(repeats, name))
        for name, targets in repeats[0].targets.items()
    ]
    rows = sum(len(of_task) for _, of_task in groups)
    figure = Figure(figsize=(9, 0.9 + 0.21 * rows + 0.12 * len(groups)), layout="constrained")
    axes = figure.subplots()
    height, heights, names = 0.0, [], []
    for title, of_task in groups:
        for place, (name, n, weights) in enumerate(of_task):
            _draw_bar(axes, height, weights, all_records=place == 0)
            heights.append(height)
            names.append(f"{title}, all {n:,}" if place == 0 else f"{one_line(name)} ({n:,})")
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
        repeats: Trained repeats.
        task: Name of the task.

    Returns:
        Name, number of records and mean weights of each group: first all records (empty name),
        then each true class, or each third of a regression's true values.
    """
    weights, names = [], []
    for repeat, one in zip(repeats, select_predictions(repeats, task), strict=True):
        order = np.argsort(repeat.cohort.test)
        rows = order[np.searchsorted(repeat.cohort.test, one.record_id, sorter=order)]
        # If each output of a task has its own weights, average over the outputs.
        weights.append(repeat.gate_weights[task][rows].mean(1))
        if one.task.kind == "regression":
            edges = np.quantile(one.truth, (1 / 3, 2 / 3))
            names += [THIRDS[place] for place in np.searchsorted(edges, one.truth)]
        else:
            names += [repeat.targets[task].classes[int(number)] for number in one.truth]
    all_weights, all_names = np.concatenate(weights), np.array(names)
    regression = repeats[0].targets[task].task.kind == "regression"
    groups = [("", len(all_names), all_weights.mean(0))]
    for name in THIRDS if regression else sum_confusions(repeats, task)[0]:
        inside = all_names == name
        if inside.any():
            groups.append((name, int(inside.sum()), all_weights[inside].mean(0)))
    return groups


def _draw_bar(axes: Any, height: float, weights: np.ndarray, *, all_records: bool) -> None:
    left = 0.0
    for place, weight in enumerate(weights):
        alpha = 1.0 if all_records else 0.6
        axes.barh(height, weight, 0.82, left=left, color=f"C{place}", alpha=alpha)
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
