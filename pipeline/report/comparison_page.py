"""Page that compares runs: settings that differ, scores, and paired differences."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from pipeline.evaluation.differences import Difference
from pipeline.evaluation.predictions import CONSTANT, ENSEMBLE, RIDGE
from pipeline.report.comparison import choose_names, compare_runs
from pipeline.report.difference_table import MINUS, format_difference
from pipeline.report.figures import PageFigure
from pipeline.report.formats import render_page, write_html
from pipeline.report.notes import untrained_warning
from pipeline.report.prediction_plots import truncate
from pipeline.report.table import Table, score_heading
from pipeline.report.theme import ENSEMBLE_COLOR, MUTED, figure_style, new_figure, to_svg
from pipeline.runs.paired_runs import compare_predictions
from pipeline.runs.results import PREDICTIONS, RunResults
from pipeline.runs.task_summary import TaskSummary

DIFFERENCES = f"Differences of {ENSEMBLE} from the first run"


def write_comparison(runs: Sequence[RunResults], out: Path) -> None:
    """Write a page that compares runs of one data set; the first run is the reference.

    Args:
        runs: Results of two or more runs.
        out: Path of the page.

    Raises:
        UserError: The runs have different data sets, a file of a run is missing or damaged, or the
            page cannot be written.
    """
    tables = compare_runs(runs)
    names = choose_names(runs)
    tasks = {name: task for run in runs for name, task in run.tasks.items()}
    with figure_style():
        figures = [
            PageFigure(
                task.title,
                to_svg(_plot_scores(runs, names, task), f"{task.title}: scores"),
                "EnECG and, in gray, ridge regression. Dots: mean. Ticks: single repeats. Lines: "
                "95% interval. Dashed: constant predictor of the first run.",
            )
            for task in tasks.values()
        ]
    page = render_page(
        "comparison.html",
        names=names,
        dataset=runs[0].config["dataset"],
        facts=[
            (
                name,
                f"{run.config['records']:,} available ECGs of {run.config['patients']:,} patients; "
                f"{', '.join(f'{name} ({weights})' for name, weights in run.weights.items())}; "
                f"finished {run.config['finished'].replace('T', ' ')}",
            )
            for name, run in zip(names, runs, strict=True)
        ],
        warnings=[
            f"{name}: {untrained_warning(run.untrained)}"
            for name, run in zip(names, runs, strict=True)
            if run.untrained
        ],
        settings=tables[0],
        differences=_difference_table(runs, names, list(tasks.values())),
        figures=figures,
        scores=tables[1:],
    )
    write_html(page, out)


def _difference_table(
    runs: Sequence[RunResults], names: Sequence[str], tasks: Sequence[TaskSummary]
) -> Table:
    """Build a table with one row per task and metric, and one column per run after the first."""
    reference = runs[0]
    notes = [
        f"Run minus {names[0]}: mean over repeats [95% interval of the paired difference, both "
        "runs on the same bootstrap draws of patients]. Negative values of errors (↓) and positive "
        "values of scores (↑) are better."
    ]
    columns: list[dict[tuple[str, str], Difference]] = []
    for name, run in zip(names[1:], runs[1:], strict=True):
        differences: tuple[Difference, ...] = ()
        if run.config["cohorts_digest"] != reference.config["cohorts_digest"]:
            notes.append(
                f"{name}: no paired differences, because its seeds or patients differ from those "
                f"of {names[0]}."
            )
        elif not all((folder / PREDICTIONS).is_file() for folder in (run.folder, reference.folder)):
            notes.append(f"{name}: no paired differences, because predictions are missing.")
        else:
            differences = compare_predictions(run, reference)
        columns.append(
            {(difference.task, difference.metric): difference for difference in differences}
        )
    keys = dict.fromkeys(key for column in columns for key in column)
    by_name = {task.name: task for task in tasks}
    rows = tuple(
        (
            score_heading(by_name[task])
            if metric == by_name[task].metric_name
            else f"{by_name[task].title}, {metric} ↑",
            *(format_difference(column.get((task, metric))) for column in columns),
        )
        for task, metric in keys
    )
    heading = ("", *(f"{name} {MINUS} {names[0]}" for name in names[1:]))
    return Table(DIFFERENCES, heading, rows, notes=tuple(notes))


def _plot_scores(runs: Sequence[RunResults], names: Sequence[str], task: TaskSummary) -> Figure:
    """Plot the main metric of EnECG and of ridge regression in each run."""
    figure = new_figure(height=1.0 + 0.45 * len(runs))
    axes = figure.subplots()
    for height, run in enumerate(runs):
        for method, color, shift in ((ENSEMBLE, ENSEMBLE_COLOR, -0.14), (RIDGE, MUTED, 0.14)):
            score = run.score(method, task.name)
            if score is not None:
                y = height + shift
                axes.plot([score.low, score.high], [y, y], color=color, linewidth=1.8)
                axes.plot(score.values, [y] * len(score.values), "|", color=color, markersize=6)
                axes.plot(score.mean, y, "o", color=color, markersize=4)
    constant = runs[0].score(CONSTANT, task.name)
    if constant is not None:
        axes.axvline(constant.mean, color=MUTED, linestyle="--", linewidth=0.8)
    axes.set_yticks(range(len(runs)), [truncate(name, 28) for name in names])
    axes.set_ylim(len(runs) - 0.4, -0.6)
    better = "higher is better" if task.higher_is_better else "lower is better"
    axes.set_xlabel(f"{task.metric_name} {task.unit}".rstrip() + f" ({better})")
    return figure
