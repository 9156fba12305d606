"""Copy a run without the ids of records and patients."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from markupsafe import escape

from enecg.errors import UserError
from pipeline.runs.escaping import escape_markdown
from pipeline.runs.parquet_file import MAX_PARQUET_BYTES, parse_parquet
from pipeline.runs.results import CONFIG, PREDICTIONS, PROVENANCE, RESULTS, read_results
from pipeline.runs.run_documents import MAX_DOCUMENT_BYTES
from stores.errors import UnsafeFile
from stores.regular_files import open_regular, read_open_file

COPIED = (CONFIG, PROVENANCE, RESULTS, "results.md", "results.html", "MODEL_CARD.md")
EXPORTED = ("task", "method", "repeat", "label", "truth", "predicted", "probability")
"""Columns of the predictions that are copied. Runs of earlier versions have no ``label``."""

_EXAMPLE = re.compile(
    r",? \(?such as .+?(?=, treated as missing|, in [^,]+\.$|\.$|: [\d,]+\.?$|$)", re.DOTALL
)
"""The example in a note: a value and the id of its record, or an invalid id."""


def export_run(folder: Path, out: Path) -> None:
    """Copy the files `COPIED` and the predictions of a run, without ids of records and patients.

    The rows of the predictions are shuffled, because their order could identify records.

    Args:
        folder: Run folder.
        out: New folder.

    Raises:
        UserError: `folder` is not a run folder; a file to copy is missing, damaged, too large or a
            link; or `out` exists or cannot be written.
    """
    notes = read_results(folder).config["notes"]
    folder, out = folder.expanduser(), out.expanduser()
    # Read all files before writing, so that an error leaves no incomplete copy.
    copied = {name: _read(folder / name) for name in COPIED if os.path.lexists(folder / name)}
    copied = {name: _without_examples(value, notes) for name, value in copied.items()}
    predictions = _read_predictions(folder / PREDICTIONS)
    try:
        out.mkdir(parents=True)
        for name, value in copied.items():
            (out / name).write_bytes(value)
        pq.write_table(predictions, out / PREDICTIONS)
    except FileExistsError as error:
        raise UserError(f"{out} exists; choose a new folder.") from error
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error}); choose another folder.") from error


def _read(file: Path, limit: int = MAX_DOCUMENT_BYTES) -> bytes:
    """Read a file of a run. Links are rejected, because their targets could be private files."""
    try:
        descriptor = open_regular(file)
        try:
            return read_open_file(descriptor, file, limit)
        finally:
            os.close(descriptor)
    except UnsafeFile as error:
        raise UserError(
            f"{file} is a link, is not a regular file, or is too large for an export; replace it "
            "with the file that EnECG wrote."
        ) from error
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}). Train again.") from error


def _without_examples(value: bytes, notes: list[str]) -> bytes:
    """Remove the examples in notes on labels, which contain record ids, from a document or page."""
    text = value.decode("utf-8", "surrogateescape")
    for note in notes:
        for example in _EXAMPLE.findall(note):
            in_json, in_html = json.dumps(example)[1:-1], str(escape(example))
            for written in (example, in_json, in_html, escape_markdown(example)):
                text = text.replace(written, "")
    return text.encode("utf-8", "surrogateescape")


def _read_predictions(file: Path) -> pa.Table:
    """Read the columns `EXPORTED`, with the rows in random order."""
    try:
        table = parse_parquet(_read(file, MAX_PARQUET_BYTES))
        names = [name for name in table.column_names if name in EXPORTED]
        order = np.random.default_rng().permutation(len(table))
        return table.select(names).replace_schema_metadata().take(order)
    except (ValueError, OSError, LookupError) as error:
        raise UserError(f"{file} is damaged ({error}). Train again.") from error
