"""A CSV file of MIMIC, plain or gzipped: its header, lines and error messages."""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from enecg.errors import UserError

_MAX_HEADER_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 20

_QUOTES = re.compile(rb'(?P<field_start>[,\r\n] *)?(?P<quotes>"+)')
"""Consecutive quotes and, at the start of a field, the separator before them. An even number of
quotes does not open or close a field: they are escaped quotes or an empty field."""


def is_compressed(path: Path) -> bool:
    """Return whether a table is gzipped."""
    return path.suffix == ".gz"


def describe_invalid(path: Path, reason: str) -> str:
    """Return the message for a table that cannot be read."""
    return f"{path} is not a valid MIMIC table ({reason}); download it again."


def first_line(error: Exception) -> str:
    """Return the first line of an error's message without a final period, or its type's name."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")


def read_header(path: Path) -> tuple[str, ...]:
    """Read the column names of a table.

    Args:
        path: Plain or gzipped CSV file.

    Returns:
        The names, without surrounding spaces.

    Raises:
        UserError: The file cannot be read, or its first line is empty or too long.
    """
    try:
        with _open(path) as file:
            lines = file.read(_MAX_HEADER_BYTES).splitlines(keepends=True)
        line = lines[0].decode("utf-8-sig", errors="replace") if lines else ""
        names = next(csv.reader([line.rstrip("\r\n")]), [])
    except csv.Error as error:
        raise UserError(describe_invalid(path, first_line(error))) from error
    if not names or len(lines[0]) == _MAX_HEADER_BYTES:
        raise UserError(describe_invalid(path, "its first line is empty or too long"))
    return tuple(name.strip() for name in names)


def check_columns(path: Path, header: Sequence[str], required: Sequence[str]) -> None:
    """Check that a table has each of these columns exactly once.

    Args:
        path: The table, for error messages.
        header: Result of `read_header`.
        required: Names of the columns.

    Raises:
        UserError: A column is missing or repeated.
    """
    for column in required:
        if header.count(column) != 1:
            problem = "is repeated" if column in header else "is missing"
            raise UserError(describe_invalid(path, f"column {column} {problem}"))


def find_open_quote(path: Path) -> int | None:
    """Find a quote that opens a field and is not closed by the end of the file.

    Args:
        path: Plain or gzipped CSV file.

    Returns:
        Position of the quote in bytes in the uncompressed file, from 1; None if there is none.

    Raises:
        UserError: The file cannot be read.
    """
    opened, start, rest = None, 1, b"\n"
    with _open(path) as file:
        while True:
            block = file.read(_BLOCK_BYTES)
            data = rest + block
            # Leave quotes at the end of the block to the next iteration, because they may continue
            # in the next block.
            searched = data.rstrip(b'"').rstrip(b" ").rstrip(b",\r\n") if block else data
            for match in _QUOTES.finditer(data, 0, len(searched)):
                if len(match["quotes"]) % 2 == 0:
                    continue
                if opened is not None:
                    opened = None
                elif match["field_start"] is not None:
                    opened = start + match.start("quotes") - 1
            if not block:
                return opened
            start += len(searched)
            rest = data[len(searched) :]


def find_line(path: Path, position: int) -> int:
    """Return the number of the line that contains a byte.

    Args:
        path: Plain or gzipped CSV file.
        position: Position of the byte in the uncompressed file, from 1.

    Returns:
        The number, from 1.

    Raises:
        UserError: The file cannot be read.
    """
    remaining, newlines, returns = position - 1, 0, 0
    with _open(path) as file:
        while remaining > 0 and (block := file.read(min(remaining, _BLOCK_BYTES))):
            newlines += block.count(b"\n")
            returns += block.count(b"\r")
            remaining -= len(block)
    return 1 + (newlines or returns)


@contextmanager
def _open(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open the uncompressed contents; raise UserError if they cannot be read."""
    try:
        with gzip.open(path) if is_compressed(path) else path.open("rb") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(describe_invalid(path, first_line(error))) from error
