"""Plots of scores and learning curves."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from pipeline.evaluation.predictions import BASELINES, CONSTANT, ENSEMBLE, RIDGE, ZERO_SHOT
from pipeline.report.table import method_label
from pipeline.runs.results import RunResults
from pipeline.training.repeat import Repeat

ENSEMBLE_COLOR = "#c0392b"
EXPERT_COLOR = "#34608c"
OTHER_ENSEMBLE_COLOR = "#c98b2b"


def plot_scores(run: RunResults) -> Figure:
    """Plot the main metric of each task by method, with 95% intervals."""
    # Untrained heads are omitted: their large errors would set the scale.
    methods = [name for name in run.methods if not name.startswith(ZERO_SHOT)][::-1]
    figure = Figure(figsize=(11, 1.4 + 0.28 * len(methods)), layout="constrained")
    grid = figure.subplots(1, len(run.tasks), squeeze=False)[0]
    for axes, task in zip(grid, run.tasks.values(), strict=True):
        for height, method in enumerate(methods):
            score = run.score(method, task.name)
            if score is None:
                continue
            if method in BASELINES:
                line = "--" if method == CONSTANT else ":"
                axes.axvline(score.mean, color="grey", linestyle=line, linewidth=1)
            color = _color(method, run)
            axes.plot([score.low, score.high], [height, height], color=color, linewidth=2)
            axes.plot(score.values, [height] * len(score.values), "|", color=color, markersize=7)
            axes.plot(score.mean, height, "o", color=color, markersize=5)
        first = axes is grid[0]
        names = [method_label(method, run) for method in methods] if first else []
        axes.set_yticks(range(len(methods)) if first else [], names)
        axes.set_ylim(-0.6, len(methods) - 0.4)
        better = "higher is better" if task.higher_is_better else "lower is better"
        axes.set_title(task.title, fontsize=10)
        axes.set_xlabel(f"{task.metric_name} {task.unit}\n({better})", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _color(method: str, run: RunResults) -> str:
    if method in (*BASELINES, RIDGE):
        return "grey"
    if method in run.weights:
        return EXPERT_COLOR
    return ENSEMBLE_COLOR if method == ENSEMBLE else OTHER_ENSEMBLE_COLOR


def plot_learning_curves(repeats: Sequence[Repeat]) -> Figure:
    """Plot the validation loss per epoch of each expert's heads and the gate, first repeat."""
    first = repeats[0]
    figure = Figure(figsize=(11, 2.7), layout="constrained")
    grid = figure.subplots(1, len(first.targets), squeeze=False)[0]
    for axes, (name, targets) in zip(grid, first.targets.items(), strict=True):
        for expert, fit in first.heads.items():
            axes.plot(fit.validation_loss[name], label=expert, linewidth=1)
        if gate := first.gate.validation_loss.get(name):
            axes.plot(gate, label=ENSEMBLE, color=ENSEMBLE_COLOR, linewidth=1.5)
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
