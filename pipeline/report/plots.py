"""The page's plots, each a matplotlib Figure."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from enecg.tasks import TASKS
from pipeline.cache import Cache
from pipeline.evaluate import CONSTANT, ENSEMBLE, Predicted, Score
from pipeline.repeat import Repeat
from pipeline.report.table import label

ENSEMBLE_COLOUR = "#c0392b"
EXPERT_COLOUR = "#34608c"


def scores(all_scores: Sequence[Score], cache: Cache) -> Figure:
    """Each task's metric by method, with its 95 % interval; the constant predictor as a line."""
    tasks = list(dict.fromkeys(score.task for score in all_scores))
    figure = Figure(figsize=(11, 1.0 + 0.42 * len(cache.experts) + 1.2), layout="constrained")
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        here = [score for score in all_scores if score.task == task][::-1]
        for height, score in enumerate(here):
            if score.method == CONSTANT:
                axes.axvline(score.mean, color="grey", linestyle="--", linewidth=1)
            colour = ENSEMBLE_COLOUR if score.method == ENSEMBLE else EXPERT_COLOUR
            colour = "grey" if score.method == CONSTANT else colour
            axes.plot([score.low, score.high], [height, height], color=colour, linewidth=2)
            axes.plot(score.values, [height] * len(score.values), "|", color=colour, markersize=7)
            axes.plot(score.mean, height, "o", color=colour, markersize=6)
        first = task == tasks[0]
        names = [label(score.method, cache) for score in here] if first else []
        axes.set_yticks(range(len(here)) if first else [], names)
        axes.margins(y=0.15)
        it = TASKS[task]
        better = "higher is better" if it.higher_is_better else "lower is better"
        axes.set_title(it.title, fontsize=10)
        axes.set_xlabel(f"{it.metric_name} {it.unit}\n({better})", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def gate_weights(repeats: Sequence[Repeat], experts: Sequence[str]) -> Figure:
    """The mean weight that the gate gave each expert on test records, by task."""
    tasks = list(repeats[0].gate_weights)
    figure = Figure(figsize=(7, 0.7 + 0.45 * len(tasks)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(tasks))
    for place, expert in enumerate(experts):
        width = np.array(
            [
                np.mean([one.gate_weights[task][..., place].mean() for one in repeats])
                for task in tasks
            ]
        )
        axes.barh(range(len(tasks)), width, left=left, label=expert)
        for row, (start, wide) in enumerate(zip(left, width, strict=True)):
            if wide > 0.06:
                axes.text(
                    start + wide / 2,
                    row,
                    f"{wide:.2f}",
                    ha="center",
                    va="center",
                    color="white",
                    fontsize=8,
                )
        left += width
    axes.set_yticks(range(len(tasks)), [TASKS[task].title for task in tasks])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("mean weight on test records")
    axes.legend(ncols=len(experts), loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def learning_curves(repeats: Sequence[Repeat]) -> Figure:
    """Validation loss by epoch, of each expert's heads (first repeat) and of the gate."""
    first = repeats[0]
    tasks = list(first.targets)
    figure = Figure(figsize=(11, 2.4), layout="constrained")
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        for name, fit in first.heads.items():
            axes.plot(fit.validation_loss[task], label=name, linewidth=1)
        axes.plot(
            first.gate.validation_loss[task], label=ENSEMBLE, color=ENSEMBLE_COLOUR, linewidth=1.5
        )
        axes.set_title(TASKS[task].title, fontsize=10)
        axes.set_xlabel("epoch", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        if task == tasks[0]:
            axes.set_ylabel("validation loss", fontsize=8)
            axes.legend(fontsize=7, frameon=False)
    return figure


def answers(repeats: Sequence[Repeat]) -> Figure:
    """EnECG's answers against the truth: points for regressions, shares of each true class else."""
    tasks = list(repeats[0].targets)
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    # The arrhythmia's classes need more room than two.
    shares = [1.7 if TASKS[task].kind == "multiclass" else 1 for task in tasks]
    grid = figure.subplots(1, len(tasks), squeeze=False, width_ratios=shares)[0]
    for axes, task in zip(grid, tasks, strict=True):
        of_task = [
            one
            for repeat in repeats
            for one in repeat.predictions
            if (one.task.name, one.method) == (task, ENSEMBLE)
        ]
        axes.set_title(TASKS[task].title, fontsize=10)
        axes.tick_params(labelsize=7)
        if TASKS[task].kind == "regression":
            _scatter(axes, of_task)
        else:
            # The class list is each repeat's own: only one repeat's answers fit one matrix.
            _confusion(axes, of_task[0], repeats[0].targets[task].classes)
    return figure


def _scatter(axes, together: Sequence[Predicted]) -> None:  # type: ignore[no-untyped-def]
    truth = np.concatenate([one.truth for one in together])
    predicted = np.concatenate([one.predicted for one in together])
    axes.plot(truth, predicted, ".", color=EXPERT_COLOUR, alpha=0.5, markersize=4)
    ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
    axes.plot(ends, ends, color="grey", linewidth=1)
    unit = together[0].task.unit
    axes.set_xlabel(f"true, {unit}", fontsize=8)
    axes.set_ylabel(f"predicted, {unit}", fontsize=8)


def _confusion(axes, one: Predicted, classes: Sequence[str]) -> None:  # type: ignore[no-untyped-def]
    counts = confusion_matrix(one.truth, one.predicted, labels=range(len(classes)))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) == 2:
        for row, column in np.ndindex(*counts.shape):
            colour = "white" if shares[row, column] > 0.6 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour)
        axes.set_xticks(range(2), classes)
    else:
        axes.set_xticks(range(len(classes)), range(1, len(classes) + 1))
        classes = [f"{name[:28]} {place}" for place, name in enumerate(classes, start=1)]
    axes.set_yticks(range(len(classes)), classes, fontsize=6)
    axes.set_xlabel("predicted (first repeat)", fontsize=8)
