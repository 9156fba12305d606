"""The page of a sweep: its trials as a table and as plots."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from pipeline.report.formats import environment, markdown
from pipeline.report.page import png
from pipeline.report.plots import ENSEMBLE_COLOUR, EXPERT_COLOUR
from pipeline.report.table import NOT_FOR_THIS, Table, warning
from pipeline.training.sweep import Sweep, SweepSummary

PAGE = "sweep.html"
TABLES = "sweep.md"
SHOWN = 20
"""Trials in the table; all of them are in the CSV file."""
ACROSS = 3
"""Panels in a row of the figure."""


def write_sweep(sweep: Sweep) -> str:
    """Write table and page into the sweep's folder; returns the table in Markdown."""
    table, origin = tabulate(sweep), about(sweep.summary)
    untrained = [warning(sweep.summary.untrained)] if sweep.summary.untrained else []
    text = "\n\n".join([origin, *untrained, markdown([table])])
    (sweep.folder / TABLES).write_text(text)
    page = (
        environment()
        .get_template("sweep.html")
        .render(
            dataset=sweep.summary.dataset,
            origin=origin,
            untrained=untrained,
            best=settings(sweep.best),
            loss=sweep.loss,
            picture=png(plot(sweep.trials)),
            table=table,
        )
    )
    (sweep.folder / PAGE).write_text(page)
    return text


def about(origin: SweepSummary) -> str:
    """What a sweep was made from, in a line."""
    experts = ", ".join(f"{name} ({weights})" for name, weights in origin.weights.items())
    return (
        f"{', '.join(origin.tasks)}, of {origin.records:,} ECGs of {origin.patients:,} patients of "
        f"{origin.dataset}; experts: {experts}; {origin.finished.replace('T', ' ')}."
    )


def tabulate(sweep: Sweep) -> Table:
    """The best trials, the best first."""
    shown = sweep.trials.head(SHOWN)
    names = _settings(shown)
    rows = tuple(
        (str(row["trial"]), f"{row['loss']:.3f}", *(_told(row[name]) for name in names))
        for _, row in shown.iterrows()
    )
    heading = ("trial", "loss left ↓", *(name.replace("_", " ") for name in names))
    notes = (
        f"{len(sweep.trials)} trials. Loss: the mixture's on validation patients, as a share of "
        "the constant predictor's, mean over tasks; 1 is no better.",
        "Patients are split 70/20/10. Chosen on validation patients: only a training tells what "
        "test patients say of it. Its repeats of other seeds test on some who were chosen by here.",
        *sweep.summary.notes,
    )
    return Table("Best trials", heading, rows, frozenset({(0, 1)}), notes)


def settings(chosen: Mapping[str, Any]) -> str:
    """Settings in words."""
    return ", ".join(f"{name.replace('_', ' ')} {_told(value)}" for name, value in chosen.items())


def plot(trials: pd.DataFrame) -> Figure:
    """The best loss so far, and the loss by each setting that was tried with several values."""
    names = [name for name in _settings(trials) if trials[name].nunique() > 1]
    down = math.ceil((1 + len(names)) / ACROSS)
    figure = Figure(figsize=(3.6 * ACROSS, 2.9 * down), layout="constrained")
    grid = figure.subplots(down, ACROSS, sharey=True, squeeze=False).ravel()
    in_order = trials.sort_values("trial")
    grid[0].plot(in_order["trial"], in_order["loss"], "o", markersize=4, color=EXPERT_COLOUR)
    grid[0].step(in_order["trial"], in_order["loss"].cummin(), where="post", color=ENSEMBLE_COLOUR)
    grid[0].xaxis.get_major_locator().set_params(integer=True)
    grid[0].set_xlabel("trial (line: the best so far)", fontsize=10)
    for axes, name in zip(grid[1:], names, strict=False):
        _by_setting(axes, trials.dropna(subset=[name]), name)
        axes.set_xlabel(name.replace("_", " "), fontsize=10)
    for place, axes in enumerate(grid):
        axes.set_visible(place <= len(names))
        axes.tick_params(labelsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        if place % ACROSS == 0:
            axes.set_ylabel("loss left on validation", fontsize=10)
    return figure


def _by_setting(axes: Any, trials: pd.DataFrame, name: str) -> None:
    """Losses by one setting: learning rates on whole decades, other values side by side in their
    order, as far as they have one.
    """
    if name == "learning_rate":
        exponents = np.log10(trials[name].astype(float))
        axes.set_xscale("log")
        axes.set_xlim(10.0 ** np.floor(exponents.min()), 10.0 ** np.ceil(exponents.max()))
        axes.xaxis.set_major_locator(LogLocator())
        axes.xaxis.set_minor_locator(NullLocator())
        places = trials[name]
    else:
        values = sorted(trials[name].unique())
        axes.set_xticks(range(len(values)), map(_told, values))
        axes.set_xlim(-0.5, len(values) - 0.5)
        places = trials[name].map({value: place for place, value in enumerate(values)})
    axes.plot(places, trials["loss"], "o", markersize=4, color=EXPERT_COLOUR)


def _settings(trials: pd.DataFrame) -> list[str]:
    return [name for name in trials.columns if name not in ("trial", "loss")]


def _told(value: Any) -> str:
    if pd.isna(value):
        return NOT_FOR_THIS
    return f"{value:.4g}" if isinstance(value, float) else str(value)
