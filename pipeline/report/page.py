"""The results page: one HTML file that holds its plots, so it can be mailed as it is."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape
from matplotlib.figure import Figure

from pipeline.evaluate import Score
from pipeline.repeat import Inputs, Repeat
from pipeline.report import plots
from pipeline.report.table import tabulate

PAGE = "results.html"


def write_page(
    folder: Path,
    inputs: Inputs,
    repeats: Sequence[Repeat],
    scores: Sequence[Score],
    seconds: float,
) -> Path:
    """Write the page of a run into its folder; returns its path."""
    experts = list(inputs.cache.experts)
    figures = [
        (
            "Scores",
            "Dots: mean over repeats; ticks: each repeat; lines: 95 % interval, bootstrap "
            "by patient; dashed: the constant predictor.",
            plots.scores(scores, inputs.cache),
        ),
        (
            "EnECG's answers on test patients",
            "Points: all repeats. Squares: the share of each true "
            "class (row) that was given each answer.",
            plots.answers(repeats),
        ),
        (
            "Whom the gate listens to",
            "Weights sum to 1 for every record and task.",
            plots.gate_weights(repeats, experts),
        ),
        (
            "Learning",
            "First repeat; each task keeps its own best epoch.",
            plots.learning_curves(repeats),
        ),
    ]
    environment = Environment(
        loader=PackageLoader("pipeline.report"), autoescape=select_autoescape()
    )
    page = environment.get_template("page.html").render(
        dataset=inputs.dataset.namespace,
        records=len(inputs.record_id),
        patients=inputs.labels["patient_id"].nunique(),
        untrained=[
            name
            for name, store in inputs.cache.experts.items()
            if store.provenance["weights"].startswith("random:")
        ],
        seconds=seconds,
        table=tabulate(scores, inputs, [one.cohort.seed for one in repeats]),
        figures=[(title, words, _png(figure)) for title, words, figure in figures],
        stores=[(store.provenance, str(store.location)) for store in inputs.cache.stores],
    )
    path = folder / PAGE
    path.write_text(page)
    return path


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return base64.b64encode(buffer.getvalue()).decode()
