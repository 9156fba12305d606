"""The plots of one task on a results page."""

from collections.abc import Iterator
from dataclasses import dataclass

from matplotlib.figure import Figure

from enecg.metrics import BINS
from pipeline.evaluation.class_scores import measure_classes
from pipeline.evaluation.predictions import ENSEMBLE
from pipeline.report.curve_plots import plot_class_scores, plot_precision_recall, plot_roc
from pipeline.report.figures import PageFigure
from pipeline.report.gate_plot import plot_gate_weights
from pipeline.report.label_efficiency_plot import plot_label_efficiency
from pipeline.report.label_table import label_table
from pipeline.report.plots import method_colors, plot_learning_curves, plot_scores
from pipeline.report.prediction_plots import describe_thresholds, plot_confusion, truncated_names
from pipeline.report.regression_plots import (
    describe_agreement,
    describe_sample,
    plot_bland_altman,
    plot_predicted,
)
from pipeline.report.reliability_plot import MIN_BIN_RECORDS, plot_reliability
from pipeline.report.table import Table, find_measure, format_measure
from pipeline.report.theme import to_svg
from pipeline.runs.results import RunResults
from pipeline.runs.run_details import RunDetails
from pipeline.runs.task_summary import TaskSummary

_Plot = tuple[str, Figure | None, str]
"""Title, figure and caption of a plot. The figure is None if the run has no data for it."""


@dataclass(frozen=True)
class TaskSection:
    """A task on a results page.

    Attributes:
        task: The task.
        figures: Plots of the task.
        tables: The table of labels for a multilabel task; otherwise empty.
    """

    task: TaskSummary
    figures: tuple[PageFigure, ...]
    tables: tuple[Table, ...] = ()


def build_section(run: RunResults, details: RunDetails, task: TaskSummary) -> TaskSection:
    """Draw the plots of a task; call it in the context of `figure_style`.

    Args:
        run: Results of the run.
        details: Details of the run.
        task: The task.

    Returns:
        The section. Plots without data are omitted.
    """
    plots = [
        *_plot_scores(run, task),
        *_PLOTS[task.kind](run, details, task),
        *_plot_training(run, details, task),
    ]
    labels = details.targets[0][task.name].task if task.kind == "multilabel" else None
    return TaskSection(
        task,
        tuple(
            PageFigure(
                title,
                to_svg(figure, f"{task.title}: {title}"),
                caption.strip(),
                wide=figure.get_figwidth() > 6,
            )
            for title, figure, caption in plots
            if figure is not None
        ),
        () if labels is None else (label_table(details, labels),),
    )


def _plot_scores(run: RunResults, task: TaskSummary) -> Iterator[_Plot]:
    repeated = "Ticks: single repeats. " if len(run.config["seeds"]) > 1 else ""
    chance = "" if task.kind == "regression" else " Dotted: chance."
    untrained = (
        " Asterisk: with untrained experts." if run.untrained or run.random_baselines else ""
    )
    yield (
        "Scores",
        plot_scores(run, task),
        f"Dots: mean. {repeated}Lines: 95% interval. Dashed: constant predictor."
        f"{chance}{untrained}",
    )
    yield (
        "Label efficiency",
        plot_label_efficiency(run, task),
        "By fraction of the training and validation patients. Area: 95% interval of EnECG.",
    )


def _plot_regression(run: RunResults, details: RunDetails, task: TaskSummary) -> Iterator[_Plot]:
    repeats = details.ensemble(task.name)
    caption = "EnECG on test records. Dashed: predicted equals true."
    yield "Predicted and true values", plot_predicted(repeats), caption + describe_sample(repeats)
    yield "Bland-Altman", plot_bland_altman(repeats), describe_agreement(repeats)


def _plot_binary(run: RunResults, details: RunDetails, task: TaskSummary) -> Iterator[_Plot]:
    colors = method_colors(run)
    by_method = {method: details.predictions[method][task.name] for method in details.predictions}
    by_method[ENSEMBLE] = by_method.pop(ENSEMBLE)
    area = "Area: 95% interval of EnECG. Dashed: chance."
    roc = format_measure(find_measure(run, ENSEMBLE, task, "AUROC"))
    yield "ROC curve", plot_roc(by_method, colors), f"AUROC of EnECG {roc}. {area}"
    precision = format_measure(find_measure(run, ENSEMBLE, task, "AUPRC"))
    yield (
        "Precision-recall curve",
        plot_precision_recall(by_method, colors),
        f"AUPRC of EnECG {precision}. {area}",
    )
    yield from _plot_classification(run, details, task)


def _plot_classification(
    run: RunResults, details: RunDetails, task: TaskSummary
) -> Iterator[_Plot]:
    error = format_measure(find_measure(run, ENSEMBLE, task, "ECE"))
    yield (
        "Calibration",
        plot_reliability(run, task, method_colors(run)),
        f"ECE of EnECG {error}. {BINS} bins; dot areas: number of records; lines connect bins with "
        f"at least {MIN_BIN_RECORDS} records. Dashed: perfect calibration.",
    )
    other = details.targets[0][task.name].task.other_class
    sentences = [
        "EnECG on test records: number of records, color by share of the true class.",
        f"Diagnoses that are not a class in a repeat count as {other}." if other else "",
        describe_thresholds(run, task.name),
    ]
    if names := truncated_names(details, task.name):
        sentences.append(f"Truncated names in full: {'; '.join(names)}.")
    yield (
        "Confusion matrix",
        plot_confusion(details, task.name),
        " ".join(filter(None, sentences)),
    )


def _plot_multiclass(run: RunResults, details: RunDetails, task: TaskSummary) -> Iterator[_Plot]:
    yield from _plot_class_scores(details, task, "each class against the others")
    yield from _plot_classification(run, details, task)


def _plot_multilabel(run: RunResults, details: RunDetails, task: TaskSummary) -> Iterator[_Plot]:
    yield from _plot_class_scores(details, task, "each label")


def _plot_class_scores(details: RunDetails, task: TaskSummary, what: str) -> Iterator[_Plot]:
    scores = measure_classes(details.ensemble(task.name), details.classes(task.name))
    if scores:
        yield (
            "AUROC by class" if task.kind == "multiclass" else "AUROC by label",
            plot_class_scores(scores),
            f"EnECG, {what}. Lines: 95% interval. Dashed: chance.",
        )


def _plot_training(run: RunResults, details: RunDetails, task: TaskSummary) -> Iterator[_Plot]:
    colors = method_colors(run)
    if task.name in details.gate_weights:
        groups = {"regression": "third of the true value", "multilabel": "label"}
        yield (
            "Gate weights",
            plot_gate_weights(details, task.name, [colors[name] for name in run.weights]),
            "Weights sum to 1 for each record. Mean over test records (number of records) by "
            f"{groups.get(task.kind, 'true class')}.",
        )
    if details.learning_curves:
        yield (
            "Learning curves",
            plot_learning_curves(details.learning_curves[0], task.name, colors),
            "First repeat. Dots: best epoch, whose weights are used. Epoch 0: before training by "
            "gradient descent.",
        )


_PLOTS = {
    "regression": _plot_regression,
    "binary": _plot_binary,
    "multiclass": _plot_multiclass,
    "multilabel": _plot_multilabel,
}
"""Plots of the predictions, by kind of task."""
