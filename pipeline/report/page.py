"""Results page of a run, a self-contained HTML file."""

from pathlib import Path

from pipeline.report.formats import templates
from pipeline.report.notes import other_metrics_notes, untrained_warning
from pipeline.report.paper_tables import figure3, other_metrics_tables, page_tables
from pipeline.report.plots import method_colors
from pipeline.report.summary import build_cards, list_facts
from pipeline.report.table import method_label
from pipeline.report.task_section import build_section
from pipeline.report.theme import css_color, figure_style
from pipeline.runs.results import RunResults
from pipeline.runs.run_details import read_details

PAGE = "results.html"


def write_page(run: RunResults, out: Path | None = None) -> Path:
    """Draw the results page of a run from the files in its folder.

    Args:
        run: Results of the run.
        out: Path of the page. Default: `results.html` in the run folder.

    Returns:
        Path of the page.

    Raises:
        UserError: A file of the run is missing or damaged.
    """
    path = run.folder / PAGE if out is None else out
    details = read_details(run)
    with figure_style():
        sections = [build_section(run, details, task) for task in run.tasks.values()]
    tables, notes = page_tables(run)
    page = (
        templates()
        .get_template("page.html")
        .render(
            run=run,
            config=run.config,
            facts=list_facts(run),
            cards=build_cards(run),
            tables=tables,
            notes=notes,
            others=other_metrics_tables(run, run.methods),
            others_notes=other_metrics_notes(run),
            warning=untrained_warning(run.untrained),
            resources=figure3(run),
            sections=sections,
            legend=[
                (method_label(method, run), css_color(color))
                for method, color in method_colors(run).items()
            ],
        )
    )
    path.write_text(page, encoding="utf-8")
    return path
