"""The page's plots of scores and of learning, each a matplotlib Figure."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from pipeline.evaluation.predictions import CONSTANT, ENSEMBLE, ZERO_SHOT
from pipeline.report.table import label
from pipeline.runs.results import RunResults
from pipeline.training.repeat import Repeat

ENSEMBLE_COLOUR = "#c0392b"
EXPERT_COLOUR = "#34608c"
JOINED_COLOUR = "#c98b2b"
"""Of the ensembles besides EnECG."""


def scores(run: RunResults) -> Figure:
    """Each task's metric by method, with its 95 % interval; the constant predictor as a line.

    Experts under untrained heads are left out: their errors would set the scale.
    """
    methods = [one for one in run.methods if not one.startswith(ZERO_SHOT)][::-1]
    figure = Figure(figsize=(11, 1.4 + 0.28 * len(methods)), layout="constrained")
    grid = figure.subplots(1, len(run.tasks), squeeze=False)[0]
    for axes, task in zip(grid, run.tasks.values(), strict=True):
        for height, method in enumerate(methods):
            score = run.score(method, task.name)
            if score is None:
                continue
            if method == CONSTANT:
                axes.axvline(score.mean, color="grey", linestyle="--", linewidth=1)
            colour = _colour(method, run)
            axes.plot([score.low, score.high], [height, height], color=colour, linewidth=2)
            axes.plot(score.values, [height] * len(score.values), "|", color=colour, markersize=7)
            axes.plot(score.mean, height, "o", color=colour, markersize=5)
        first = axes is grid[0]
        names = [label(method, run) for method in methods] if first else []
        axes.set_yticks(range(len(methods)) if first else [], names)
        axes.set_ylim(-0.6, len(methods) - 0.4)
        better = "higher is better" if task.higher_is_better else "lower is better"
        axes.set_title(task.title, fontsize=10)
        axes.set_xlabel(f"{task.metric_name} {task.unit}\n({better})", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _colour(method: str, run: RunResults) -> str:
    if method == CONSTANT:
        return "grey"
    if method in run.weights:
        return EXPERT_COLOUR
    return ENSEMBLE_COLOUR if method == ENSEMBLE else JOINED_COLOUR


def learning_curves(repeats: Sequence[Repeat]) -> Figure:
    """Validation loss by epoch, of each expert's heads (first repeat) and of the gate."""
    first = repeats[0]
    figure = Figure(figsize=(11, 2.7), layout="constrained")
    grid = figure.subplots(1, len(first.targets), squeeze=False)[0]
    for axes, (name, targets) in zip(grid, first.targets.items(), strict=True):
        for expert, fit in first.heads.items():
            axes.plot(fit.validation_loss[name], label=expert, linewidth=1)
        axes.plot(
            first.gate.validation_loss[name], label=ENSEMBLE, color=ENSEMBLE_COLOUR, linewidth=1.5
        )
        axes.set_title(targets.task.title, fontsize=10)
        axes.set_xlabel("epoch", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        if axes is grid[0]:
            axes.set_ylabel("validation loss", fontsize=8)
    figure.legend(
        *grid[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(first.heads) + 1,
        fontsize=8,
        frameon=False,
    )
    return figure
