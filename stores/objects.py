"""Store roots in an object store such as S3, through obstore.

Conditional puts reject writes by a process that has lost its lease: a put replaces only the tracked
version of an object, or creates a new object if no version is tracked.
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
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import ObjectStore

from stores.documents import MAX_DOCUMENT_BYTES, MAX_VALUE_BYTES
from stores.errors import (
    MISSING_BUCKET_MESSAGE,
    StoreError,
    UnsafeFile,
    VersionConflict,
    too_large,
    translate_errors,
)
from stores.location import BytesLike
from stores.object_client import connect_object_store

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Client

RETRY_TIMEOUT = timedelta(minutes=3)
"""Maximum time for which a request is retried."""
CONNECT_TIMEOUT = timedelta(seconds=10)
"""Maximum time for which the first request is retried; short, because the URL may be wrong."""
NOT_SENT = "error sending request"
"""Text of obstore's error if the connection fails, or breaks before a response arrives."""


@dataclass(frozen=True)
class ObjectRoot:
    """The `StoreRoot` of a bucket or a bucket prefix.

    Attributes:
        url: URL of the bucket or prefix.
        client: The obstore client, whose keys are relative to the URL.
    """

    url: str
    client: "Client" = field(compare=False)

    @classmethod
    def connect(cls, url: str) -> "ObjectRoot":
        """Connect to a bucket; list it once to check that it is accessible.

        Args:
            url: URL of the bucket or of a prefix in it.

        Returns:
            The root.

        Raises:
            StoreError: The bucket is unreachable or does not exist, or credentials are missing or
                rejected.
        """
        with translate_errors(url):
            try:
                obstore.list_with_delimiter(connect_object_store(url, CONNECT_TIMEOUT), None)
            except (FileNotFoundError, NotFoundError) as error:
                raise StoreError(f"{url}: {MISSING_BUCKET_MESSAGE}.") from error
        return cls(url, connect_object_store(url, RETRY_TIMEOUT))

    @property
    def read_threads(self) -> int:
        """Recommended number of concurrent reads."""
        return 16

    def read(self, key: str) -> bytes | None:
        """Read a small object; see `StoreRoot.read`."""
        try:
            response = retry_unsent(obstore.get, self.client, key)
        except FileNotFoundError:
            return None
        if response.meta["size"] > MAX_DOCUMENT_BYTES:
            raise UnsafeFile(too_large(f"{self.url}/{key}", response.meta["size"]))
        return bytes(response.bytes())

    @contextmanager
    def open(self, key: str) -> Iterator["ObjectReader | None"]:
        """Open the current version of an object."""
        try:
            meta = retry_unsent(obstore.head, self.client, key)
        except FileNotFoundError:
            yield None
            return
        yield ObjectReader(self.client, key, meta["size"], meta["e_tag"])

    def write(self, key: str, value: bytes) -> None:
        """Put an object, replacing an existing one."""
        retry_unsent(obstore.put, self.client, key, value)

    def create(self, key: str, value: bytes) -> bool:
        """Put an object if it does not exist (``If-None-Match``); return whether it was created."""
        try:
            retry_unsent(obstore.put, self.client, key, value, mode="create")
        except AlreadyExistsError:
            return False
        return True

    def delete(self, key: str) -> None:
        """Delete an object if it exists."""
        try:
            retry_unsent(obstore.delete, self.client, key)
        except FileNotFoundError:
            return

    def children(self, key: str) -> tuple[list[str], list[str]]:
        """Return the names of common prefixes and objects directly below a prefix."""
        prefix = f"{key}/" if key else None
        listing = retry_unsent(obstore.list_with_delimiter, self.client, prefix)
        folders = sorted(path.rstrip("/").rpartition("/")[2] for path in listing["common_prefixes"])
        return folders, sorted(meta["path"].rpartition("/")[2] for meta in listing["objects"])

    def names(self, key: str) -> list[str]:
        """Return the names of common prefixes and objects directly below a prefix."""
        folders, objects = self.children(key)
        return folders + objects

    def links(self, key: str) -> list[tuple[str, str]]:
        """Return an empty list, because object stores have no links."""
        return []

    def sizes(self, key: str) -> Iterator[tuple[str, int]]:
        """Yield the key and the size in bytes of every object below a prefix."""
        for batch in obstore.list(self.client, prefix=f"{key}/" if key else None):
            for meta in batch:
                yield meta["path"], meta["size"]

    def zarr_writer(self, staging: str) -> ObjectStore[Any]:
        """Return a Zarr store with conditional puts."""
        return ConditionalObjectStore(self.client)

    def zarr_reader(self) -> ObjectStore[Any]:
        """Return a read-only Zarr store."""
        return BoundedObjectStore(self.client, read_only=True)

    def create_staging(self, key: str) -> None:
        """Do nothing: a put is atomic, so no staging folder is needed."""

    def remove_staging(self, key: str) -> None:
        """Do nothing, because there is no staging folder."""


@dataclass(frozen=True)
class ObjectReader:
    """The `RangeReader` of one version of an object.

    Attributes:
        client: The obstore client.
        key: Key of the object.
        size: Size of the object in bytes.
        e_tag: Entity tag of the version; if it is None, replacement of the object is not detected.
    """

    client: "Client"
    key: str
    size: int
    e_tag: str | None

    def read(self, start: int, stop: int) -> bytes:
        """Read a range of bytes.

        Args:
            start: First byte.
            stop: End of the range, exclusive.

        Returns:
            The bytes ``[start, stop)``.

        Raises:
            VersionConflict: The object was replaced or deleted.
        """
        options: dict[str, Any] = {"range": (start, stop)}
        if self.e_tag is not None:
            options["if_match"] = self.e_tag
        try:
            part = retry_unsent(obstore.get, self.client, self.key, options=options)
            return bytes(part.bytes())
        except (PreconditionError, FileNotFoundError) as error:
            raise VersionConflict(self.key) from error


class BoundedObjectStore(ObjectStore[Any]):
    """Zarr's `ObjectStore` with a limit on the size of objects that are read completely."""

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read an object or a part of it.

        Args:
            key: Key of the object.
            prototype: Type of buffer to return.
            byte_range: Part to read; None reads the complete object.

        Returns:
            The buffer; None if the object does not exist.

        Raises:
            UnsafeFile: The complete object is requested and is larger than `MAX_VALUE_BYTES`.
        """
        if byte_range is not None:
            return await super().get(key, prototype, byte_range)
        try:
            # Only the response's header is read here.
            response = await obstore.get_async(self.store, key)
        except FileNotFoundError:
            return None
        if (size := response.meta["size"]) > MAX_VALUE_BYTES:
            raise UnsafeFile(too_large(key, size))
        return prototype.buffer.from_bytes(memoryview(await response.bytes_async()))


class ConditionalObjectStore(BoundedObjectStore):
    """Zarr's `ObjectStore` with conditional puts.

    A put replaces only the version that `track_version` or the last put recorded. If no version is
    recorded, it only creates a new object.

    Args:
        store: The obstore client.
        read_only: Whether Zarr's methods that write raise an error.
    """

    def __init__(self, store: Any, *, read_only: bool = False) -> None:
        super().__init__(store, read_only=read_only)
        self.versions: dict[str, Any] = {}

    def track_version(self, key: str) -> None:
        """Record the current version of an object; `put` then replaces only this version."""
        try:
            self.versions[key] = _version_of(retry_unsent(obstore.head, self.store, key))
        except FileNotFoundError:
            self.versions.pop(key, None)

    async def set(self, key: str, value: Buffer) -> None:
        """Put an object, replacing only its tracked version."""
        self._check_writable()
        await asyncio.to_thread(self.put, key, value.as_buffer_like())

    def put(self, key: str, value: BytesLike) -> None:
        """Put an object, replacing only its tracked version.

        Args:
            key: Key of the object.
            value: Contents.

        Raises:
            VersionConflict: The object has changed since its version was tracked, or it exists and
                no version is tracked; in both cases with contents other than `value`.
        """
        try:
            meta = retry_unsent(
                obstore.put,
                self.store,
                key,
                value,
                mode=self.versions.get(key, "create"),
                use_multipart=False,
            )
        except (AlreadyExistsError, PreconditionError) as error:
            # A retried put fails if the first attempt succeeded but its response was lost.
            meta = self._find_own_put(key, value)
            if meta is None:
                raise VersionConflict(key) from error
        self.versions[key] = _version_of(meta)

    def _find_own_put(self, key: str, value: BytesLike) -> Any:
        """Return the object's metadata if its contents equal this value, else None."""
        try:
            response = retry_unsent(obstore.get, self.store, key)
        except FileNotFoundError:
            return None
        return response.meta if memoryview(response.bytes()) == value else None


def retry_unsent(request: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call an obstore function; retry for up to `RETRY_TIMEOUT` if sending the request fails.

    obstore itself retries failed requests, except if a pooled connection breaks just before it is
    reused.

    Args:
        request: The obstore function.
        *arguments: Arguments of the function.
        **options: Keyword arguments of the function.

    Returns:
        The result of the function.

    Raises:
        GenericError: The request failed for another reason, or still fails after the timeout.
            Other exceptions of `request` are not caught.
    """
    deadline = time.monotonic() + RETRY_TIMEOUT.total_seconds()
    while True:
        try:
            return request(*arguments, **options)
        except GenericError as error:
            if NOT_SENT not in str(error) or time.monotonic() >= deadline:
                raise
            time.sleep(0.1)


def _version_of(meta: Any) -> Any:
    return {name: meta[name] for name in ("e_tag", "version") if meta[name] is not None}
