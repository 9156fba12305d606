"""Streaming of MIMIC's CSV tables, plain or gzipped, in blocks of a few columns.

Fields are read as bytes and parsed (see `fields`) only for the rows that are needed. This is two to
four times as fast as typed columns for the lab table, and an unusual field cannot stop the reader.
"""

import codecs
import csv
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv

from enecg.errors import UserError
from pipeline.datasets.label_columns import MISSING_VALUES

BLOCK_BYTES = 4 << 20
"""Bytes parsed at a time; a row must fit into a block."""

_ROW_EXCEEDS_BLOCK = "straddling object"
"""Part of pyarrow's error message for a row longer than a block."""

_MAX_HEADER_BYTES = 1 << 16

SkippedRows = Counter[str]
"""Number of rows skipped, or used in part, by description."""


@dataclass(frozen=True)
class CsvHeader:
    """The first row of a table.

    Attributes:
        names: Column names.
        size: Length in bytes, line end included.
    """

    names: tuple[str, ...]
    size: int


@dataclass(frozen=True)
class CsvPart:
    """A range of bytes of an uncompressed table: whole rows, without the header.

    Attributes:
        number: Position among the table's parts, from 0.
        start: First byte.
        end: Byte after the last.
    """

    number: int
    start: int
    end: int


def is_compressed(path: Path) -> bool:
    """Return whether a table is gzipped and can only be read from the start."""
    return path.suffix == ".gz"


def read_header(path: Path) -> CsvHeader:
    """Read the first row of a table.

    Args:
        path: Plain or gzipped CSV file.

    Returns:
        The column names and the length of the row.

    Raises:
        UserError: The file cannot be read, or its first line is empty or too long.
    """
    with _parse_errors(path), pa.input_stream(str(path), compression="detect") as file:
        lines = file.read(_MAX_HEADER_BYTES).splitlines(keepends=True)
    if not lines or len(lines[0]) == _MAX_HEADER_BYTES:
        raise UserError(_invalid(path, "the header is missing"))
    line = lines[0].decode("utf-8-sig", errors="replace")
    with _parse_errors(path):
        names = next(csv.reader([line.rstrip("\r\n")]), [])
    return CsvHeader(tuple(name.strip() for name in names), len(lines[0]))


def check_columns(path: Path, header: CsvHeader, columns: Collection[str]) -> None:
    """Check that a table has each of these columns exactly once.

    Args:
        path: The table, for error messages.
        header: Its header.
        columns: Names of the required columns.

    Raises:
        UserError: A column is missing or occurs twice.
    """
    for name in columns:
        if header.names.count(name) != 1:
            problem = "occurs twice" if name in header.names else "is missing"
            raise UserError(_invalid(path, f"column {name} {problem}"))


def read_blocks(
    path: Path,
    columns: Sequence[str],
    skipped: SkippedRows,
    *,
    part: CsvPart | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Read columns of a table, block by block.

    Args:
        path: Plain or gzipped CSV file.
        columns: Names of the columns to read.
        skipped: Updated with the number of rows whose field count differs from the header's.
        part: The part to read. None: the whole table.
        progress: Called with the position in the file, in bytes.

    Yields:
        Blocks of binary columns, null where a field is a missing value.

    Raises:
        UserError: A column is missing, the file is damaged, or a quote is not closed. The last is
            only detected at the end.
    """
    header = read_header(path)
    check_columns(path, header, columns)
    ragged, utf8 = _RaggedRows(), _Utf8()
    rows = 0
    with _parse_errors(path), pa.OSFile(str(path)) as raw:
        stream = pa.TransformInputStream(_open_body(raw, path, header, part), utf8)
        for batch in _parse_blocks(stream, header.names, columns, ragged):
            rows += len(batch)
            yield batch
            if progress is not None:
                progress(raw.tell())
    if utf8.quotes % 2:
        raise UserError(_unclosed_quote(path))
    if ragged.count:
        if not rows:
            raise UserError(_invalid(path, "no row has as many fields as the header"))
        skipped[f"{path.name}: rows whose number of fields differs, skipped"] += ragged.count


def _open_body(
    raw: pa.NativeFile, path: Path, header: CsvHeader, part: CsvPart | None
) -> pa.NativeFile:
    """Return a stream of the rows after the header, or of one part."""
    if part is not None:
        return raw.get_stream(part.start, part.end - part.start)
    stream = pa.CompressedInputStream(raw, "gzip") if is_compressed(path) else raw
    stream.read(header.size)
    return stream


def _parse_blocks(
    stream: pa.NativeFile, names: Sequence[str], columns: Sequence[str], ragged: "_RaggedRows"
) -> Iterator[pa.RecordBatch]:
    try:
        reader = pacsv.open_csv(
            stream,
            read_options=pacsv.ReadOptions(block_size=BLOCK_BYTES, column_names=list(names)),
            parse_options=pacsv.ParseOptions(newlines_in_values=True, invalid_row_handler=ragged),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.binary()),
                include_columns=list(columns),
                strings_can_be_null=True,
                null_values=list(MISSING_VALUES),
            ),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV file" in str(error):  # only a header
            return
        raise
    with reader:
        yield from reader


class _Utf8:
    """Replaces invalid UTF-8 by U+FFFD, which pyarrow needs to report a ragged row.

    Also counts quotes: pyarrow reads everything after an unclosed quote as one field and does not
    report it at the end of the file.
    """

    def __init__(self) -> None:
        self.quotes = 0
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __call__(self, buffer: pa.Buffer) -> bytes:
        data = bytes(buffer)
        self.quotes += data.count(b'"')
        pending, _ = self.decoder.getstate()
        if data.isascii() and not pending:
            return data
        return self.decoder.decode(data).encode()


class _RaggedRows:
    """Counts and skips rows whose number of fields differs from the header's."""

    def __init__(self) -> None:
        self.count = 0
        self.lock = threading.Lock()

    def __call__(self, row: pacsv.InvalidRow) -> str:
        with self.lock:
            self.count += 1
        return "skip"


@contextmanager
def _parse_errors(path: Path) -> Iterator[None]:
    """Raise errors of the parser as UserError."""
    try:
        yield
    except (pa.ArrowException, OSError, csv.Error, EOFError) as error:
        if _ROW_EXCEEDS_BLOCK in str(error):
            raise UserError(_unclosed_quote(path)) from error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(_invalid(path, reason)) from error


def _invalid(path: Path, reason: str) -> str:
    return f"{path} is not a valid MIMIC table ({reason}); download it again."


def _unclosed_quote(path: Path) -> str:
    return (
        f"{path} has a quote that is not closed, so the rows after it would be one field; correct "
        "that row or download the table again."
    )
