"""Results page of a run, a self-contained HTML file."""

from pathlib import Path

from pipeline.datasets.base import Dataset
from pipeline.report.ecg_section import EcgDrawings
from pipeline.report.formats import render_page, write_html
from pipeline.report.notes import other_metrics_notes, pretraining_warnings, untrained_warning
from pipeline.report.paper_tables import figure3, other_metrics_tables, page_tables
from pipeline.report.plots import method_colors
from pipeline.report.summary import build_cards, list_facts
from pipeline.report.table import method_label
from pipeline.report.task_section import build_section
from pipeline.report.theme import css_color, figure_style
from pipeline.runs.results import PAGE_WITH_ECGS, RunResults
from pipeline.runs.run_details import read_details

PAGE = "results.html"


def write_page(run: RunResults, *, out: Path | None = None, dataset: Dataset | None = None) -> Path:
    """Draw the results page of a run from the files in its folder.

    Args:
        run: Results of the run.
        out: Path of the page. Default: `results.html` in the run folder, or
            `results-with-ecgs.html` with `dataset`.
        dataset: The data set of the run. If given, the page shows ECGs with the largest errors and
            with typical errors and their record ids, and only the owner of the file can read it.
            Default: no ECGs.

    Returns:
        Path of the page.

    Raises:
        UserError: A file of the run is missing or damaged, the data set is another one, or the
            page cannot be written.
    """
    path = out or run.folder / (PAGE if dataset is None else PAGE_WITH_ECGS)
    drawings = None if dataset is None else EcgDrawings(dataset, run)
    details = read_details(run)
    with figure_style():
        sections = [build_section(run, details, task) for task in run.tasks.values()]
    examples = (
        {}
        if drawings is None
        else {name: drawings.build(details, name, list(run.weights)) for name in run.tasks}
    )
    tables, notes = page_tables(run)
    page = render_page(
        "page.html",
        run=run,
        config=run.config,
        facts=list_facts(run),
        cards=build_cards(run),
        tables=tables,
        notes=notes,
        others=other_metrics_tables(run, run.methods),
        others_notes=other_metrics_notes(run),
        warning=untrained_warning(run.untrained),
        pretraining_warnings=pretraining_warnings(run.config["dataset"], run.pretrained),
        resources=figure3(run),
        sections=sections,
        examples=examples,
        ecgs=[] if drawings is None else list(drawings.figures.values()),
        legend=[
            (method_label(method, run), css_color(color))
            for method, color in method_colors(run).items()
        ],
    )
    write_html(page, path, private=dataset is not None)
    return path
