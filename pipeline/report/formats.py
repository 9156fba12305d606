"""Conversion of tables to Markdown, CSV and HTML."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from enecg.errors import UserError
from pipeline.report.table import Table
from pipeline.runs.escaping import escape_markdown, replace_control

_NUMBER = re.compile(r"[+-]\d+(\.\d+)?(e[+-]?\d+)?( [±\[][\d .,±\[\]-]*)?")
"""A signed number, optionally with its deviation and interval."""


def to_markdown(tables: Sequence[Table]) -> str:
    """Format tables as Markdown, escaped, with columns aligned for a terminal."""
    parts = []
    for table in tables:
        lines = [[escape_markdown(cell) for cell in row] for row in (table.heading, *table.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(table.heading))]
        rows = [f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines]
        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        title = [f"**{escape_markdown(table.title)}**", ""] if table.title else []
        parts.append("\n".join([*title, rows[0], rule, *rows[1:]]))
        if table.notes:
            parts.append("\n".join(map(escape_markdown, table.notes)))
    return "\n\n".join(parts) + "\n"


def to_csv(tables: Sequence[Table]) -> str:
    """Format tables as CSV without notes; the title replaces the first cell of the heading."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for index, table in enumerate(tables):
        if index:
            buffer.write("\n")
        for row in ((table.title, *table.heading[1:]), *table.rows):
            writer.writerow(map(csv_cell, row))
    return buffer.getvalue()


def csv_cell(text: str) -> str:
    """Return a CSV field that a spreadsheet does not evaluate as a formula."""
    is_formula = text.startswith(("=", "+", "-", "@", "\t", "\r")) and not _NUMBER.fullmatch(text)
    return f"'{text}" if is_formula else text


def to_html(tables: Sequence[Table]) -> str:
    """Format tables as a self-contained HTML page."""
    return render_page("tables.html", tables=tables)


def render_page(template: str, **values: Any) -> str:
    """Render a page. Text is escaped, and control characters are replaced.

    Args:
        template: Name of the template.
        **values: Variables of the template.

    Returns:
        The HTML document.
    """
    environment = Environment(
        loader=PackageLoader("pipeline.report"), autoescape=select_autoescape()
    )
    return replace_control(environment.get_template(template).render(**values))


def write_html(page: str, path: Path, *, private: bool = False) -> None:
    """Write a page to a file.

    Args:
        page: The HTML document.
        path: The file; replaced if it exists.
        private: Whether only the owner of the file can read it.

    Raises:
        UserError: The file is not writable.
    """
    try:
        if private:
            path.unlink(missing_ok=True)
            path.touch(mode=0o600)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); choose another file."
        ) from error


FORMATS = {".md": to_markdown, ".csv": to_csv, ".html": to_html}


def write_tables(tables: Sequence[Table], out: Path) -> None:
    """Write tables to a file.

    Args:
        tables: The tables.
        out: Output file. The suffix selects the format: ``.md``, ``.csv`` or ``.html``.

    Raises:
        UserError: The suffix is not supported, or the file is not writable.
    """
    if out.suffix not in FORMATS:
        raise UserError(f"{out}: unknown suffix; use {', '.join(FORMATS)}.")
    try:
        out.write_text(FORMATS[out.suffix](tables), encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{out} cannot be written ({error.strerror}); choose another file."
        ) from error
