"""Reliability diagram: observed frequency against predicted probability."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from enecg.metrics import Bin
from pipeline.evaluation.predictions import ENSEMBLE
from pipeline.report.prediction_plots import truncate
from pipeline.report.theme import MUTED, new_figure
from pipeline.runs.results import RunResults
from pipeline.runs.task_summary import TaskSummary

MIN_BIN_RECORDS = 5
"""Minimum number of records of a bin that a line connects; smaller bins are too noisy."""
MAX_DOT_AREA = 45
"""Area of the dot of a method's largest bin, in square points."""


def plot_reliability(
    run: RunResults, task: TaskSummary, colors: Mapping[str, str]
) -> Figure | None:
    """Plot reliability curves of EnECG and its experts for a classification task.

    Args:
        run: Results of the run.
        task: A binary or multiclass task.
        colors: Color of each method.

    Returns:
        The figure, with a histogram of EnECG's probabilities below; None if EnECG has no bins.
    """
    bins_by_method = {
        method: score.reliability
        for method in colors
        if (score := run.score(method, task.name)) is not None and score.reliability
    }
    if ENSEMBLE not in bins_by_method:
        return None
    figure = new_figure()
    curves, records = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    curves.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle="--")
    for method, bins in bins_by_method.items():
        _plot_curve(curves, bins, colors[method], main=method == ENSEMBLE)
    for bin_ in bins_by_method[ENSEMBLE]:
        width = bin_.high - bin_.low
        records.bar(bin_.low, bin_.n, 0.94 * width, 0, align="edge", color=MUTED, alpha=0.5)
    curves.set_ylabel("observed frequency")
    curves.set_ylim(-0.05, 1.05)
    records.set_xlim(0, 1)
    binary = task.kind == "binary"
    class_name = truncate(task.classes[1], 30) if binary else "the predicted class"
    records.set_xlabel(f"probability of {class_name}")
    records.set_ylabel("records")
    return figure


def _plot_curve(axes: Any, bins: Sequence[Bin], color: str, *, main: bool) -> None:
    """Plot dots with area proportional to the number of records, and the lines between them."""
    alpha = 1.0 if main else 0.6
    probability = [bin_.probability for bin_ in bins]
    frequency = [bin_.share for bin_ in bins]
    for adjacent in connected_bins(bins):
        x, y = probability[adjacent], frequency[adjacent]
        axes.plot(x, y, color=color, alpha=alpha, linewidth=1.9 if main else 1.0)
    largest = max(bin_.n for bin_ in bins)
    areas = [MAX_DOT_AREA * bin_.n / largest for bin_ in bins]
    axes.scatter(
        probability, frequency, areas, color=color, alpha=alpha, linewidths=0, clip_on=False
    )


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
