"""Plots of classification tasks: ROC and precision-recall curves, and AUROC by class or label."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from pipeline.evaluation.curves import Curve, precision_recall_curve, roc_curve
from pipeline.evaluation.predictions import ENSEMBLE, TaskPredictions
from pipeline.evaluation.scores import Measure
from pipeline.report.prediction_plots import CLASS_NAME_LENGTH, truncate
from pipeline.report.theme import ENSEMBLE_COLOR, MUTED, new_figure

_ByMethod = Mapping[str, Sequence[TaskPredictions]]


def plot_roc(by_method: _ByMethod, colors: Mapping[str, str]) -> Figure | None:
    """Plot ROC curves.

    Args:
        by_method: Predictions for a binary task, by method and repeat.
        colors: Color of each method.

    Returns:
        The figure, with EnECG's 95% interval; None if no repeat has test records of both classes.
    """
    figure = _plot_curves(by_method, colors, roc_curve)
    if figure is not None:
        axes = figure.axes[0]
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle="--", zorder=0)
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")
    return figure


def plot_precision_recall(by_method: _ByMethod, colors: Mapping[str, str]) -> Figure | None:
    """Plot precision-recall curves, and the precision of random scores as a dashed line.

    Args:
        by_method: Predictions for a binary task, by method and repeat.
        colors: Color of each method.

    Returns:
        The figure, with EnECG's 95% interval; None if no repeat has test records of both classes.
    """
    figure = _plot_curves(by_method, colors, precision_recall_curve)
    if figure is not None:
        axes = figure.axes[0]
        repeats = by_method[ENSEMBLE]
        share = float(np.mean([predictions.truth.mean() for predictions in repeats]))
        axes.axhline(share, color=MUTED, linewidth=0.8, linestyle="--", zorder=0)
        axes.set_xlabel("recall")
        axes.set_ylabel("precision")
    return figure


def _plot_curves(
    by_method: _ByMethod, colors: Mapping[str, str], compute: Callable[..., Curve | None]
) -> Figure | None:
    figure = new_figure()
    axes = figure.subplots()
    for method, repeats in by_method.items():
        main = method == ENSEMBLE
        curve = compute(repeats, interval=main)
        if curve is None:
            return None
        color, order = colors[method], 3 if main else 2
        width, alpha = (1.9, 1.0) if main else (1.0, 0.8)
        axes.plot(curve.x, curve.y, color=color, linewidth=width, alpha=alpha, zorder=order)
        if main:
            axes.fill_between(curve.x, curve.low, curve.high, color=color, alpha=0.18, linewidth=0)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    return figure


def plot_class_scores(scores: Mapping[str, Measure]) -> Figure:
    """Plot the AUROC of each class or label with its interval.

    Args:
        scores: AUROC over all repeats, by name of the class or label.

    Returns:
        The figure, with one row per class or label.
    """
    figure = new_figure(height=1.1 + 0.21 * len(scores))
    axes = figure.subplots()
    for y, score in enumerate(scores.values()):
        axes.plot([score.low, score.high], [y, y], color=ENSEMBLE_COLOR, linewidth=1.6)
        axes.plot(score.mean, y, "o", color=ENSEMBLE_COLOR, markersize=4)
    axes.axvline(0.5, color=MUTED, linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(scores)), [truncate(name, CLASS_NAME_LENGTH) for name in scores])
    axes.set_ylim(len(scores) - 0.4, -0.6)
    axes.set_xlim(min(0.45, *(score.low for score in scores.values())), 1.01)
    axes.set_xlabel("AUROC")
    return figure
