"""Tables as Markdown, CSV and HTML."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape

from enecg.errors import UserError
from pipeline.report.table import Table


def markdown(tables: Sequence[Table]) -> str:
    """Tables in Markdown, their columns aligned for a terminal."""
    parts = []
    for table in tables:
        lines = [table.heading, *table.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(table.heading))]
        told = [f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines]
        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        head = [f"**{table.title}**", ""] if table.title else []
        parts.append("\n".join([*head, told[0], rule, *told[1:]]))
        if table.notes:
            parts.append("\n".join(table.notes))
    return "\n\n".join(parts) + "\n"


def comma_separated(tables: Sequence[Table]) -> str:
    """Tables in CSV, one below the other, an empty line between; no notes."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for number, table in enumerate(tables):
        if number:
            buffer.write("\n")
        writer.writerow((table.title, *table.heading[1:]))
        writer.writerows(table.rows)
    return buffer.getvalue()


def environment() -> Environment:
    """The templates of the page."""
    return Environment(loader=PackageLoader("pipeline.report"), autoescape=select_autoescape())


def html(tables: Sequence[Table]) -> str:
    """Tables as a page of their own."""
    return environment().get_template("tables.html").render(tables=tables)


FORMATS = {".md": markdown, ".csv": comma_separated, ".html": html}


def write(tables: Sequence[Table], out: Path) -> None:
    """Write tables in the format of the file's suffix. Raises UserError where that cannot be."""
    if out.suffix not in FORMATS:
        raise UserError(f"{out} has no suffix of {', '.join(FORMATS)}, which says the format.")
    try:
        out.write_text(FORMATS[out.suffix](tables))
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror}); give another.") from error
