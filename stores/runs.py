"""Run records, which document who wrote to a store, when and how fast; one JSON file per run."""

import json
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from stores.documents import parse_document
from stores.embeddings import EmbeddingStore
from stores.errors import UnsafeFile, translate_errors
from stores.layout import runs_folder
from stores.location import Location

_MAX_COUNT = 10**12

_Count = Annotated[int, Field(ge=0, le=_MAX_COUNT)]


class _Failure(BaseModel):
    record_id: int | str
    reason: str


class _Run(BaseModel):
    """The keys of a run record that EnECG reads; a run record may contain other keys."""

    # Validate without type conversion, because the original document is used.
    model_config = ConfigDict(strict=True)

    started: str = ""
    by: str = ""
    device: str = ""
    finished: bool = True
    embedded: _Count = 0
    embedding_seconds: Annotated[float, Field(ge=0, le=_MAX_COUNT)] = 0
    rows_failed: _Count = 0
    failures: list[_Failure] = []


def write_run(store: EmbeddingStore, run: Mapping[str, Any]) -> Location:
    """Write a run record beside a store.

    Args:
        store: The store that the run wrote to.
        run: Contents of the run record, which must be serializable as JSON.

    Returns:
        Location of the run record. Sorting run records by name sorts them by time.

    Raises:
        StoreError: The run record cannot be written.
    """
    now = datetime.now(UTC)
    # Start with the microseconds, so that runs within one second also sort by time.
    suffix = f"{now.microsecond:05x}{uuid.uuid4().hex[:3]}"
    location = runs_folder(store.location) / f"{now:%Y%m%dT%H%M%SZ}-{suffix}.json"
    with translate_errors(location):
        location.root.create(location.key, json.dumps(run, indent=1).encode())
    return location


def read_runs(store: EmbeddingStore) -> list[dict[str, Any]]:
    """Return the valid run records of a store, oldest first; see `iter_runs`."""
    return [*iter_runs(store)][::-1]


def iter_runs(store: EmbeddingStore) -> Iterator[dict[str, Any]]:
    """Yield the valid run records of a store, newest first, each read when it is requested.

    Raises:
        StoreError: The run records cannot be listed or read.
    """
    for _, _, run in _iter_files(store):
        yield run


def copy_runs(source: EmbeddingStore, target: EmbeddingStore) -> None:
    """Copy the valid run records that are missing in the target.

    Args:
        source: Store whose run records are copied.
        target: Store to copy them to.

    Raises:
        StoreError: A run record cannot be listed, read or written.
    """
    with translate_errors(target.location):
        for file, value, _ in _iter_files(source):
            copy = runs_folder(target.location) / file.name
            copy.root.create(copy.key, value)


def _iter_files(store: EmbeddingStore) -> Iterator[tuple[Location, bytes, dict[str, Any]]]:
    """Yield the files, contents and values of the run records of a store, newest first.

    Links and invalid run records are skipped, and in a directory also those that this user may not
    read. In an object store, denied access raises StoreError.
    """
    folder = runs_folder(store.location)
    with translate_errors(folder):
        try:
            files = folder.files()
        except (UnsafeFile, PermissionError):
            return
        for file in reversed(files):
            if not file.name.endswith(".json"):
                continue
            try:
                value = file.read() or b""
                run = parse_document(value)
                _Run.model_validate(run)
            except (ValueError, UnsafeFile, PermissionError):
                continue
            yield file, value, run
