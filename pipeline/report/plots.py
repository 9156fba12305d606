"""Plots of scores and learning curves."""

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.evaluation.predictions import (
    BASELINES,
    CONSTANT,
    ENSEMBLE,
    RANDOM,
    RIDGE,
    WITHOUT,
    ZERO_SHOT,
)
from pipeline.report.table import method_label
from pipeline.report.theme import (
    ENSEMBLE_COLOR,
    EXPERT_COLOR,
    EXPERT_COLORS,
    MUTED,
    OTHER_ENSEMBLE_COLOR,
    new_figure,
)
from pipeline.runs.results import RunResults
from pipeline.runs.task_summary import TaskSummary
from pipeline.runs.training_details import Curves


def plot_scores(run: RunResults, task: TaskSummary) -> Figure:
    """Plot the main metric of a task by method, with 95% intervals.

    Args:
        run: Results of a run.
        task: Task of the run.

    Returns:
        The figure. Two kinds of methods are omitted: experts with untrained heads (`ZERO_SHOT`),
        and EnECG with one expert left out (`WITHOUT`).
    """
    # The large errors of untrained heads would dominate the scale.
    methods = [
        name
        for name in run.methods
        if not name.startswith((ZERO_SHOT, WITHOUT)) and run.score(name, task.name) is not None
    ]
    figure = new_figure(height=0.9 + 0.24 * len(methods))
    axes = figure.subplots()
    for height, method in enumerate(methods):
        score = run.score(method, task.name)
        assert score is not None
        if method in BASELINES:
            line = "--" if method == CONSTANT else ":"
            axes.axvline(score.mean, color=MUTED, linestyle=line, linewidth=0.8)
        color = _color(method, run)
        axes.plot([score.low, score.high], [height, height], color=color, linewidth=2)
        axes.plot(score.values, [height] * len(score.values), "|", color=color, markersize=7)
        axes.plot(score.mean, height, "o", color=color, markersize=4.5)
    axes.set_yticks(range(len(methods)), [_short_label(method, run) for method in methods])
    axes.set_ylim(len(methods) - 0.4, -0.6)
    better = "higher is better" if task.higher_is_better else "lower is better"
    axes.set_xlabel(f"{task.metric_name} {task.unit}".rstrip() + f" ({better})")
    return figure


def _short_label(method: str, run: RunResults) -> str:
    """Return a method's name, with an asterisk if it uses an expert with random weights."""
    if method.startswith(RANDOM):
        return f"{method.removeprefix(RANDOM)}, random*"
    return f"{method}*" if "untrained" in method_label(method, run) else method


def _color(method: str, run: RunResults) -> str:
    if method in (*BASELINES, RIDGE) or method.startswith(RANDOM):
        return MUTED
    if method in run.weights:
        return EXPERT_COLOR
    return ENSEMBLE_COLOR if method == ENSEMBLE else OTHER_ENSEMBLE_COLOR


def method_colors(run: RunResults) -> dict[str, str]:
    """Return the color of each expert and of EnECG in plots with one curve per method."""
    colors = {
        name: EXPERT_COLORS[index % len(EXPERT_COLORS)] for index, name in enumerate(run.weights)
    }
    return colors | {ENSEMBLE: ENSEMBLE_COLOR}


def plot_learning_curves(curves: Curves, task: str, colors: Mapping[str, str]) -> Figure | None:
    """Plot the validation loss before training and after each epoch, one curve per method.

    A point marks the epoch with the lowest loss.

    Args:
        curves: Learning curves of one repeat: those of the experts' heads and of the gate.
        task: Name of the task.
        colors: Colors by method. Only these methods are plotted.

    Returns:
        The figure; None if no curve has more than one value, because no heads or gate were trained
        by gradient descent.
    """
    by_method = {
        method: curves[method][task]
        for method in colors
        if len(curves.get(method, {}).get(task, ())) > 1
    }
    if not by_method:
        return None
    figure = new_figure()
    axes = figure.subplots()
    for method, losses in by_method.items():
        main = method == ENSEMBLE
        axes.plot(losses, color=colors[method], linewidth=1.9 if main else 1.2)
        best = min(range(len(losses)), key=losses.__getitem__)
        axes.plot(best, losses[best], "o", color=colors[method], markersize=4)
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
