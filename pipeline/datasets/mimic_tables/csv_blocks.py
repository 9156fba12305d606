"""MIMIC's tables as a stream: plain or gzipped CSV, a block of some columns at a time.

Fields come as bytes. Read so, and parsed for the few rows that are wanted (`parsing`), the lab
table streams two to four times as fast as with typed columns, and no field can stop it.
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
"""What is parsed at a time; a row must fit in it."""

_ROW_WITHOUT_END = "straddling object"
"""pyarrow's words for a row that goes on beyond a block."""

_LONGEST_HEADER = 1 << 16

SkippedRows = Counter[str]
"""How many rows of a table were left out, or read in part, by a sentence that says why."""


@dataclass(frozen=True)
class CsvHeader:
    """The names in a table's first row, and its length in bytes."""

    names: tuple[str, ...]
    size: int


@dataclass(frozen=True)
class CsvPart:
    """A range of bytes of a plain table: whole rows, its header not among them."""

    number: int
    start: int
    end: int


def is_compressed(path: Path) -> bool:
    """Whether a table has to be read from its beginning."""
    return path.suffix == ".gz"


def read_header(path: Path) -> CsvHeader:
    """Raises UserError where the file cannot be read or begins with no row of names."""
    with _parse_errors(path), pa.input_stream(str(path), compression="detect") as file:
        lines = file.read(_LONGEST_HEADER).splitlines(keepends=True)
    if not lines or len(lines[0]) == _LONGEST_HEADER:
        raise UserError(f"{path} is no table of MIMIC's (no row of names); copy it again.")
    told = lines[0].decode("utf-8-sig", errors="replace")
    with _parse_errors(path):
        names = next(csv.reader([told.rstrip("\r\n")]), [])
    return CsvHeader(tuple(name.strip() for name in names), len(lines[0]))


def check_columns(path: Path, header: CsvHeader, columns: Collection[str]) -> None:
    """Raises UserError where a table does not have each of the columns exactly once."""
    for name in columns:
        if header.names.count(name) != 1:
            how = "twice" if name in header.names else "not at all"
            raise UserError(
                f"{path} is no table of MIMIC's (it has the column {name} {how}); copy it again."
            )


def read_blocks(
    path: Path,
    columns: Sequence[str],
    skipped: SkippedRows,
    *,
    part: CsvPart | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Some columns of a table or of a part of it, as bytes, null where nothing is known.

    Rows with more or fewer fields than the header are left out and counted. `progress(bytes)`
    tells how much of the whole file is read. Raises UserError where a column is not there, or
    the file is damaged; at its end, where a quote in it is not closed.
    """
    header = read_header(path)
    check_columns(path, header, columns)
    ragged, read = _Ragged(), _Utf8()
    rows = 0
    with _parse_errors(path), pa.OSFile(str(path)) as raw:
        stream = pa.TransformInputStream(_stream(raw, path, header, part), read)
        for batch in _batches(stream, header.names, columns, ragged):
            rows += len(batch)
            yield batch
            if progress is not None:
                progress(raw.tell())
    if read.quotes % 2:
        raise _not_closed(path)
    if ragged.count:
        if not rows:
            raise UserError(
                f"{path} is no table of MIMIC's (no row has as many fields as the first); copy it "
                "again."
            )
        skipped[f"{path.name}: rows with another number of fields, left out"] += ragged.count


def _stream(
    raw: pa.NativeFile, path: Path, header: CsvHeader, part: CsvPart | None
) -> pa.NativeFile:
    """What follows the header, or a part of that."""
    if part is not None:
        return raw.get_stream(part.start, part.end - part.start)
    stream = pa.CompressedInputStream(raw, "gzip") if is_compressed(path) else raw
    stream.read(header.size)
    return stream


def _batches(
    stream: pa.NativeFile, names: Sequence[str], columns: Sequence[str], ragged: "_Ragged"
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
        if "Empty CSV file" in str(error):  # nothing but the header
            return
        raise
    with reader:
        yield from reader


class _Utf8:
    """Bytes in which what is not UTF-8 has become U+FFFD; pyarrow cannot tell of a row without.

    `quotes`: how many there are. After one without its pair all that follows is one field to
    pyarrow, which says nothing of it at the end of the file.
    """

    def __init__(self) -> None:
        self.quotes = 0
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __call__(self, buffer: pa.Buffer) -> bytes:
        read = bytes(buffer)
        self.quotes += read.count(b'"')
        cut_short, _ = self.decoder.getstate()
        if read.isascii() and not cut_short:
            return read
        return self.decoder.decode(read).encode()


class _Ragged:
    """Counts the rows that pyarrow cannot fit into the columns, and has them left out."""

    def __init__(self) -> None:
        self.count = 0
        self.lock = threading.Lock()

    def __call__(self, row: pacsv.InvalidRow) -> str:
        with self.lock:
            self.count += 1
        return "skip"


@contextmanager
def _parse_errors(path: Path) -> Iterator[None]:
    """Turn what a file that is no table raises into a sentence."""
    try:
        yield
    except (pa.ArrowException, OSError, csv.Error, EOFError) as error:
        if _ROW_WITHOUT_END in str(error):
            raise _not_closed(path) from error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(f"{path} is no table of MIMIC's ({reason}); copy it again.") from error


def _not_closed(path: Path) -> UserError:
    return UserError(
        f"{path} has a quote that is not closed, so that rows after it are taken for one field; "
        "mend that row, or copy the table again."
    )
