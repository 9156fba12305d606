"""Tables in plain columns, the same on a terminal and in a pipe."""

from collections.abc import Sequence


def format_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A table in lines: numbers to the right with thousands apart, all else to the left."""
    cells = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    right = [bool(rows) and isinstance(rows[0][place], int) for place in range(len(head))]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]

    def line(of: Sequence[str]) -> str:
        fitted = (
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(of, widths, right, strict=True)
        )
        return "  ".join(fitted).rstrip()

    return [line(head), *map(line, cells)]


def format_bytes(count: int) -> str:
    """Bytes in the largest unit that they fill."""
    for unit, bytes_in_it in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= bytes_in_it:
            return f"{count / bytes_in_it:,.1f} {unit}"
    return f"{count} B"
