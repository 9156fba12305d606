"""Files of a data set in an object store or on a web server.

obstore hangs in a child process forked after its first use. Workers are therefore spawned, and an
unpickled `ObjectFiles` connects again.
"""

import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO

import obstore
from obstore.exceptions import BaseError, NotFoundError

from enecg.errors import UserError
from pipeline.waveforms.record_files import Content, buffered, normalize_name
from stores.object_client import connect_object_store

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_RETRY_TIMEOUT = timedelta(minutes=1)
_CHUNK_BYTES = 1 << 20


class ObjectFiles:
    """Files below a URL; see `RecordFiles`.

    boto3 finds the S3 credentials. Without S3 credentials, requests are not signed, which suffices
    for public buckets such as ``s3://physionet-open``.

    If a request fails for another reason than a missing file (retries end after a minute), methods
    request the file that was read last. If this succeeds, only the current file is affected, and
    methods raise `OSError`. If it fails, or no file was read before, all records are probably
    affected, and methods raise `UserError`.

    Args:
        url: URL of the root, without a trailing slash.

    Attributes:
        url: The URL.
        threads: Recommended number of files to read in parallel.
    """

    threads = 16

    def __init__(self, url: str) -> None:
        self.url = url
        self._last_read: str | None = None

    def __reduce__(self) -> tuple[type["ObjectFiles"], tuple[str]]:
        return ObjectFiles, (self.url,)

    def read(self, name: str, limit: int) -> Content:
        """Read the beginning of a file; see `RecordFiles.read`."""
        # Do not send range requests: some web servers do not support them, and S3 rejects them for
        # empty objects.
        with self._translate_errors(name):
            response = obstore.get(self._client, normalize_name(name))
            size = response.meta["size"]
            data = bytearray()
            if min(limit, size) > 0:
                for chunk in response.stream(min_chunk_size=min(limit, _CHUNK_BYTES)):
                    data += memoryview(chunk)
                    if len(data) >= limit:
                        break
        self._last_read = normalize_name(name)
        return Content(bytes(data[:limit]), size)

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a file as a stream of bytes, read sequentially in one request."""
        with self._translate_errors(name):
            response = obstore.get(self._client, normalize_name(name))
            with buffered(_ChunkStream(iter(response.stream(min_chunk_size=_CHUNK_BYTES)))) as file:
                yield file
        self._last_read = normalize_name(name)

    def list_names(self, suffix: str) -> Iterator[str]:
        """List the files below the root, one request per thousand files.

        Args:
            suffix: End of the names, in lower case; upper and lower case of names are not
                distinguished.

        Yields:
            Names relative to the root.
        """
        with self._translate_errors(""):
            for batch in obstore.list(self._client, chunk_size=1000):
                for entry in batch:
                    if entry["path"].lower().endswith(suffix):
                        yield entry["path"]

    def location(self, name: str) -> str:
        """Return the URL of a file, for messages."""
        return f"{self.url}/{name}"

    @contextmanager
    def _translate_errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except NotFoundError as error:
            raise FileNotFoundError(self.location(name)) from error
        except BaseError as error:
            message = " ".join(str(error).split())[:200]
            if self._is_last_read_available():
                raise OSError(errno.EIO, message) from error
            raise UserError(
                f"{self.location(name)}: request failed ({message}); check the connection and the "
                "credentials, and run the command again."
            ) from error

    def _is_last_read_available(self) -> bool:
        try:
            return self._last_read is not None and bool(obstore.head(self._client, self._last_read))
        except (BaseError, FileNotFoundError):
            return False

    @cached_property
    def _client(self) -> "ObjectStore":
        return connect_object_store(self.url, _RETRY_TIMEOUT, unsigned_fallback=True)


class _ChunkStream(io.RawIOBase):
    """A stream over the chunks of an object."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        if not self._rest:
            self._rest = memoryview(next(self._chunks, b""))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
