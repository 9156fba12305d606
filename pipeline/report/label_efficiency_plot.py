"""Plot of label-efficiency curves."""

from matplotlib.figure import Figure

from pipeline.evaluation.label_fractions import format_fraction
from pipeline.evaluation.predictions import CONSTANT, ENSEMBLE, RIDGE
from pipeline.report.label_efficiency_table import list_methods
from pipeline.report.plots import ENSEMBLE_COLOR, EXPERT_COLOR, OTHER_ENSEMBLE_COLOR
from pipeline.runs.results import RunResults

COLUMNS = 4
"""Number of panels per row."""


def plot_label_efficiency(run: RunResults) -> Figure | None:
    """Plot the main metric of each task by the fraction of the patients.

    Args:
        run: Results of a run.

    Returns:
        The figure; None for a run without fractions.
    """
    if len(run.label_fractions) < 2:
        return None
    columns = min(COLUMNS, len(run.tasks))
    rows = -(-len(run.tasks) // columns)
    figure = Figure(figsize=(max(4.0, 3.0 * columns), 2.9 * rows + 0.3), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(run.tasks) :]:
        axes.set_visible(False)
    for axes, task in zip(grid, run.tasks.values(), strict=False):
        for method in list_methods(run):
            points = [
                (one.fraction, score)
                for one in run.label_fractions
                if (score := one.score(method, task.name)) is not None
            ]
            if not points:
                continue
            fractions = [fraction for fraction, _ in points]
            means = [score.mean for _, score in points]
            style = "--" if method == CONSTANT else "o-"
            color = _color(method)
            axes.plot(fractions, means, style, color=color, label=method, markersize=4, linewidth=1)
            if method == ENSEMBLE:
                low, high = (
                    [getattr(score, end) for _, score in points] for end in ("low", "high")
                )
                axes.fill_between(fractions, low, high, color=color, alpha=0.15, linewidth=0)
        axes.set_xscale("log")
        ticks = [one.fraction for one in run.label_fractions]
        axes.set_xticks(ticks, [format_fraction(tick) for tick in ticks], fontsize=7)
        axes.minorticks_off()
        axes.tick_params(labelsize=7)
        axes.set_title(task.title, fontsize=10)
        axes.set_ylabel(f"{task.metric_name} {task.unit}", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    handles = dict(zip(*reversed(grid[0].get_legend_handles_labels()), strict=True))
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=len(handles),
        fontsize=8,
        frameon=False,
    )
    return figure


def _color(method: str) -> str:
    colors = {ENSEMBLE: ENSEMBLE_COLOR, RIDGE: OTHER_ENSEMBLE_COLOR, CONSTANT: "grey"}
    return colors.get(method, EXPERT_COLOR)
