"""Plain text tables and sizes for the terminal."""

from collections.abc import Sequence


def format_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Format a table as lines of aligned columns.

    Args:
        head: Column titles.
        rows: Cells by row. Integers get thousands separators; a column whose first cell is an
            integer is aligned to the right.

    Returns:
        The title line and one line per row.
    """
    cells = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    right = [bool(rows) and isinstance(rows[0][column], int) for column in range(len(head))]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if align_right else cell.ljust(width)
            for cell, width, align_right in zip(row, widths, right, strict=True)
        )
        return "  ".join(padded).rstrip()

    return [line(head), *map(line, cells)]


def format_bytes(count: float) -> str:
    """Format a number of bytes in B, kB, MB or GB (decimal)."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} B"
