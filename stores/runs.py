"""Run objects: who computed what into a store, when and how fast; one file a run, written once."""

import json
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from stores.embeddings import EmbeddingStore
from stores.errors import told
from stores.layout import runs
from stores.location import Location


def write_run(store: EmbeddingStore, run: Mapping[str, Any]) -> Location:
    """Write a run object (JSON values) under a name that sorts by time; returns its location."""
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}.json"
    location = runs(store.location) / name
    with told(location):
        location.place.create(location.key, json.dumps(run, indent=1).encode())
    return location


def read_runs(store: EmbeddingStore) -> list[dict[str, Any]]:
    """All run objects of a store, oldest first."""
    return [*newest_runs(store)][::-1]


def newest_runs(store: EmbeddingStore) -> Iterator[dict[str, Any]]:
    """The run objects of a store, newest first, each read when it is asked for.

    What cannot be read is left out: a run that was told in half changes no row.
    """
    with told(runs(store.location)):
        for file in reversed(runs(store.location).files()):
            if not file.name.endswith(".json"):
                continue
            try:
                run = json.loads(file.read() or b"")
            except ValueError:
                continue
            if isinstance(run, dict):
                yield run
