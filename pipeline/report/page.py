"""Results page of a run, a self-contained HTML file."""

import base64
import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.text import Text

from enecg.metrics import BINS
from pipeline.report.formats import templates
from pipeline.report.gate_plot import plot_gate_weights
from pipeline.report.label_efficiency_plot import plot_label_efficiency
from pipeline.report.label_table import label_tables
from pipeline.report.notes import other_metrics_notes, pretraining_warnings, untrained_warning
from pipeline.report.paper_tables import all_tables, figure3, other_metrics_tables
from pipeline.report.plots import plot_learning_curves, plot_scores
from pipeline.report.prediction_plots import (
    describe_thresholds,
    plot_confusions,
    plot_regressions,
    truncated_names,
)
from pipeline.report.reliability_plot import MIN_BIN_RECORDS, plot_reliability
from pipeline.report.table import method_label
from pipeline.runs.results import RunResults
from pipeline.training.repeat import Repeat

PAGE = "results.html"


# Names of tasks and classes may contain "$", which is not a formula.
@matplotlib.rc_context({"text.parse_math": False})
def write_page(run: RunResults, repeats: Sequence[Repeat]) -> Path:
    """Write the results page of a run.

    Args:
        run: Results of the run.
        repeats: The trained repeats of the run.

    Returns:
        Path of `results.html` in the run folder.
    """
    page = (
        templates()
        .get_template("page.html")
        .render(
            run=run,
            config=run.config,
            tables=all_tables(run),
            others=other_metrics_tables(run, run.methods),
            labels=label_tables(repeats),
            others_notes=other_metrics_notes(run),
            warnings=[
                *([untrained_warning(run.untrained)] if run.untrained else []),
                *pretraining_warnings(run.config["dataset"], run.pretrained),
            ],
            resources=figure3(run),
            figures=[
                (title, caption, encode_png(figure))
                for title, caption, figure in _plot_figures(run, repeats)
                if figure is not None
            ],
        )
    )
    path = run.folder / PAGE
    path.write_text(page)
    return path


def _plot_figures(
    run: RunResults, repeats: Sequence[Repeat]
) -> list[tuple[str, str, Figure | None]]:
    """Return the title, caption and figure of each plot; the figure may be None."""
    return [
        (
            "Scores",
            ("Dots: mean over repeats. Ticks: single repeats. " if len(repeats) > 1 else "")
            + "Lines: 95% interval, bootstrap by patient. Dashed: constant predictor. "
            "Dotted: chance.",
            plot_scores(run),
        ),
        (
            "Label efficiency",
            "Scores on test patients by fraction of the training and validation patients, mean "
            "over repeats. Area: 95% interval of EnECG.",
            plot_label_efficiency(run),
        ),
        (
            "Regression",
            "EnECG's predictions for test records of all repeats. Line: predicted equals true.",
            plot_regressions(repeats),
        ),
        ("Confusion matrices", _describe_confusions(run, repeats), plot_confusions(repeats)),
        (
            "Calibration",
            f"Test records of all repeats in {BINS} equal-width bins of the predicted "
            "probability. Dot areas: number of records. Lines connect adjacent bins with at "
            f"least {MIN_BIN_RECORDS} records. Dashed: perfect calibration.",
            plot_reliability(run),
        ),
        (
            "Gate weights per expert",
            "Weights sum to 1 for each record and task. Below each task: test records by true "
            "class or label, or by thirds of the true value (number of records).",
            plot_gate_weights(repeats, [method_label(name, run) for name in run.weights])
            if len(run.weights) > 1
            else None,
        ),
        (
            "Learning curves",
            "First repeat. Each task uses the weights of its own best epoch.",
            plot_learning_curves(repeats),
        ),
    ]


def _describe_confusions(run: RunResults, repeats: Sequence[Repeat]) -> str:
    sentences = [
        "EnECG's predictions for test records of all repeats: number of records by true class "
        "(row) and predicted class (column). Color: share of the row."
    ]
    if any(targets.task.other_class for targets in repeats[0].targets.values()):
        sentences.append("Diagnoses that are not a class in a repeat count as Others.")
    sentences.append(describe_thresholds(run))
    if names := truncated_names(repeats):
        sentences.append(f"Truncated names in full: {'; '.join(names)}.")
    return " ".join(filter(None, sentences))


def encode_png(figure: Figure) -> str:
    """Render a figure as PNG and encode it in base64 for an HTML page."""
    buffer = io.BytesIO()
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    with warnings.catch_warnings():
        # The warning repeats characters of class names, which may control the terminal.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(buffer, format="png", dpi=130)
    return base64.b64encode(buffer.getvalue()).decode()
