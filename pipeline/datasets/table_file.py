"""Reading of users' CSV and Parquet tables, with limits on their size."""

import gzip
import io
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

MAX_ROWS = 10**7
"""Maximum number of rows of a label table; MIMIC-IV-ECG has 800,035 records."""
MAX_COLUMNS = 10_000
MAX_LINE_BYTES = 4 << 20
MAX_BYTES = 2 << 30
"""Maximum size of a decompressed CSV table, and of a decoded Parquet column."""

_BLOCK_BYTES = 1 << 18


class InvalidTable(ValueError):
    """A file is not a table, or is too large for one."""


@contextmanager
def open_csv(path: Path) -> Iterator[BinaryIO]:
    """Open a CSV file for reading as bytes.

    Args:
        path: The file; it is decompressed if its suffix is ``.gz``.

    Yields:
        The decompressed file.

    Raises:
        InvalidTable: The file is not a regular file. Also raised while reading, if the file has too
            many bytes or rows, a line is too long, or the compressed data are damaged.
        OSError: The file cannot be read.
    """
    check_regular_file(path)
    is_compressed = path.suffix.lower() == ".gz"
    with (
        gzip.open(path) if is_compressed else path.open("rb") as source,
        io.BufferedReader(_Bounded(source), _BLOCK_BYTES) as file,
    ):
        yield cast(BinaryIO, file)


def read_parquet_schema(path: Path) -> list[str]:
    """Return the names of the columns of a Parquet file.

    Args:
        path: The file.

    Returns:
        The names, in the order of the file.

    Raises:
        InvalidTable: The file is not a regular file, or has too many rows or columns.
        OSError: The file cannot be read.
        ValueError: The file is not a Parquet file.
    """
    check_regular_file(path)
    metadata = pq.read_metadata(path)
    check_size(metadata.num_rows, metadata.num_columns)
    return cast("list[str]", pq.read_schema(path).names)


def read_parquet(path: Path, columns: Sequence[str]) -> pa.Table:
    """Read columns of a Parquet file whose numbers of rows and columns have been checked.

    Args:
        path: The file; call `read_parquet_schema` first.
        columns: Names of the columns.

    Returns:
        The columns.

    Raises:
        InvalidTable: The texts of a column would take too much memory, for example if one long text
            is repeated in every row.
        OSError: The file cannot be read.
        ValueError: The file is not a Parquet file.
    """
    schema = pq.read_schema(path)
    plain = [name for name in columns if _is_text(schema.field(name).type)]
    # Dictionaries contain each text once, so the size is known before the texts are repeated.
    table = pq.read_table(path, columns=list(columns), read_dictionary=plain)
    for name in columns:
        size = sum(_text_bytes(chunk) for chunk in table[name].chunks)
        if size > MAX_BYTES:
            raise InvalidTable(
                f"the texts of column {name} have {size:,} bytes; the maximum is {MAX_BYTES:,}"
            )
    for name in plain:
        index = table.schema.get_field_index(name)
        table = table.set_column(index, name, table[name].cast(schema.field(name).type))
    return table


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind))


def _text_bytes(column: pa.Array) -> int:
    """Return the size of an array of texts after decoding its dictionary."""
    kind = column.type
    if not (pa.types.is_dictionary(kind) and _is_text(kind.value_type)):
        return int(column.nbytes)
    lengths = pc.binary_length(column.dictionary)
    return int(pc.sum(lengths.take(column.indices).cast(pa.int64())).as_py() or 0)


def check_size(rows: int, columns: int) -> None:
    """Check the size of a table.

    Args:
        rows: Number of rows.
        columns: Number of columns.

    Raises:
        InvalidTable: There are more than `MAX_ROWS` rows or `MAX_COLUMNS` columns.
    """
    if rows > MAX_ROWS or columns > MAX_COLUMNS:
        raise InvalidTable(
            f"it has {rows:,} rows and {columns:,} columns; a label table has at most "
            f"{MAX_ROWS:,} rows and {MAX_COLUMNS:,} columns"
        )


def check_regular_file(path: Path) -> None:
    """Check that a path is a regular file or a link to one, not a FIFO or a device.

    Args:
        path: The path.

    Raises:
        InvalidTable: The path is not a regular file.
        OSError: The path does not exist or cannot be accessed.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise InvalidTable("it is a folder")
    if not stat.S_ISREG(mode):
        raise InvalidTable("it is not a regular file")


class _Bounded(io.RawIOBase):
    """Reader of a file that raises InvalidTable at the limits of a table."""

    def __init__(self, source: io.BufferedIOBase) -> None:
        self._source = source
        self._bytes = self._rows = self._line_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview[int]") -> int:  # type: ignore[override]
        try:
            size = self._source.readinto(buffer)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InvalidTable("its compressed data are incomplete or damaged") from error
        block = bytes(buffer[:size])
        end = max(block.rfind(b"\n"), block.rfind(b"\r"))
        self._line_bytes = size - 1 - end if end >= 0 else self._line_bytes + size
        self._bytes += size
        self._rows += block.count(b"\n")
        if self._line_bytes > MAX_LINE_BYTES:
            raise InvalidTable(f"it has a line of more than {MAX_LINE_BYTES >> 20} MiB")
        if self._bytes > MAX_BYTES or self._rows > MAX_ROWS + 1:
            raise InvalidTable(
                f"it has more than {MAX_ROWS:,} rows or {MAX_BYTES >> 30} GiB, the maximum of a "
                "label table"
            )
        return size
