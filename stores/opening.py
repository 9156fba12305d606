"""How a store is made, found, opened, and grown by new records."""

import errno
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from jaxtyping import Int
from zarr.codecs import Crc32cCodec
from zarr.errors import ContainsGroupError

from stores.embeddings import ABSENT, UNWRITTEN_ID, EmbeddingStore
from stores.errors import StoreError, damaged
from stores.identity import identity
from stores.location import DurableLocalStore, local_root, locked

FORMAT = "enecg-embeddings/1"
ARRAYS = ("record_id", "embedding", "status")

SHARD_ROWS = 2048
CHUNK_ROWS = 256
RECORD_ID_CHUNK = 65_536


def store_path(root: str | Path, dataset: str, expert: str, digest: str) -> Path:
    """`ROOT/<dataset>/<expert>/<identity>`."""
    return local_root(root) / dataset / expert / digest


def create(
    root: str | Path,
    provenance: Mapping[str, Any],
    *,
    record_id: Int[np.ndarray, " record"],
    features: int,
    dtype: str,
    reasons: Sequence[str],
    shard_rows: int = SHARD_ROWS,
) -> EmbeddingStore:
    """The store of this provenance, made if it is not there, with rows for all of these records.

    `provenance` has at least `dataset` and `expert`, and together with nothing else it makes the
    identity. Records that the store does not know yet are appended in the order given.

    Raises StoreError where something else lies there, or it may not be written.
    """
    path = store_path(root, provenance["dataset"], provenance["expert"], identity(provenance))
    try:
        return _create(path, provenance, record_id, features, dtype, reasons, shard_rows)
    except json.JSONDecodeError as error:
        raise damaged(path, "a zarr.json in it cannot be read") from error
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written ({error.strerror}); make it a folder that you may write to, "
            "or give another --store."
        ) from error


def _create(
    path: Path,
    provenance: Mapping[str, Any],
    record_id: Int[np.ndarray, " record"],
    features: int,
    dtype: str,
    reasons: Sequence[str],
    shard_rows: int,
) -> EmbeddingStore:
    with locked(path):
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        group = _create_group(path, provenance)
        chunk_rows = min(CHUNK_ROWS, shard_rows)
        if "embedding" not in group:
            group.create_array(
                "embedding",
                shape=(0, features),
                dtype=dtype,
                chunks=(chunk_rows, features),
                shards=(shard_rows, features),
                # Embeddings hardly compress (zstd: 1.09); the checksum finds a damaged chunk.
                compressors=[Crc32cCodec()],
                fill_value=np.nan,
                dimension_names=["record", "feature"],
                attributes={"long_name": f"{provenance['expert']} embedding"},
            )
        if "status" not in group:
            flags = ["absent", "whole", *reasons]
            group.create_array(
                "status",
                shape=(0,),
                dtype="uint8",
                chunks=(shard_rows,),
                compressors=[Crc32cCodec()],
                fill_value=ABSENT,
                dimension_names=["record"],
                attributes={
                    "long_name": "whether the row is whole, or why it is not",
                    "flag_values": list(range(len(flags))),
                    "flag_meanings": " ".join(flags),
                },
            )
        if "record_id" not in group:
            group.create_array(
                "record_id",
                shape=(0,),
                dtype="int64",
                chunks=(RECORD_ID_CHUNK,),
                fill_value=UNWRITTEN_ID,
                dimension_names=["record"],
                attributes={"long_name": f"record id within {provenance['dataset']}"},
            )
        store = open_store(path, writable=True)
        missing = record_id[store.rows_by_id(record_id) < 0]
        return _append(store, missing) if len(missing) else store


def open_store(path: Path, *, writable: bool = False) -> EmbeddingStore:
    """Open a store to read it, or to write too.

    Raises StoreError where there is none, or it is of another format or of another making.
    """
    try:
        group = zarr.open_group(
            DurableLocalStore(path, read_only=not writable),
            mode="r+" if writable else "r",
            zarr_format=3,
        )
        arrays = [group.get(name) for name in ARRAYS]
    except FileNotFoundError as error:
        raise StoreError(f"There is no store at {path}; extract into it first.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, "a zarr.json in it cannot be read") from error
    given = group.attrs.get("format")
    if given != FORMAT:
        raise StoreError(
            f"{path} is a Zarr group of the format {given!r}, and this program reads {FORMAT!r}; "
            "name the store root that EnECG wrote, or bring the program up to date."
        )
    if None in arrays:
        raise damaged(path, "one of its arrays is not there")
    store = EmbeddingStore(path, group)
    if identity(store.provenance) != path.name:
        raise StoreError(
            f"{path} holds a store of the identity {identity(store.provenance)}: it was renamed or "
            "its attributes were changed; give it its own name back."
        )
    return store


def find_stores(root: str | Path, dataset: str) -> list[EmbeddingStore]:
    """All stores of a data set, by expert and identity."""
    folder = local_root(root) / dataset
    found = [
        path for path in sorted(folder.glob("*/*")) if path.is_dir() and path.parent.name != "runs"
    ]
    for path in found:
        # A store without its group file would be left out of a training without a word.
        if any(path.iterdir()) and not (path / "zarr.json").exists():
            raise damaged(path, "its zarr.json is not there")
    return [open_store(path) for path in found if (path / "zarr.json").exists()]


def _create_group(path: Path, provenance: Mapping[str, Any]) -> zarr.Group:
    attributes = {"format": FORMAT, "provenance": dict(provenance), "Conventions": "CF-1.11"}
    store = DurableLocalStore(path)
    if (path / "zarr.json").exists():
        # `create_group` would write over a file that it cannot read.
        return zarr.open_group(store, mode="r+", zarr_format=3)
    try:
        # One file holds the group's mark and its attributes, so a kill leaves both or neither.
        return zarr.create_group(store, zarr_format=3, attributes=attributes)
    except ContainsGroupError:
        return zarr.open_group(store, mode="r+", zarr_format=3)


def _append(store: EmbeddingStore, record_id: Int[np.ndarray, " record"]) -> EmbeddingStore:
    """Add rows. The ids come last: a row without an id is not there, and is claimed again."""
    known = len(store.record_id)
    total = known + len(record_id)
    beyond: np.ndarray = store.array("status")[known:]  # type: ignore[assignment]
    if (beyond != ABSENT).any():
        raise damaged(store.path, "the ids of rows that hold embeddings are not there")
    for name in ("embedding", "status", "record_id"):
        array = store.array(name)
        array.resize((total, *array.shape[1:]))
    store.array("record_id")[known:total] = record_id
    return open_store(store.path, writable=True)
