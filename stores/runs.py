"""Run objects: who computed what into a store, when and how fast; one file a run, written once."""

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stores.embeddings import EmbeddingStore
from stores.location import write_durably


def runs_folder(store: EmbeddingStore) -> Path:
    """Beside the stores, `ROOT/<dataset>/runs/<expert>/<identity>`: no part of the Zarr group."""
    expert, digest = store.path.parts[-2:]
    return store.path.parents[1] / "runs" / expert / digest


def write_run(store: EmbeddingStore, run: Mapping[str, Any]) -> Path:
    """Write a run object (JSON values) under a name that sorts by time; returns its path."""
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}.json"
    path = runs_folder(store) / name
    write_durably(path, json.dumps(run, indent=1).encode(), path.parent)
    return path


def read_runs(store: EmbeddingStore) -> list[dict[str, Any]]:
    """All run objects of a store, oldest first."""
    return [json.loads(path.read_text()) for path in sorted(runs_folder(store).glob("*.json"))]
