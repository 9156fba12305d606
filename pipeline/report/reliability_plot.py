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
"""Fewest records of a bin that a line connects; the frequency in smaller bins is noise."""
MAX_DOT_AREA = 60
"""Area in square points of the dot of a method's largest bin."""


def plot_reliability(run: RunResults) -> Figure | None:
    """Plot reliability curves of EnECG and its experts for binary tasks.

    Returns:
        The figure, with the number of EnECG's records per bin below; None without binary tasks.
    """
    tasks = [task for task in run.tasks.values() if task.kind == "binary"]
    if not tasks:
        return None
    columns = min(3, len(tasks))
    height = 3.6 + 0.17 * math.ceil((len(run.weights) + 1) / columns)
    figure = Figure(figsize=(4 * len(tasks), height), layout="constrained")
    grid = figure.subplots(2, len(tasks), squeeze=False, height_ratios=(3, 1), sharex="col")
    colors = {name: f"C{place}" for place, name in enumerate(run.weights)}
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
                for one in score.reliability:
                    records.bar(one.low, one.n, one.high - one.low, 0, align="edge", color="#bbb")
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
    """Plot dots with areas by number of records, connect them, and return a legend handle."""
    probability, share = [one.probability for one in bins], [one.share for one in bins]
    for part in connected_bins(bins):
        axes.plot(probability[part], share[part], color=color, alpha=alpha, linewidth=2 * alpha)
    largest = max(one.n for one in bins)
    areas = [MAX_DOT_AREA * one.n / largest for one in bins]
    axes.scatter(probability, share, areas, color=color, alpha=alpha, linewidths=0, clip_on=False)
    return axes.plot([], [], "o-", color=color, alpha=alpha, markersize=4)[0]


def connected_bins(bins: Sequence[Bin]) -> list[slice]:
    """Return the runs of adjacent bins with at least `MIN_BIN_RECORDS` records each.

    Args:
        bins: Bins with records, in order.

    Returns:
        Slices of `bins`.
    """
    slices, start = [], 0
    for place, one in enumerate(bins):
        small = one.n < MIN_BIN_RECORDS
        # `bins` has no empty bins, so neighbors in the list may be apart.
        apart = place > 0 and one.low > bins[place - 1].high
        if small or apart:
            slices.append(slice(start, place))
            start = place + small
    slices.append(slice(start, len(bins)))
    return [one for one in slices if one.stop > one.start]
