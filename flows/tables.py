"""Plain text tables and sizes for the terminal."""

from collections.abc import Sequence


def format_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Format a table as lines of aligned columns.

    Args:
        header: Column titles.
        rows: The rows, each a sequence of cells. Integers are formatted with thousands separators.
            A column is right-aligned if its first cell is an integer.

    Returns:
        The header line and one line per row.
    """
    cells = [
        [f"{cell:,}" if isinstance(cell, int) else one_line(str(cell)) for cell in row]
        for row in rows
    ]
    right_aligned = [bool(rows) and isinstance(rows[0][i], int) for i in range(len(header))]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]

    def format_line(row: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right_aligned, strict=True)
        )
        return "  ".join(padded).rstrip()

    return [format_line(header), *map(format_line, cells)]


def one_line(text: str) -> str:
    """Replace line breaks, so that text from a store or run cannot imitate further output lines."""
    return text.replace("\r", "\\r").replace("\n", "\\n")


def format_bytes(count: float) -> str:
    """Format a number of bytes in decimal units: B, kB, MB or GB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} B"
