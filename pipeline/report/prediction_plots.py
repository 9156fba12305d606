"""The page's plots of answers on test patients, each a matplotlib Figure."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from enecg.tasks import OTHER_CLASS, Task
from pipeline.evaluation.predictions import ENSEMBLE, TaskPredictions
from pipeline.report.plots import EXPERT_COLOUR
from pipeline.runs.results import RunResults
from pipeline.training.repeat import Repeat

THIRDS = ("lowest third", "middle third", "highest third")
LONGEST_NAME = 60
LONGEST_LINE = 30
"""Of a class's name, in characters; the gate's bars give it one line, a confusion's rows two."""


def answers_of(
    repeats: Sequence[Repeat], task: str, method: str = ENSEMBLE
) -> list[TaskPredictions]:
    """A method's answers on a task, of every repeat."""
    return [
        one
        for repeat in repeats
        for one in repeat.predictions
        if (one.task.name, one.method) == (task, method)
    ]


def regressions(repeats: Sequence[Repeat]) -> Figure | None:
    """EnECG's values against the truth, all repeats; None where no task has values."""
    tasks = _tasks(repeats, "regression")
    if not tasks:
        return None
    figure = Figure(figsize=(3.2 * len(tasks), 3.0), layout="constrained")
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        together = answers_of(repeats, task.name)
        truth = np.concatenate([one.truth for one in together])
        predicted = np.concatenate([one.predicted for one in together])
        axes.plot(truth, predicted, ".", color=EXPERT_COLOUR, alpha=0.5, markersize=4)
        ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
        axes.plot(ends, ends, color="grey", linewidth=1)
        axes.set_title(task.title, fontsize=10)
        axes.set_xlabel(f"true, {task.unit}", fontsize=8)
        axes.set_ylabel(f"predicted, {task.unit}", fontsize=8)
        axes.tick_params(labelsize=7)
    return figure


def confusions(repeats: Sequence[Repeat]) -> Figure | None:
    """The share of each true class that EnECG gave each answer, over all repeats."""
    tasks = _tasks(repeats, "binary") + _tasks(repeats, "multiclass")
    if not tasks:
        return None
    summed = [sum_confusions(repeats, task.name) for task in tasks]
    widths = [2.4 if len(names) == 2 else 6.2 for names, _ in summed]
    tallest = max(2.4 if len(names) == 2 else 1.2 + 0.28 * len(names) for names, _ in summed)
    figure = Figure(figsize=(min(11, sum(widths)), tallest), layout="constrained")
    grid = figure.subplots(1, len(tasks), squeeze=False, width_ratios=widths)[0]
    for axes, task, (names, counts) in zip(grid, tasks, summed, strict=True):
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.6 else "black"
            size = 9 if len(names) == 2 else 6
            told = f"{counts[row, column]:,}"
            axes.text(column, row, told, ha="center", va="center", color=colour, fontsize=size)
        axes.set_title(task.title, fontsize=10)
        axes.tick_params(labelsize=7)
        if len(names) == 2:
            axes.set_xticks(range(2), names)
            axes.set_yticks(range(2), names)
        else:
            axes.set_xticks(range(len(names)), range(1, len(names) + 1))
            axes.set_yticks(range(len(names)), _numbered(names), fontsize=6.5, linespacing=1.0)
        axes.set_xlabel("predicted", fontsize=8)
        axes.set_ylabel("true", fontsize=8)
    return figure


def cut_names(repeats: Sequence[Repeat]) -> list[str]:
    """The names of classes that are too long to stand whole in the figures."""
    lists = (one.classes for repeat in repeats for one in repeat.targets.values())
    names = dict.fromkeys(name for classes in lists for name in classes)
    return [name for name in names if _one_line(name) != name or " ".join(_lines(name)) != name]


def thresholds(run: RunResults, method: str = ENSEMBLE) -> str:
    """From which probability on a method says a binary task's second class, by repeat; empty where
    nothing is binary.
    """
    told = [
        f"“{run.tasks[task].classes[1]}” is said from a probability of "
        f"{', '.join(map(_threshold, of_repeats))} on"
        for task, of_repeats in run.thresholds.get(method, {}).items()
    ]
    if not told:
        return ""
    by_repeat = "by repeat, " if len(run.config["seeds"]) > 1 else ""
    return f"{'; '.join(told)} ({by_repeat}chosen on validation patients)."


def _threshold(value: float) -> str:
    return "∞ (never)" if math.isinf(value) else f"{value:.3f}"


def sum_confusions(
    repeats: Sequence[Repeat], task: str
) -> tuple[list[str], Int[np.ndarray, "true predicted"]]:
    """Counts by class name, summed over repeats, whose lists of classes may differ.

    A diagnosis that one repeat lists is under its own name there, and in `OTHER_CLASS` of the next.
    """
    lists = [repeat.targets[task].classes for repeat in repeats]
    names = [*dict.fromkeys(name for names in lists for name in names if name != OTHER_CLASS)]
    if any(OTHER_CLASS in names for names in lists):
        names.append(OTHER_CLASS)
    counts = np.zeros((len(names), len(names)), int)
    for one, classes in zip(answers_of(repeats, task), lists, strict=True):
        place = [names.index(name) for name in classes]
        counts[np.ix_(place, place)] += confusion_matrix(
            one.truth, one.predicted, labels=range(len(classes))
        )
    return names, counts


def gate_weights(repeats: Sequence[Repeat], experts: Sequence[str]) -> Figure:
    """The mean weight that the gate gave each expert on test records: by task, and within a task
    by true class, or by thirds of a regression's truth.
    """
    groups = [
        (targets.task.title, gate_groups(repeats, name))
        for name, targets in repeats[0].targets.items()
    ]
    rows = sum(len(told) for _, told in groups)
    figure = Figure(figsize=(9, 0.9 + 0.21 * rows + 0.12 * len(groups)), layout="constrained")
    axes = figure.subplots()
    height, heights, names = 0.0, [], []
    for title, told in groups:
        for place, (name, n, weights) in enumerate(told):
            _bar(axes, height, weights, whole=place == 0)
            heights.append(height)
            names.append(f"{title}, all {n:,}" if place == 0 else f"{_one_line(name)} ({n:,})")
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


def gate_groups(
    repeats: Sequence[Repeat], task: str
) -> list[tuple[str, int, Float[np.ndarray, " expert"]]]:
    """Name, number and mean weights of all test records with a known truth, then of each group of
    them: the true classes that occur, or thirds of a regression's truth.
    """
    weights, names = [], []
    for repeat, one in zip(repeats, answers_of(repeats, task), strict=True):
        order = np.argsort(repeat.cohort.test)
        rows = order[np.searchsorted(repeat.cohort.test, one.record_id, sorter=order)]
        # A gate that weighs each output by itself is told by the mean over a task's outputs.
        weights.append(repeat.gate_weights[task][rows].mean(1))
        if one.task.kind == "regression":
            edges = np.quantile(one.truth, (1 / 3, 2 / 3))
            names += [THIRDS[place] for place in np.searchsorted(edges, one.truth)]
        else:
            names += [repeat.targets[task].classes[int(number)] for number in one.truth]
    joined, named = np.concatenate(weights), np.array(names)
    classes = THIRDS if repeats[0].targets[task].task.kind == "regression" else None
    groups = classes or sum_confusions(repeats, task)[0]
    told = [("", len(named), joined.mean(0))]
    for name in groups:
        inside = named == name
        if inside.any():
            told.append((name, int(inside.sum()), joined[inside].mean(0)))
    return told


def _bar(axes: Any, height: float, weights: np.ndarray, *, whole: bool) -> None:
    left = 0.0
    for place, weight in enumerate(weights):
        alpha = 1.0 if whole else 0.6
        axes.barh(height, weight, 0.82, left=left, color=f"C{place}", alpha=alpha)
        if weight > 0.06:
            middle = left + weight / 2
            axes.text(
                middle,
                height,
                f"{weight:.2f}",
                ha="center",
                va="center",
                color="white" if whole else "black",
                fontsize=7,
            )
        left += weight


def _tasks(repeats: Sequence[Repeat], kind: str) -> list[Task]:
    return [one.task for one in repeats[0].targets.values() if one.task.kind == kind]


def _numbered(names: Sequence[str]) -> list[str]:
    return ["\n".join(_lines(name)) + f"  {place}" for place, name in enumerate(names, start=1)]


def _lines(name: str) -> list[str]:
    return textwrap.wrap(name, LONGEST_LINE, max_lines=2, placeholder=" …")


def _one_line(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
