"""The Parquet label file: columns, metadata, digest, writing and reading.

The file has one row per record, in the order of the data set's index. Its columns are `record_id`,
`subject_id`, the available labels, `LABEL_absent` with the reason for each missing label, and
additional columns of the data set. Ids are int64 or strings, as in the data set. The key
`enecg.labels` of the schema metadata describes the origin of the labels as JSON.
"""

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from enecg.errors import UserError
from pipeline.datasets.absence_reasons import REASONS, labels_in, reason_column
from pipeline.datasets.label_rules import LabelRules
from pipeline.datasets.record_labels import RecordLabels
from pipeline.datasets.table_file import InvalidTable, read_parquet, read_parquet_schema

if TYPE_CHECKING:
    import dask.dataframe

METADATA_KEY = b"enecg.labels"
FORMAT = 1
"""Version of the file's format; part of the metadata."""

_ROWS_PER_GROUP = 100_000
_ROWS_PER_STEP = 50_000
_REASON = pa.dictionary(pa.int8(), pa.string())
_TYPES = {
    "rr_interval": pa.float64(),
    "age": pa.float64(),
    "sex": pa.int8(),
    "potassium": pa.int8(),
    "potassium_mmol_l": pa.float64(),
    "diagnosis": pa.string(),
    **{reason_column(label): _REASON for label in REASONS},
}
"""Column types; see `LABEL_COLUMNS` for units and codes."""


def to_arrow(labels: RecordLabels) -> pa.Table:
    """Convert labels to the columns of the file; missing values become null."""
    frame = labels.table.reset_index().rename(columns={"patient_id": "subject_id"})
    columns = {}
    for name in map(str, frame):
        array = pa.array(frame[name], from_pandas=True)
        if pa.types.is_integer(array.type):
            default = pa.int64()
        else:
            default = pa.float64() if pa.types.is_floating(array.type) else pa.string()
        columns[name] = array.cast(_TYPES.get(name, default))
    return pa.table(columns)


def content_digest(table: pa.Table) -> str:
    """Compute a digest of the contents that is independent of the order of the rows.

    The rows are sorted by record id. For each column in order, the SHA-256 covers:

    1. the column name in UTF-8 and a zero byte;
    2. one byte per row: 1 if it has a value, 0 if it is null;
    3. the values that are not null: numbers as little-endian int64 or float64; strings as their
       lengths in bytes (int64), followed by all strings in UTF-8.

    Args:
        table: Contents of the file.

    Returns:
        SHA-256 in hexadecimal.
    """
    return _digest_columns(table.column_names, table.column)


def has_digest(path: Path, digest: object) -> bool:
    """Compare the contents of a label file with a digest.

    Only one column at a time is in memory.

    Args:
        path: A Parquet file.
        digest: A label digest; see `content_digest`.

    Returns:
        Whether the digest is that of the contents; False if a column cannot be read or encoded.
    """
    try:
        names = read_parquet_schema(path)
        return digest == _digest_columns(names, lambda name: read_parquet(path, [name])[name])
    except (pa.ArrowException, InvalidTable, KeyError, OSError):
        return False


def _digest_columns(names: Sequence[str], read: Callable[[str], pa.ChunkedArray]) -> str:
    digest = hashlib.sha256()
    order = pc.sort_indices(read("record_id"))
    # Copy and encode the rows in steps, because a sorted copy of a whole column may be large.
    starts = range(0, len(order), _ROWS_PER_STEP)
    steps = [order[start : start + _ROWS_PER_STEP] for start in starts]
    for name in names:
        column = read(name)
        digest.update(name.encode() + b"\0")
        for encode in (_encode_presence, *_encoders(column.type)):
            for rows in steps:
                digest.update(encode(column.take(rows).combine_chunks()))
    return digest.hexdigest()


def _encoders(kind: pa.DataType) -> tuple[Callable[[pa.Array], bytes], ...]:
    """Return functions that encode a column; each encodes all rows before the next one does."""
    if pa.types.is_integer(kind):
        return (lambda column: _to_bytes(column.drop_null().cast(pa.int64()), "<i8"),)
    if pa.types.is_floating(kind):
        return (lambda column: _to_bytes(column.drop_null().cast(pa.float64()), "<f8"),)
    return _encode_lengths, _encode_text


def _encode_presence(column: pa.Array) -> bytes:
    return _to_bytes(column.is_valid().cast(pa.uint8()), "u1")


def _encode_lengths(column: pa.Array) -> bytes:
    return _to_bytes(pc.binary_length(column.drop_null().cast(pa.string())), "<i8")


def _encode_text(column: pa.Array) -> bytes:
    return b"".join(column.drop_null().cast(pa.string()).cast(pa.binary()).to_pylist())


def _to_bytes(numbers: pa.Array, dtype: str) -> bytes:
    encoded: bytes = numbers.to_numpy().astype(dtype, copy=False).tobytes()
    return encoded


def count_labels(labels: RecordLabels) -> dict[str, dict[str, int]]:
    """Count the labeled ECGs and patients, and the unlabeled ECGs by reason, for each label."""
    counts = {}
    for name in labels_in(labels.table):
        present = labels.table[name].notna()
        reasons = labels.table[reason_column(name)].value_counts(sort=False)
        counts[name] = {
            "ecgs": int(present.sum()),
            "patients": int(labels.table["patient_id"][present].nunique()),
            **{str(reason): int(count) for reason, count in reasons.items() if count},
        }
    return counts


def write_labels(
    path: Path, labels: RecordLabels, rules: LabelRules, *, namespace: str, index_digest: str
) -> str:
    """Write the label file atomically, with mode 0600.

    Args:
        path: The file to write, in an existing folder.
        labels: The labels.
        rules: Rules that the labels were derived with.
        namespace: Namespace of the data set.
        index_digest: `RecordIndex.digest` of the data set.

    Returns:
        The label digest; see `content_digest`.

    Raises:
        UserError: The file cannot be written.
    """
    table = to_arrow(labels)
    digest = content_digest(table)
    metadata = {
        "format": FORMAT,
        "dataset": {"namespace": namespace, "index": index_digest, "records": len(table)},
        "rules": asdict(rules) | {"abnormal": labels.criterion or rules.abnormal},
        "tables": {source.name: source.stat().st_size for source in labels.sources},
        "lacking": labels.missing_tables,
        "counts": count_labels(labels),
        "skipped": dict(labels.skipped),
        "digest": digest,
    }
    table = table.replace_schema_metadata({METADATA_KEY: json.dumps(metadata, sort_keys=True)})
    with _replace_file(path) as partial:
        pq.write_table(table, partial, row_group_size=_ROWS_PER_GROUP)
    return digest


def read_metadata(path: Path) -> dict[str, Any] | None:
    """Read the metadata of a label file.

    Args:
        path: A Parquet file.

    Returns:
        Data set, rules, tables, counts and digest; None if the file was not written by
        `write_labels` or has another `FORMAT`.
    """
    encoded = (pq.read_schema(path).metadata or {}).get(METADATA_KEY)
    try:
        metadata = json.loads(encoded) if encoded is not None else None
    except ValueError:
        return None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        return None
    return metadata


def to_dask(path: str | Path) -> "dask.dataframe.DataFrame":
    """Open a label file as a Dask data frame.

    Args:
        path: The label file.

    Returns:
        A data frame with one partition per row group (100,000 records).

    Raises:
        UserError: `dask.dataframe` is not installed.
    """
    try:
        import dask.dataframe
    except ImportError as error:
        raise UserError(
            f"{path} cannot be opened as a Dask data frame ({error}); install it with "
            "pip install 'dask[dataframe]'."
        ) from error
    table: dask.dataframe.DataFrame = dask.dataframe.read_parquet(str(path), split_row_groups=True)
    return table


def prepare_folder(path: Path) -> tuple[str, ...]:
    """Check that a label file can be written, and create its folder with mode 0700 if missing.

    Args:
        path: The file to write, ending in `.parquet`.

    Returns:
        A warning if the folder exists and other users can access it; its mode is not changed.

    Raises:
        UserError: The file cannot be written.
    """
    if path.suffix != ".parquet":
        raise UserError(f"{path} does not end in .parquet; change --out.")
    if path.is_dir():
        raise UserError(f"{path} is a folder; --out must be a file.")
    folder = path.absolute().parent
    try:
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700)
    except OSError as error:
        raise UserError(_not_writable(path, error)) from error
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{path} cannot be written: {folder} is not writable; change --out.")
    if stat.S_IMODE(folder.stat().st_mode) & 0o077:
        return (
            f"Other users can access {folder}, but only users who signed the data use agreement "
            f"may access the labels; run chmod 700 {folder}.",
        )
    return ()


@contextmanager
def _replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file, which atomically replaces `path` on exit."""
    partial = None
    try:
        descriptor, name = tempfile.mkstemp(".partial", f".{path.name}.", path.parent)  # mode 0600
        os.close(descriptor)
        partial = Path(name)
        yield partial
        _fsync(partial)
        partial.replace(path)
        _fsync(path.parent)
    except OSError as error:
        raise UserError(_not_writable(path, error)) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _not_writable(path: Path, error: OSError) -> str:
    return f"{path} cannot be written ({error.strerror or error}); change --out."
