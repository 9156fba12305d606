"""Files of an explanation: page, figures and tables."""

from pathlib import Path

import matplotlib

from pipeline.explanation.results import ExplainedRecord, ExplanationResult
from pipeline.report.explanation_figure import START_S, STOP_S, plot_explanation
from pipeline.report.explanation_tables import (
    NOT_A_DEVICE,
    explanation_tables,
    to_json,
    to_long_csv,
)
from pipeline.report.formats import render_page, to_markdown
from pipeline.report.svg import encode_svg
from pipeline.runs.output_folder import replace_output

MARKER = "explanation.json"
PAGE = "explanation.html"
TABLES = "explanation.md"
SHARES = "shares.csv"
FIGURES = 3
"""Maximum number of records with a figure, starting with the first record."""

CAPTION = (
    f"{START_S:g} to {STOP_S:g} s of the record. Red increases the output, blue decreases it; each "
    "panel has its own color scale. Bars below the leads: P wave, PR segment, QRS complex, ST "
    "segment and T wave."
)


def untrained_note(result: ExplanationResult) -> str:
    """Return a warning that experts have random weights; empty if none has."""
    if not result.untrained:
        return ""
    return (
        f"Untrained experts: {', '.join(result.untrained)}. Their weights are random, so their "
        "attributions do not apply to trained experts."
    )


def to_text(result: ExplanationResult) -> str:
    """Return warnings and tables in Markdown."""
    notes = [NOT_A_DEVICE, *filter(None, [untrained_note(result)])]
    return "\n\n".join([*notes, to_markdown(explanation_tables(result))])


def write_explanation(result: ExplanationResult, folder: Path) -> None:
    """Write the page, figures, and the tables as Markdown, CSV and JSON.

    Args:
        result: The explanation. The integrated gradients of the first `FIGURES` records must
            include the contribution of each sample (`Attribution.values`).
        folder: Output folder; the files of an earlier explanation are replaced.

    Raises:
        UserError: The folder is not writable, or another process is writing to it.
    """
    figures = [
        (f"Record {record.ecg.record_id}", draw(result, record))
        for record in result.records[:FIGURES]
    ]
    page = render_page(
        "explanation.html",
        result=result,
        disclaimer=NOT_A_DEVICE,
        warning=untrained_note(result),
        figures=figures,
        caption=CAPTION,
        tables=explanation_tables(result),
    )
    with replace_output(folder, MARKER, optional=("figure-[0-9]*.svg",)) as unfinished:
        (unfinished / PAGE).write_text(page, encoding="utf-8")
        for number, (_, svg) in enumerate(figures, start=1):
            (unfinished / f"figure-{number}.svg").write_text(svg, encoding="utf-8")
        (unfinished / TABLES).write_text(to_text(result), encoding="utf-8")
        (unfinished / SHARES).write_text(to_long_csv(result), encoding="utf-8")
        (unfinished / MARKER).write_text(to_json(result), encoding="utf-8")


# Class names can contain "$", which must not be parsed as a formula.
@matplotlib.rc_context({"text.parse_math": False})
def draw(result: ExplanationResult, record: ExplainedRecord) -> str:
    """Draw the figure of a record.

    Args:
        result: The explanation.
        record: A record of the explanation; see `plot_explanation`.

    Returns:
        The figure as SVG.
    """
    title = f"Attributions of {result.title} for record {record.ecg.record_id}"
    return encode_svg(plot_explanation(result, record), title)
