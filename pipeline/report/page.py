"""The results page: one HTML file that holds its plots, so it can be mailed as it is; and the same
tables in Markdown.
"""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from enecg.metrics import BINS
from pipeline.report import plots, prediction_plots
from pipeline.report.formats import environment, markdown
from pipeline.report.paper_tables import all_other_metrics, all_tables
from pipeline.report.reliability_plot import JOINED_FROM, reliability
from pipeline.report.resource_table import resource_table
from pipeline.report.table import label, notes_on_others, warning
from pipeline.runs.results import RunResults
from pipeline.training.repeat import Repeat

PAGE = "results.html"
TABLES = "results.md"


def write_markdown(run: RunResults) -> str:
    """Write the run's tables as Markdown into its folder; returns them."""
    text = markdown(all_tables(run))
    (run.folder / TABLES).write_text(text)
    return text


def write_page(run: RunResults, repeats: Sequence[Repeat]) -> Path:
    """Write the page of a run into its folder; returns its path."""
    page = (
        environment()
        .get_template("page.html")
        .render(
            run=run,
            config=run.config,
            tables=all_tables(run),
            others=all_other_metrics(run, run.methods),
            notes_on_others=notes_on_others(run),
            warning=warning(run.untrained),
            memory=resource_table(run),
            figures=[
                (title, words, png(figure))
                for title, words, figure in _figures(run, repeats)
                if figure is not None
            ],
        )
    )
    path = run.folder / PAGE
    path.write_text(page)
    return path


def _figures(run: RunResults, repeats: Sequence[Repeat]) -> list[tuple[str, str, Figure | None]]:
    return [
        (
            "Scores",
            ("Dots: mean over repeats; ticks: each repeat. " if len(repeats) > 1 else "")
            + "Lines: 95 % interval, bootstrap by patient; dashed: the constant predictor.",
            plots.scores(run),
        ),
        (
            "EnECG's values",
            "On test patients; points of all repeats.",
            prediction_plots.regressions(repeats),
        ),
        (
            "EnECG's classes",
            _on_classes(run, repeats),
            prediction_plots.confusions(repeats),
        ),
        (
            "Can the probabilities be believed?",
            f"Test records of all repeats in {BINS} equal bins of the probability that "
            "was told. A dot's area goes with its bin's records; bins of fewer than "
            f"{JOINED_FROM} are not joined. On the dashed line as many came true as were told.",
            reliability(run),
        ),
        (
            "Whom the gate listens to",
            "Weights sum to 1 for every record and task; below each task by what is true of the "
            "record (how many).",
            prediction_plots.gate_weights(repeats, [label(name, run) for name in run.weights]),
        ),
        (
            "Learning",
            "First repeat; each task keeps its own best epoch.",
            plots.learning_curves(repeats),
        ),
    ]


def _on_classes(run: RunResults, repeats: Sequence[Repeat]) -> str:
    told = [
        "Test records of all repeats: how many of each true class (row) were given each answer; "
        "colour: their share of the row."
    ]
    if any(one.task.other_class for one in repeats[0].targets.values()):
        told.append(
            "A diagnosis that is not among a repeat's classes counts under Others in that repeat."
        )
    told.append(prediction_plots.thresholds(run))
    if cut := prediction_plots.cut_names(repeats):
        told.append(f"Names cut short, in full: {'; '.join(cut)}.")
    return " ".join(filter(None, told))


def png(figure: Figure) -> str:
    """A figure as base64, to be put into a page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return base64.b64encode(buffer.getvalue()).decode()
