"""Plots of a regression: predicted against true values, and Bland-Altman."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from pipeline.evaluation.predictions import TaskPredictions
from pipeline.report.theme import ENSEMBLE_COLOR, EXPERT_COLOR, MUTED, new_figure

MAX_POINTS = 2000
"""Maximum number of predictions in a scatter plot; of more, a random sample is shown."""
LIMITS = 1.96
"""Distance of the limits of agreement from the mean error, in standard deviations of the errors."""

_Values = Float[np.ndarray, " record"]


def plot_predicted(repeats: Sequence[TaskPredictions]) -> Figure:
    """Plot predicted against true values of all repeats.

    Args:
        repeats: Predictions of a method for a regression task, one element per repeat.

    Returns:
        The figure.
    """
    truth, predicted = _concatenate(repeats)
    figure = new_figure()
    axes = figure.subplots()
    ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
    axes.plot(ends, ends, color=MUTED, linewidth=0.8, linestyle="--")
    rows = _sample(len(truth))
    _plot_points(axes, truth[rows], predicted[rows])
    axes.set_xlabel(_label("true", repeats))
    axes.set_ylabel(_label("predicted", repeats))
    return figure


def plot_bland_altman(repeats: Sequence[TaskPredictions]) -> Figure:
    """Plot errors against the mean of predicted and true values, and their histogram.

    Args:
        repeats: Predictions of a method for a regression task, one element per repeat.

    Returns:
        The figure, with lines at the mean error and at the limits of agreement.
    """
    truth, predicted = _concatenate(repeats)
    error = predicted - truth
    figure = new_figure()
    axes, histogram = figure.subplots(1, 2, sharey=True, width_ratios=(4, 1))
    rows = _sample(len(truth))
    _plot_points(axes, (truth[rows] + predicted[rows]) / 2, error[rows])
    for level, style in zip(agreement_limits(error), ("--", "-", "--"), strict=True):
        for panel in (axes, histogram):
            panel.axhline(level, color=ENSEMBLE_COLOR, linewidth=0.9, linestyle=style)
    axes.set_xlabel(_label("mean of true and predicted", repeats))
    axes.set_ylabel(_label("predicted minus true", repeats))
    histogram.hist(
        error,
        bins="auto" if len(error) < 1000 else 40,
        orientation="horizontal",
        color=EXPERT_COLOR,
    )
    histogram.set_xlabel("records")
    histogram.tick_params(axis="y", length=0)
    histogram.spines["left"].set_visible(False)
    return figure


def agreement_limits(error: _Values) -> tuple[float, float, float]:
    """Return the lower limit of agreement of errors, their mean, and the upper limit."""
    mean, spread = float(error.mean()), LIMITS * float(error.std(ddof=1)) if len(error) > 1 else 0.0
    return mean - spread, mean, mean + spread


def describe_agreement(repeats: Sequence[TaskPredictions]) -> str:
    """Describe the mean error, the limits of agreement and the sampling of points."""
    truth, predicted = _concatenate(repeats)
    low, mean, high = agreement_limits(predicted - truth)
    unit = f" {repeats[0].task.unit}".rstrip()
    text = f"Mean error {mean:.3g}{unit}, 95% limits of agreement {low:.3g} to {high:.3g}{unit}."
    return text + describe_sample(repeats)


def describe_sample(repeats: Sequence[TaskPredictions]) -> str:
    """Return a sentence on the sampling of points; empty if all predictions are shown."""
    count = sum(len(predictions.truth) for predictions in repeats)
    return f" Points: {MAX_POINTS:,} of {count:,} predictions." if count > MAX_POINTS else ""


def _concatenate(repeats: Sequence[TaskPredictions]) -> tuple[_Values, _Values]:
    truth = np.concatenate([predictions.truth for predictions in repeats])
    return truth, np.concatenate([predictions.predicted for predictions in repeats])


def _sample(count: int) -> Any:
    """Return the rows of the points to draw."""
    if count <= MAX_POINTS:
        return slice(None)
    return np.random.default_rng(0).choice(count, MAX_POINTS, replace=False)


def _plot_points(axes: Any, x: _Values, y: _Values) -> None:
    axes.plot(x, y, "o", color=EXPERT_COLOR, alpha=0.45, markersize=3.2, markeredgewidth=0)


def _label(text: str, repeats: Sequence[TaskPredictions]) -> str:
    unit = repeats[0].task.unit
    return f"{text}, {unit}" if unit else text
