"""Validation of a store's zarr.json documents, before arrays of their shapes are allocated."""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from stores.documents import InvalidDocument, parse_document
from stores.embeddings import ARRAYS, EmbeddingStore
from stores.errors import DamagedStore, damaged_store_error, describe_damage
from stores.feature_names import NAME, UNIT
from stores.location import Location

MAX_ROWS = 10**9
"""Maximum number of rows; MIMIC-IV-ECG has 800,035."""
MAX_FEATURES = 10**6
"""Maximum number of features per record."""
MAX_SHARD_BYTES = 1 << 30
"""Maximum size of a shard."""
MAX_FLAGS = 256
"""Maximum number of flags that a one-byte status can have."""
MAX_ID_CHUNK_ROWS = 1 << 20
"""Maximum number of record ids per chunk."""

_MAX_UNLISTED_ROWS = 10**7
"""Maximum number of rows for which the record ids are read without checking first that all their
chunks exist."""

_Length = Annotated[int, Field(ge=0, le=MAX_ROWS)]
_Size = Annotated[int, Field(ge=1, le=MAX_ROWS)]


class _ChunkShape(BaseModel):
    chunk_shape: Annotated[list[_Size], Field(min_length=1, max_length=2)]


class _ChunkGrid(BaseModel):
    name: Literal["regular"]
    configuration: _ChunkShape


class _ArrayDocument(BaseModel):
    zarr_format: Literal[3]
    node_type: Literal["array"]
    shape: Annotated[list[_Length], Field(min_length=1, max_length=2)]
    chunk_grid: _ChunkGrid
    attributes: dict[str, Any] = {}


class _PlainCodec(BaseModel):
    name: Literal["bytes", "vlen-utf8", "crc32c"]


class _PlainArrayDocument(_ArrayDocument):
    """An uncompressed array, read as a whole; a small compressed file could fill the memory."""

    codecs: list[_PlainCodec]
    fill_value: Literal[-1, 0, ""]


class _GroupDocument(BaseModel):
    zarr_format: Literal[3]
    node_type: Literal["group"]
    attributes: dict[str, Any] = {}


class _Provenance(BaseModel):
    dataset: str
    expert: str


class _StatusAttributes(BaseModel):
    flag_meanings: str


def check_documents(location: Location) -> None:
    """Check the zarr.json documents of a store. Missing documents are not reported here.

    Args:
        location: Location of the store.

    Raises:
        DamagedStore: A document is not JSON, or a value has the wrong type or is out of bounds.
        UnsafeFile: A document is a link, not a regular file, or too large.
    """
    models: dict[str, type[BaseModel]] = {
        "zarr.json": _GroupDocument,
        "embedding/zarr.json": _ArrayDocument,
        "status/zarr.json": _PlainArrayDocument,
        "record_id/zarr.json": _PlainArrayDocument,
        **{f"{name}/zarr.json": _ArrayDocument for name in (NAME, UNIT)},
    }
    for key, model in models.items():
        value = location.root.read(f"{location.key}/{key}")
        if value is not None:
            _validate(location, key, model, _parse(location, key, value))


def check_arrays(store: EmbeddingStore) -> None:
    """Check that the arrays of a store are consistent.

    Args:
        store: The opened store.

    Raises:
        DamagedStore: Shapes, chunks, data types or attributes are invalid.
    """
    location, attributes = store.location, dict(store.group.attrs)
    _validate(location, "provenance", _Provenance, attributes.get("provenance"))
    _validate(location, "status", _StatusAttributes, dict(store.array("status").attrs))
    problem = _find_problem(store)
    if problem:
        raise DamagedStore(describe_damage(location, problem, repairable=False))


def _find_problem(store: EmbeddingStore) -> str:
    """Return what is wrong with the arrays of a store, or an empty string."""
    embedding, status, ids = map(store.array, ARRAYS)
    if embedding.ndim != 2 or status.ndim != 1 or ids.ndim != 1:
        return "its arrays have the wrong number of dimensions"
    if embedding.dtype not in (np.float16, np.float32) or status.dtype != np.uint8:
        return (
            f"its arrays have data types {embedding.dtype} (embedding) and {status.dtype} "
            "(status) instead of float16 or float32, and uint8"
        )
    if len(store.flags) > MAX_FLAGS:
        return f"it has {len(store.flags):,} flags, more than {MAX_FLAGS}"
    features = embedding.shape[1]
    if not 1 <= features <= MAX_FEATURES:
        return (
            f"it has {features:,} features per record, which is not between 1 and {MAX_FEATURES:,}"
        )
    if embedding.shards is None:
        return "its embeddings are not sharded"
    if embedding.shards[0] % embedding.chunks[0]:
        return "its shard length is not a multiple of its chunk length"
    shard_bytes = embedding.shards[0] * features * embedding.dtype.itemsize
    widths = {embedding.shards[1], embedding.chunks[1]}
    if widths != {features} or shard_bytes > MAX_SHARD_BYTES:
        return (
            f"its shards do not contain complete rows, or have more than {MAX_SHARD_BYTES:,} bytes"
        )
    if ids.chunks[0] > MAX_ID_CHUNK_ROWS or status.chunks[0] != embedding.shards[0]:
        return (
            f"its record ids have chunks of more than {MAX_ID_CHUNK_ROWS:,} rows, or the chunks of "
            "its status differ from its shards"
        )
    if ids.shape[0] > _MAX_UNLISTED_ROWS:
        chunks = len((store.location / "record_id" / "c").files())
        if chunks * ids.chunks[0] < ids.shape[0]:
            return f"it has {ids.shape[0]:,} rows, but only {chunks:,} chunks of record ids"
    return ""


def _parse(location: Location, key: str, value: bytes) -> Any:
    try:
        return parse_document(value)
    except InvalidDocument as error:
        problem = f"{key} is {error}"
        raise damaged_store_error(location, problem, repairable=False) from error


def _validate(location: Location, key: str, model: type[BaseModel], value: Any) -> None:
    try:
        model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        problem = f"{key} is invalid ({where + ': ' if where else ''}{first['msg']})"
        raise damaged_store_error(location, problem, repairable=False) from error
