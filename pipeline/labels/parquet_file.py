"""The Parquet file of labels: columns, metadata, digest, writing and reading.

One row per record in the data set's order: `record_id`, `subject_id`, the labels that are
available, `LABEL_absent` with the reason where a label is missing, and a data set's extra columns.
Ids are int64, or text where the data set's are. The origin of the labels is JSON in the schema's
metadata, under the key `enecg.labels`.
"""

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
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

if TYPE_CHECKING:
    import dask.dataframe

METADATA_KEY = b"enecg.labels"
FORMAT = 1

_ROWS_PER_GROUP = 100_000
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
"""Column types; units and codes as in `LABEL_COLUMNS`."""


def to_arrow(labels: RecordLabels) -> pa.Table:
    """Convert labels to the columns of the file, null where missing."""
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
    """Compute a digest that does not depend on the order of rows.

    The SHA-256 covers, with rows sorted by record id, for each column in order: the name in UTF-8
    and a zero byte; one byte per row, 1 where there is a value; then the values, as little-endian
    int64 or float64, or text as int64 lengths in bytes followed by all text in UTF-8.

    Args:
        table: Contents of the file.

    Returns:
        SHA-256 in hexadecimal.
    """
    digest = hashlib.sha256()
    ordered = table.take(pc.sort_indices(table["record_id"]))
    for name in ordered.column_names:
        column = ordered[name].combine_chunks()
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        digest.update(name.encode() + b"\0")
        digest.update(pc.is_valid(column).cast(pa.uint8()).to_numpy().tobytes())
        values = column.drop_null()
        if pa.types.is_integer(values.type):
            digest.update(values.cast(pa.int64()).to_numpy().astype("<i8").tobytes())
        elif pa.types.is_floating(values.type):
            digest.update(values.cast(pa.float64()).to_numpy().astype("<f8").tobytes())
        else:
            text = values.cast(pa.large_binary())
            digest.update(pc.binary_length(text).cast(pa.int64()).to_numpy().tobytes())
            digest.update(b"".join(text.to_pylist()))
    return digest.hexdigest()


def count_labels(labels: RecordLabels) -> dict[str, dict[str, int]]:
    """Count, for each label, `ecgs` and `patients` that have it, and ECGs by reason of absence."""
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
    """Write the file atomically, readable only by its owner (0600).

    A file that cannot be written raises UserError.

    Args:
        path: The file, in an existing folder.
        labels: The labels.
        rules: The rules they were derived by.
        namespace: Namespace of the data set.
        index_digest: Digest of its record index.

    Returns:
        The label digest, see `content_digest`.
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
    """Read the origin of the labels in a Parquet file.

    Args:
        path: A Parquet file.

    Returns:
        Data set, rules, tables, counts and digest; None if `write_labels` did not write the file.
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
    """Open the file as a Dask data frame.

    Args:
        path: File of labels.

    Returns:
        A data frame with one partition per row group (100,000 records).

    Raises:
        UserError: `dask.dataframe` is not installed.
    """
    try:
        import dask.dataframe
    except ImportError as error:
        raise UserError(
            f"{path} cannot be opened as a Dask data frame ({error}); run "
            "pip install 'dask[dataframe]'."
        ) from error
    table: dask.dataframe.DataFrame = dask.dataframe.read_parquet(str(path), split_row_groups=True)
    return table


def prepare_folder(path: Path) -> tuple[str, ...]:
    """Check that a file can be written, and create its folder, accessible only by its owner (0700).

    Args:
        path: The file to write, ending in `.parquet`.

    Returns:
        A warning if the folder exists and others may read it; its permissions are not changed.

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
            f"Other users can read {folder}, but labels are only for users who signed the data "
            f"use agreement; run chmod 700 {folder}.",
        )
    return ()


@contextmanager
def _replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces `path` once it is complete and on disk."""
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
