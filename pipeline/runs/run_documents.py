"""JSON documents of a run folder: their keys and types, and reading them safely."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from enecg.errors import UserError
from stores.documents import parse_document
from stores.errors import UnsafeFile
from stores.regular_files import read_regular

MAX_DOCUMENT_BYTES = 1 << 28
"""Maximum size of a JSON document in a run folder; record ids of large cohorts take megabytes."""

_Number = Annotated[float, Field(ge=0)]


class _Strict(BaseModel):
    """Base of models that validate types without conversion; callers use the original document."""

    model_config = ConfigDict(strict=True)


class _Extraction(_Strict):
    started: str | None = None
    device: str | None = None
    embedded: _Number | None = None
    embedding_seconds: _Number | None = None


class _Store(_Strict):
    expert: str
    identity: str
    location: str
    features: int
    extractions: list[_Extraction]


class _RandomBaseline(_Store):
    weights: str


class _Memory(_Strict):
    process: int


class Config(_Strict):
    """Validated keys of `config.json`; the file is not trusted. Other keys are not validated."""

    dataset: str
    index_digest: str
    finished: str
    settings: dict[str, Any]
    device: str
    seeds: list[int]
    cohorts_digest: str
    tasks: list[str]
    notes: list[str]
    experts: Annotated[list[str], Field(min_length=1)]
    records: int
    patients: int
    records_left_out: int
    seconds: _Number
    peak_memory_bytes: _Memory
    stores: list[_Store]
    versions: dict[str, str]
    repeat_records: list[int] = []
    random_baselines: list[_RandomBaseline] = []


class Provenance(_Strict):
    """Validated keys of a store's provenance."""

    expert: str
    weights: str
    dtype: Literal["float16", "float32"]


CONFIG_KEYS = frozenset(name for name, field in Config.model_fields.items() if field.is_required())
"""Required keys of `config.json`."""


def read_document(file: Path) -> Any:
    """Read a JSON document of a run folder.

    Args:
        file: The document.

    Returns:
        The parsed value.

    Raises:
        ValueError: The file is not JSON, or is nested too deeply.
        UnsafeFile: The file is not a regular file, or is too large.
        OSError: The file cannot be read.
    """
    return parse_document(read_regular(file, MAX_DOCUMENT_BYTES), finite=False)


@contextmanager
def open_document(file: Path) -> Iterator[Any]:
    """Yield a JSON document; convert errors in the `with` block to a UserError with its path."""
    with translate_read_errors(file):
        yield read_document(file)


@contextmanager
def translate_read_errors(file: Path) -> Iterator[None]:
    """Convert errors of reading a file of a run folder to a UserError with its path."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(
            f"{file.parent} is incomplete: {file.name} is missing. Train again."
        ) from error
    except PermissionError as error:
        raise UserError(
            f"{file} cannot be read ({error.strerror}); correct its permissions."
        ) from error
    except UnsafeFile as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(
            f"{file} cannot be read ({error.strerror}); check the disk or its connection."
        ) from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(damaged_message(file)) from error


def damaged_message(file: Path) -> str:
    """Return the message for a damaged document."""
    return f"{file} is damaged or was written by another version of EnECG. Train again."
