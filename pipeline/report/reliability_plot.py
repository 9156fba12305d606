"""Reliability diagram: observed frequency against predicted probability."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from enecg.metrics import Bin
from pipeline.evaluation.predictions import ENSEMBLE
from pipeline.report.plots import ENSEMBLE_COLOR
from pipeline.report.table import method_label
from pipeline.runs.results import RunResults

MIN_BIN_RECORDS = 5
"""Minimum number of records of bins connected by lines; smaller bins are too noisy."""
MAX_DOT_AREA = 60
"""Area of the dot of a method's largest bin, in square points."""


def plot_reliability(run: RunResults) -> Figure | None:
    """Plot reliability curves of EnECG and its experts for binary tasks.

    Returns:
        The figure, with a histogram of EnECG's predictions below; None without binary tasks.
    """
    tasks = [task for task in run.tasks.values() if task.kind == "binary"]
    if not tasks:
        return None
    columns = min(3, len(tasks))
    height = 3.6 + 0.17 * math.ceil((len(run.weights) + 1) / columns)
    figure = Figure(figsize=(4 * len(tasks), height), layout="constrained")
    grid = figure.subplots(2, len(tasks), squeeze=False, height_ratios=(3, 1), sharex="col")
    colors = {name: f"C{index}" for index, name in enumerate(run.weights)}
    handles = {}
    for column, task in enumerate(tasks):
        curves, records = grid[:, column]
        curves.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--")
        for method, color in (colors | {ENSEMBLE: ENSEMBLE_COLOR}).items():
            score = run.score(method, task.name)
            if score is None or not score.reliability:
                continue
            alpha = 1.0 if method == ENSEMBLE else 0.5
            handles[method_label(method, run)] = _plot_curve(
                curves, score.reliability, color, alpha
            )
            if method == ENSEMBLE:
                for bin_ in score.reliability:
                    width = bin_.high - bin_.low
                    records.bar(bin_.low, bin_.n, width, 0, align="edge", color="#bbb")
        curves.set_title(task.title, fontsize=10)
        curves.set_ylabel("observed frequency", fontsize=8)
        curves.set_ylim(-0.05, 1.05)
        records.set_xlim(0, 1)
        records.set_xlabel(f"predicted probability of {task.classes[1]}", fontsize=8)
        records.set_ylabel(f"records\n({ENSEMBLE})", fontsize=8)
        for axes in (curves, records):
            axes.tick_params(labelsize=7)
            axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=columns,
        fontsize=7,
        frameon=False,
    )
    return figure


def _plot_curve(axes: Any, bins: Sequence[Bin], color: str, alpha: float) -> Any:
    """Plot dots with area proportional to the number of records; return a legend handle."""
    probability = [bin_.probability for bin_ in bins]
    frequency = [bin_.share for bin_ in bins]
    for adjacent in connected_bins(bins):
        x, y = probability[adjacent], frequency[adjacent]
        axes.plot(x, y, color=color, alpha=alpha, linewidth=2 * alpha)
    largest = max(bin_.n for bin_ in bins)
    areas = [MAX_DOT_AREA * bin_.n / largest for bin_ in bins]
    axes.scatter(
        probability, frequency, areas, color=color, alpha=alpha, linewidths=0, clip_on=False
    )
    return axes.plot([], [], "o-", color=color, alpha=alpha, markersize=4)[0]


def connected_bins(bins: Sequence[Bin]) -> list[slice]:
    """Find sequences of adjacent bins with at least `MIN_BIN_RECORDS` records each.

    Args:
        bins: Nonempty bins, in ascending order.

    Returns:
        Slices of `bins`.
    """
    slices, start = [], 0
    for index, current in enumerate(bins):
        too_small = current.n < MIN_BIN_RECORDS
        # Empty bins are missing from `bins`, so consecutive elements may not be adjacent.
        has_gap = index > 0 and current.low > bins[index - 1].high
        if too_small or has_gap:
            slices.append(slice(start, index))
            start = index + too_small
    slices.append(slice(start, len(bins)))
    return [part for part in slices if part.stop > part.start]
