"""The page of a sweep: its trials as a table and as plots."""

import pandas as pd
from matplotlib.figure import Figure

from pipeline.report.formats import environment, markdown
from pipeline.report.page import png
from pipeline.report.table import Table
from pipeline.sweep import Sweep

PAGE = "sweep.html"
TABLES = "sweep.md"
SHOWN = 20
"""Trials in the table; all of them are in the CSV file."""


def write_sweep(sweep: Sweep) -> str:
    """Write table and page into the sweep's folder; returns the table in Markdown."""
    table = tabulate(sweep)
    text = markdown([table])
    (sweep.folder / TABLES).write_text(text)
    page = (
        environment()
        .get_template("sweep.html")
        .render(table=table, best=sweep.best, loss=sweep.loss, picture=png(plot(sweep.trials)))
    )
    (sweep.folder / PAGE).write_text(page)
    return text


def tabulate(sweep: Sweep) -> Table:
    """The best trials, the best first."""
    shown = sweep.trials.head(SHOWN)
    rows = tuple(
        tuple(_told(value) for value in (row["trial"], row["loss"], *row.drop(["trial", "loss"])))
        for _, row in shown.iterrows()
    )
    settings = [name for name in shown.columns if name not in ("trial", "loss")]
    notes = (
        f"{len(sweep.trials)} trials. Loss: the mixture's on validation patients, as a share of "
        "the constant predictor's, mean over tasks; 1 is no better.",
        "Chosen on validation patients: only a training tells what test patients say of it.",
    )
    heading = ("trial", "loss left ↓", *settings)
    return Table("Best trials", heading, rows, frozenset({(0, 1)}), notes)


def plot(trials: pd.DataFrame) -> Figure:
    """The best loss so far, and the loss by each setting."""
    settings = [name for name in trials.columns if name not in ("trial", "loss")]
    figure = Figure(figsize=(2.6 * (len(settings) + 1), 2.8), layout="constrained")
    grid = figure.subplots(1, len(settings) + 1, sharey=True, squeeze=False)[0]
    in_order = trials.sort_values("trial")
    grid[0].plot(in_order["trial"], in_order["loss"], "o", markersize=3, color="#34608c")
    grid[0].step(in_order["trial"], in_order["loss"].cummin(), where="post", color="#c0392b")
    grid[0].set_xlabel("trial (line: the best so far)", fontsize=8)
    grid[0].set_ylabel("loss left on validation", fontsize=8)
    for axes, name in zip(grid[1:], settings, strict=True):
        known = trials.dropna(subset=[name])
        if name == "learning_rate":
            axes.set_xscale("log")
            values = known[name]
        else:
            values = known[name].map(_told)
        axes.plot(values, known["loss"], "o", markersize=3, color="#34608c")
        axes.set_xlabel(name.replace("_", " "), fontsize=8)
    for axes in grid:
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _told(value: object) -> str:
    if isinstance(value, float):
        return "–" if pd.isna(value) else f"{value:.4g}"
    return str(value)
