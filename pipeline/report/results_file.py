"""The tables of a run or an evaluation in Markdown, written into its folder."""

from pipeline.report.formats import to_markdown
from pipeline.report.notes import NOT_A_DEVICE
from pipeline.report.paper_tables import all_tables
from pipeline.runs.results import RunResults

TABLES = "results.md"


def write_markdown(run: RunResults) -> str:
    """Write the tables of a run to `results.md` in its folder and return them."""
    text = f"{to_markdown(all_tables(run))}\n{NOT_A_DEVICE}\n"
    (run.folder / TABLES).write_text(text, encoding="utf-8")
    return text
