"""A data set's files in an object store or on a web server, by obstore.

Not to be opened in a process and used in its forked child: obstore hangs there. Workers are
spawned, and a pickled copy connects anew.
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
from pipeline.waveforms.record_files import Content, buffered, check_name
from stores.object_client import connect_object_store

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_PATIENCE = timedelta(minutes=1)
_CHUNK_BYTES = 1 << 20


class ObjectFiles:
    """Files below a URL.

    Of an S3 bucket, credentials are those in the usual places; without any, requests are not
    signed, which is how a public bucket such as `s3://physionet-open` is read. A connection that
    is lost for longer than a minute, or a refusal, is a UserError: no record is to blame for it.
    Where the server still gives the file that it gave last, it is this file that cannot be had: an
    OSError.
    """

    threads = 16

    def __init__(self, url: str) -> None:
        self.url = url
        self._given: str | None = None

    def __reduce__(self) -> tuple[type["ObjectFiles"], tuple[str]]:
        return ObjectFiles, (self.url,)

    def read(self, name: str, limit: int) -> Content:
        """The first `limit` bytes, and the size."""
        # Without a range: not every web server knows them, and S3 refuses one of an empty object.
        with self._told(name):
            found = obstore.get(self._client, check_name(name))
            size = found.meta["size"]
            data = bytearray()
            if min(limit, size) > 0:
                for chunk in found.stream(min_chunk_size=min(limit, _CHUNK_BYTES)):
                    data += memoryview(chunk)
                    if len(data) >= limit:
                        break
        self._given = name
        return Content(bytes(data[:limit]), size)

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """The object as a stream; it is read in order, in one request."""
        with self._told(name):
            found = obstore.get(self._client, check_name(name))
            with buffered(_Chunks(iter(found.stream(min_chunk_size=_CHUNK_BYTES)))) as stream:
                yield stream
        self._given = name

    def told(self, name: str) -> str:
        """The URL."""
        return f"{self.url}/{name}"

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        try:
            yield
        except NotFoundError as error:
            raise FileNotFoundError(self.told(name)) from error
        except BaseError as error:
            what = " ".join(str(error).split())[:200]
            if self._still_gives():
                raise OSError(errno.EIO, what) from error
            raise UserError(
                f"{self.told(name)} cannot be had ({what}); look at the connection and the "
                "credentials, and run it again: what is done is kept."
            ) from error

    def _still_gives(self) -> bool:
        """Whether the server gives the file that it gave last."""
        try:
            return self._given is not None and bool(obstore.head(self._client, self._given))
        except BaseError:
            return False

    @cached_property
    def _client(self) -> "ObjectStore":
        return connect_object_store(self.url, _PATIENCE, unsigned_fallback=True)


class _Chunks(io.RawIOBase):
    """An object's chunks as one stream of bytes."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        if not self._left:
            self._left = memoryview(next(self._chunks, b""))
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count
