"""Store roots in an object store: S3 and what speaks its language, by obstore.

There a stale writer is held off by conditional puts: a value is written only in place of the
version that was looked at, and only where there was none if none was looked at.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import AlreadyExistsError, GenericError, NotFoundError, PreconditionError
from zarr.core.buffer import Buffer
from zarr.storage import ObjectStore

from stores.errors import StoreError, VersionConflict, translate_errors
from stores.location import BytesLike
from stores.object_client import connect_object_store

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Client

RETRY_TIMEOUT = timedelta(minutes=3)
"""How long a request is tried again when a connection is lost, within a run."""
UNSENT = "error sending request"
"""What obstore says of a request that no answer came to."""
CONNECT_TIMEOUT = timedelta(seconds=10)
"""The same for the first request: a wrong address should be told soon."""


@dataclass(frozen=True)
class ObjectRoot:
    """A part of a bucket: the `StoreRoot` of a lab's object store."""

    url: str
    client: "Client" = field(compare=False)

    @classmethod
    def connect(cls, url: str) -> "ObjectRoot":
        """Open a bucket, and ask it one thing. Raises StoreError where it cannot be had."""
        with translate_errors(url):
            try:
                obstore.list_with_delimiter(connect_object_store(url, CONNECT_TIMEOUT), None)
            except (FileNotFoundError, NotFoundError) as error:
                raise StoreError(f"{url}: there is no such bucket; make it first.") from error
        return cls(url, connect_object_store(url, RETRY_TIMEOUT))

    @property
    def read_threads(self) -> int:
        """Reads that pay side by side."""
        return 16

    def read(self, key: str) -> bytes | None:
        """The object's bytes, or None."""
        try:
            return bytes(retry_unsent(obstore.get, self.client, key).bytes())
        except FileNotFoundError:
            return None

    @contextmanager
    def open(self, key: str) -> Iterator["ObjectReader | None"]:
        """One version of the object (If-Match)."""
        try:
            seen = retry_unsent(obstore.head, self.client, key)
        except FileNotFoundError:
            yield None
            return
        yield ObjectReader(self.client, key, seen["size"], seen["e_tag"])

    def write(self, key: str, value: bytes) -> None:
        """Put the object."""
        retry_unsent(obstore.put, self.client, key, value)

    def create(self, key: str, value: bytes) -> bool:
        """Put the object where there is none (If-None-Match)."""
        try:
            retry_unsent(obstore.put, self.client, key, value, mode="create")
        except AlreadyExistsError:
            return False
        return True

    def delete(self, key: str) -> None:
        """Delete the object."""
        try:
            retry_unsent(obstore.delete, self.client, key)
        except FileNotFoundError:
            return

    def children(self, key: str) -> tuple[list[str], list[str]]:
        """Common prefixes and objects right below a prefix."""
        prefix = f"{key}/" if key else None
        found = retry_unsent(obstore.list_with_delimiter, self.client, prefix)
        folders = sorted(one.rstrip("/").rpartition("/")[2] for one in found["common_prefixes"])
        return folders, sorted(one["path"].rpartition("/")[2] for one in found["objects"])

    def sizes(self, key: str) -> Iterator[tuple[str, int]]:
        """Objects below a prefix, and their bytes."""
        for batch in obstore.list(self.client, prefix=f"{key}/" if key else None):
            for one in batch:
                yield one["path"], one["size"]

    def zarr_writer(self, staging: str) -> ObjectStore[Any]:
        """A Zarr store that writes on condition."""
        return ConditionalObjectStore(self.client)

    def zarr_reader(self) -> ObjectStore[Any]:
        """A Zarr store that reads."""
        return ObjectStore(self.client, read_only=True)

    def create_staging(self, key: str) -> None:
        """Nothing is set aside: a put is whole or not there."""

    def remove_staging(self, key: str) -> None:
        """Nothing is set aside."""


@dataclass(frozen=True)
class ObjectReader:
    """One version of an object, read in parts."""

    client: "Client"
    key: str
    size: int
    e_tag: str | None

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` up to `stop`. Raises VersionConflict where the version is gone."""
        try:
            part = retry_unsent(
                obstore.get,
                self.client,
                self.key,
                options={"range": (start, stop), "if_match": self.e_tag},
            )
            return bytes(part.bytes())
        except (PreconditionError, FileNotFoundError) as error:
            raise VersionConflict(self.key) from error


class ConditionalObjectStore(ObjectStore[Any]):
    """zarr-python's object store, whose every write is on the condition that nobody wrote since.

    `look` notes the versions that are there; a write replaces just those, and where none was
    noted it makes a new object. Raises VersionConflict where the condition does not hold.
    """

    def __init__(self, store: Any, *, read_only: bool = False) -> None:
        super().__init__(store, read_only=read_only)
        self.versions: dict[str, Any] = {}

    def track_version(self, key: str) -> None:
        """Note the version of what is to be read, and then written over."""
        try:
            self.versions[key] = _version(retry_unsent(obstore.head, self.store, key))
        except FileNotFoundError:
            self.versions.pop(key, None)

    async def set(self, key: str, value: Buffer) -> None:
        """Put a value in place of the version that was looked at."""
        self._check_writable()
        await asyncio.to_thread(self.put, key, value.as_buffer_like())

    def put(self, key: str, value: BytesLike) -> None:
        """Put a value in place of the version that was looked at. Raises VersionConflict."""
        try:
            written = retry_unsent(
                obstore.put,
                self.store,
                key,
                value,
                mode=self.versions.get(key, "create"),
                use_multipart=False,
            )
        except (AlreadyExistsError, PreconditionError) as error:
            # A put that went through, and whose answer was lost, is tried again by the client.
            written = self._as_put(key, value)
            if written is None:
                raise VersionConflict(key) from error
        self.versions[key] = _version(written)

    def _as_put(self, key: str, value: BytesLike) -> Any:
        """The version that is there if it holds just this, else None."""
        try:
            found = retry_unsent(obstore.get, self.store, key)
        except FileNotFoundError:
            return None
        return found.meta if memoryview(found.bytes()) == value else None


def retry_unsent(ask: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What obstore answers; a request that it could not send is sent again, for `RETRY_TIMEOUT`.

    obstore insists by itself, but not where a connection breaks between being chosen and used.
    """
    until = time.monotonic() + RETRY_TIMEOUT.total_seconds()
    while True:
        try:
            return ask(*arguments, **options)
        except GenericError as error:
            if UNSENT not in str(error) or time.monotonic() >= until:
                raise
            time.sleep(0.1)


def _version(seen: Any) -> Any:
    return {name: seen[name] for name in ("e_tag", "version") if seen[name] is not None}
