"""The page's plot of reliability: how often what was given a probability came true."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from enecg.metrics import Bin
from pipeline.evaluation.predictions import ENSEMBLE
from pipeline.report.plots import ENSEMBLE_COLOUR
from pipeline.report.table import label
from pipeline.runs.results import RunResults

JOINED_FROM = 5
"""Records that a bin needs to be joined to its neighbours: the share of fewer is chance."""
LARGEST_DOT = 60
"""Area of the dot of a method's fullest bin, in square points."""


def reliability(run: RunResults) -> Figure | None:
    """For binary tasks, the share that came true by the probability that was told, and how many
    records have it; EnECG over its experts. None where nothing is binary.
    """
    tasks = [task for task in run.tasks.values() if task.kind == "binary"]
    if not tasks:
        return None
    across = min(3, len(tasks))
    height = 3.6 + 0.17 * math.ceil((len(run.weights) + 1) / across)
    figure = Figure(figsize=(4 * len(tasks), height), layout="constrained")
    grid = figure.subplots(2, len(tasks), squeeze=False, height_ratios=(3, 1), sharex="col")
    colours = {name: f"C{place}" for place, name in enumerate(run.weights)}
    drawn = {}
    for column, task in enumerate(tasks):
        above, below = grid[:, column]
        above.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--")
        for method, colour in (colours | {ENSEMBLE: ENSEMBLE_COLOUR}).items():
            score = run.score(method, task.name)
            if score is None or not score.reliability:
                continue
            strength = 1.0 if method == ENSEMBLE else 0.5
            drawn[label(method, run)] = _curve(above, score.reliability, colour, strength)
            if method == ENSEMBLE:
                for one in score.reliability:
                    below.bar(one.low, one.n, one.high - one.low, 0, align="edge", color="#bbb")
        above.set_title(task.title, fontsize=10)
        above.set_ylabel("share that came true", fontsize=8)
        above.set_ylim(-0.05, 1.05)
        below.set_xlim(0, 1)
        below.set_xlabel(f"probability of {task.classes[1]}", fontsize=8)
        below.set_ylabel(f"records\n({ENSEMBLE})", fontsize=8)
        for axes in (above, below):
            axes.tick_params(labelsize=7)
            axes.spines[["top", "right"]].set_visible(False)
    # Of all panels, and over none of their curves.
    figure.legend(
        list(drawn.values()),
        list(drawn),
        loc="outside lower center",
        ncols=across,
        fontsize=7,
        frameon=False,
    )
    return figure


def _curve(axes: Any, bins: Sequence[Bin], colour: str, strength: float) -> Any:
    """A dot a bin, its area by the bin's records, and lines; returns what a legend shows of it."""
    at, share = [one.probability for one in bins], [one.share for one in bins]
    for part in joined(bins):
        axes.plot(at[part], share[part], color=colour, alpha=strength, linewidth=2 * strength)
    fullest = max(one.n for one in bins)
    areas = [LARGEST_DOT * one.n / fullest for one in bins]
    axes.scatter(at, share, areas, color=colour, alpha=strength, linewidths=0, clip_on=False)
    return axes.plot([], [], "o-", color=colour, alpha=strength, markersize=4)[0]


def joined(bins: Sequence[Bin]) -> list[slice]:
    """The longest stretches of neighbouring bins that have enough records each."""
    stretches, start = [], 0
    for place, one in enumerate(bins):
        few = one.n < JOINED_FROM
        # Bins without a record are not among them.
        apart = place > 0 and one.low > bins[place - 1].high
        if few or apart:
            stretches.append(slice(start, place))
            start = place + few
    stretches.append(slice(start, len(bins)))
    return [one for one in stretches if one.stop > one.start]
