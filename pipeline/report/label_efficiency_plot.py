"""Plot of label-efficiency curves."""

from matplotlib.figure import Figure

from pipeline.evaluation.label_fractions import format_fraction
from pipeline.evaluation.predictions import CONSTANT, ENSEMBLE, RIDGE
from pipeline.report.label_efficiency_table import list_methods
from pipeline.report.theme import (
    ENSEMBLE_COLOR,
    EXPERT_COLOR,
    MUTED,
    OTHER_ENSEMBLE_COLOR,
    new_figure,
)
from pipeline.runs.results import RunResults
from pipeline.runs.task_summary import TaskSummary


def plot_label_efficiency(run: RunResults, task: TaskSummary) -> Figure | None:
    """Plot the main metric of a task by the fraction of training and validation patients.

    Args:
        run: Results of a run.
        task: The task.

    Returns:
        The figure; None if there are fewer than two fractions, or no scores for the task.
    """
    by_method = {
        method: [
            (fraction.fraction, score)
            for fraction in run.label_fractions
            if (score := fraction.score(method, task.name)) is not None
        ]
        for method in list_methods(run)
    }
    if len(run.label_fractions) < 2 or not any(by_method.values()):
        return None
    figure = new_figure()
    axes = figure.subplots()
    for method, points in by_method.items():
        fractions = [fraction for fraction, _ in points]
        means = [score.mean for _, score in points]
        style, color = "--" if method == CONSTANT else "o-", _color(method)
        axes.plot(fractions, means, style, color=color, label=method, markersize=4)
        if method == ENSEMBLE:
            low, high = ([getattr(score, end) for _, score in points] for end in ("low", "high"))
            axes.fill_between(fractions, low, high, color=color, alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    ticks = [fraction.fraction for fraction in run.label_fractions]
    axes.set_xticks(ticks, [format_fraction(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("patients")
    axes.set_ylabel(f"{task.metric_name} {task.unit}".rstrip())
    axes.legend()
    return figure


def _color(method: str) -> str:
    colors = {ENSEMBLE: ENSEMBLE_COLOR, RIDGE: OTHER_ENSEMBLE_COLOR, CONSTANT: MUTED}
    return colors.get(method, EXPERT_COLOR)
