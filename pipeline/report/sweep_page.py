"""Results page of a sweep."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from pipeline.report.formats import render_page, to_markdown
from pipeline.report.notes import pretraining_warnings, untrained_warning
from pipeline.report.table import NOT_APPLICABLE, Table
from pipeline.report.theme import ENSEMBLE_COLOR, EXPERT_COLOR, figure_style, to_svg
from pipeline.runs.pretraining_data import find_pretraining_data
from pipeline.training.sweep import Sweep, SweepSummary
from pipeline.training.sweep_study import translate_write_errors

PAGE = "sweep.html"
TABLES = "sweep.md"
MAX_TRIALS = 20
"""Maximum number of trials in the table; the CSV file contains all trials."""
COLUMNS = 3
"""Number of panels per row of the figure."""


def write_sweep(sweep: Sweep) -> str:
    """Write `sweep.md` and `sweep.html` into the folder of a sweep.

    Args:
        sweep: The sweep.

    Returns:
        The Markdown.

    Raises:
        UserError: The folder is not writable.
    """
    table, summary = trials_table(sweep), describe_summary(sweep.summary)
    pretrained = find_pretraining_data(sweep.summary.dataset, sweep.summary.weights)
    warnings = [
        *([untrained_warning(sweep.summary.untrained)] if sweep.summary.untrained else []),
        *pretraining_warnings(sweep.summary.dataset, pretrained),
    ]
    text = "\n\n".join([summary, *warnings, to_markdown([table])])
    with figure_style():
        figure = plot_trials(sweep.trials)
        picture = to_svg(figure, "Relative loss by trial and by setting")
    page = render_page(
        "sweep.html",
        dataset=sweep.summary.dataset,
        summary=summary,
        warnings=warnings,
        best=format_settings(sweep.best),
        loss=sweep.loss,
        picture=picture,
        table=table,
    )
    with translate_write_errors(sweep.folder):
        (sweep.folder / TABLES).write_text(text, encoding="utf-8")
        (sweep.folder / PAGE).write_text(page, encoding="utf-8")
    return text


def describe_summary(summary: SweepSummary) -> str:
    """Describe the tasks, data and experts of a sweep."""
    experts = ", ".join(f"{name} ({weights})" for name, weights in summary.weights.items())
    return (
        f"Tasks: {', '.join(summary.tasks)}. Data: {summary.records:,} ECGs from "
        f"{summary.patients:,} patients of {summary.dataset}. Experts: {experts}. "
        f"Finished {summary.finished.replace('T', ' ')}."
    )


def trials_table(sweep: Sweep) -> Table:
    """Build a table of the best trials, sorted by loss."""
    trials = sweep.trials.head(MAX_TRIALS)
    names = _list_settings(trials)
    rows = tuple(
        (str(row["trial"]), f"{row['loss']:.3f}", *(_format_value(row[name]) for name in names))
        for _, row in trials.iterrows()
    )
    heading = ("trial", "relative loss ↓", *(name.replace("_", " ") for name in names))
    notes = (
        f"{len(sweep.trials)} trials. Relative loss: validation loss of the gated mixture divided "
        "by that of the constant predictor, mean over tasks. A value of 1 means no improvement "
        "over the constant predictor.",
        f"Patients are split {sweep.summary.split}. The losses are for validation patients; train "
        "with the best settings to get scores for test patients. Without folds, the test patients "
        "of repeats with other seeds can be training or validation patients of this sweep.",
        *sweep.summary.notes,
    )
    return Table("Best trials", heading, rows, frozenset({(0, 1)}), notes)


def format_settings(settings: Mapping[str, Any]) -> str:
    """Format settings as ``name value, name value``."""
    return ", ".join(
        f"{name.replace('_', ' ')} {_format_value(value)}" for name, value in settings.items()
    )


def plot_trials(trials: pd.DataFrame) -> Figure:
    """Plot the loss by trial and by each setting with more than one value."""
    names = [name for name in _list_settings(trials) if trials[name].nunique() > 1]
    rows = math.ceil((1 + len(names)) / COLUMNS)
    figure = Figure(figsize=(3.6 * COLUMNS, 2.9 * rows), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, sharey=True, squeeze=False).ravel()
    in_order = trials.sort_values("trial")
    grid[0].plot(in_order["trial"], in_order["loss"], "o", markersize=4, color=EXPERT_COLOR)
    grid[0].step(in_order["trial"], in_order["loss"].cummin(), where="post", color=ENSEMBLE_COLOR)
    grid[0].xaxis.get_major_locator().set_params(integer=True)
    grid[0].set_xlabel("trial (line: best so far)", fontsize=10)
    for axes, name in zip(grid[1:], names, strict=False):
        _plot_setting(axes, trials.dropna(subset=[name]), name)
        axes.set_xlabel(name.replace("_", " "), fontsize=10)
    for panel, axes in enumerate(grid):
        axes.set_visible(panel <= len(names))
        axes.tick_params(labelsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        if panel % COLUMNS == 0:
            axes.set_ylabel("relative validation loss", fontsize=10)
    return figure


def _plot_setting(axes: Any, trials: pd.DataFrame, name: str) -> None:
    """Plot the loss by a setting: learning rates on a log axis, other settings as categories."""
    if name == "learning_rate":
        exponents = np.log10(trials[name].astype(float))
        axes.set_xscale("log")
        axes.set_xlim(10.0 ** np.floor(exponents.min()), 10.0 ** np.ceil(exponents.max()))
        axes.xaxis.set_major_locator(LogLocator())
        axes.xaxis.set_minor_locator(NullLocator())
        positions = trials[name]
    else:
        values = sorted(trials[name].unique())
        axes.set_xticks(range(len(values)), map(_format_value, values))
        axes.set_xlim(-0.5, len(values) - 0.5)
        positions = trials[name].map({value: index for index, value in enumerate(values)})
    axes.plot(positions, trials["loss"], "o", markersize=4, color=EXPERT_COLOR)


def _list_settings(trials: pd.DataFrame) -> list[str]:
    return [name for name in trials.columns if name not in ("trial", "loss")]


def _format_value(value: Any) -> str:
    if pd.isna(value):
        return NOT_APPLICABLE
    return f"{value:.4g}" if isinstance(value, float) else str(value)
