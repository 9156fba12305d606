"""The table of labels as one Parquet file: what is in it, how it is written, how it is read.

A row a record, in the data set's order: `record_id`, `subject_id`, the labels that there are,
`LABEL_absent`, the reason where there is none, and a data set's other columns. Ids are int64,
or text where the data set's are. How the labels came about is JSON in the schema's metadata, under
the key `enecg.labels`.
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

_ROWS_A_GROUP = 100_000
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
"""Columns and types; units and codes as in `LABEL_COLUMNS`. A reason is dictionary-encoded text."""


def to_arrow(labels: RecordLabels) -> pa.Table:
    """The labels with the types of the file, null where there is none."""
    frame = labels.table.reset_index().rename(columns={"patient_id": "subject_id"})
    columns = {}
    for name in map(str, frame):
        array = pa.array(frame[name], from_pandas=True)
        told = pa.float64() if pa.types.is_floating(array.type) else pa.string()
        own = pa.int64() if pa.types.is_integer(array.type) else told
        columns[name] = array.cast(_TYPES.get(name, own))
    return pa.table(columns)


def content_digest(table: pa.Table) -> str:
    """SHA-256 over what the table says of each record: the same for any order of its rows.

    Over the rows by record id, column after column as they stand in the file: the name in UTF-8
    and a zero byte; then a byte a row, 1 where there is a value; then the values that there are, as
    little-endian int64 (whole numbers), float64, or text as int64 lengths in bytes and then all of
    it in UTF-8.
    """
    digest = hashlib.sha256()
    ordered = table.take(pc.sort_indices(table["record_id"]))
    for name in ordered.column_names:
        column = ordered[name].combine_chunks()
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        digest.update(name.encode() + b"\0")
        digest.update(pc.is_valid(column).cast(pa.uint8()).to_numpy().tobytes())
        known = column.drop_null()
        if pa.types.is_integer(known.type):
            digest.update(known.cast(pa.int64()).to_numpy().astype("<i8").tobytes())
        elif pa.types.is_floating(known.type):
            digest.update(known.cast(pa.float64()).to_numpy().astype("<f8").tobytes())
        else:
            told = known.cast(pa.large_binary())
            digest.update(pc.binary_length(told).cast(pa.int64()).to_numpy().tobytes())
            digest.update(b"".join(told.to_pylist()))
    return digest.hexdigest()


def count_labels(labels: RecordLabels) -> dict[str, dict[str, int]]:
    """For each label the `ecgs` and `patients` that have it, and the ECGs by reason for absence."""
    told = {}
    for name in labels_in(labels.table):
        there = labels.table[name].notna()
        reasons = labels.table[reason_column(name)].value_counts(sort=False)
        told[name] = {
            "ecgs": int(there.sum()),
            "patients": int(labels.table["patient_id"][there].nunique()),
            **{str(reason): int(count) for reason, count in reasons.items() if count},
        }
    return told


def write_labels(
    path: Path, labels: RecordLabels, rules: LabelRules, *, namespace: str, index_digest: str
) -> str:
    """Write the file whole or not at all, for its owner alone to read (0600); gives its digest.

    Raises UserError where it cannot be written.
    """
    table = to_arrow(labels)
    digest = content_digest(table)
    told = {
        "format": FORMAT,
        "dataset": {"namespace": namespace, "index": index_digest, "records": len(table)},
        "rules": asdict(rules) | {"abnormal": labels.criterion or rules.abnormal},
        "tables": {source.name: source.stat().st_size for source in labels.sources},
        "lacking": labels.missing_tables,
        "counts": count_labels(labels),
        "skipped": dict(labels.skipped),
        "digest": digest,
    }
    table = table.replace_schema_metadata({METADATA_KEY: json.dumps(told, sort_keys=True)})
    with _replacing(path) as unfinished:
        pq.write_table(table, unfinished, row_group_size=_ROWS_A_GROUP)
    return digest


def read_metadata(path: Path) -> dict[str, Any] | None:
    """How the labels of a file came about; None where it is a table of somebody else's."""
    metadata = pq.read_schema(path).metadata or {}
    told = metadata.get(METADATA_KEY)
    try:
        read = json.loads(told) if told is not None else None
    except ValueError:
        return None
    return read if isinstance(read, dict) and read.get("format") == FORMAT else None


def to_dask(path: str | Path) -> "dask.dataframe.DataFrame":
    """The file as a Dask data frame, a partition a group of rows.

    Raises UserError where `dask.dataframe` cannot be had.
    """
    try:
        import dask.dataframe
    except ImportError as error:
        raise UserError(
            f"{path} cannot be given as a Dask data frame ({error}); run "
            "pip install 'dask[dataframe]'."
        ) from error
    table: dask.dataframe.DataFrame = dask.dataframe.read_parquet(str(path), split_row_groups=True)
    return table


def prepare_folder(path: Path) -> tuple[str, ...]:
    """Make a place for the file before the work is done, its folder for its owner alone (0700).

    A folder that is there keeps its rights; a sentence is given where others may read it. Raises
    UserError where the file cannot be written.
    """
    if path.suffix != ".parquet":
        raise UserError(f"{path} does not end in .parquet; give an --out that does.")
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the --out of a file in it.")
    folder = path.absolute().parent
    try:
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700)
    except OSError as error:
        raise _cannot_be_written(path, error) from error
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{path} cannot be written ({folder} takes no files); give another --out.")
    if stat.S_IMODE(folder.stat().st_mode) & 0o077:
        return (
            f"Others may look into {folder}: labels are for those who signed; chmod 700 keeps it "
            "to you.",
        )
    return ()


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, that takes its place when all of it is on the disk."""
    unfinished = None
    try:
        made, name = tempfile.mkstemp(".partial", f".{path.name}.", path.parent)  # rights 0600
        os.close(made)
        unfinished = Path(name)
        yield unfinished
        _to_disk(unfinished)
        unfinished.replace(path)
        _to_disk(path.parent)
    except OSError as error:
        raise _cannot_be_written(path, error) from error
    finally:
        if unfinished is not None:
            unfinished.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _cannot_be_written(path: Path, error: OSError) -> UserError:
    return UserError(f"{path} cannot be written ({error.strerror or error}); give another --out.")
