"""The interface through which the files of a data set are read."""

import io
import posixpath
from contextlib import AbstractContextManager
from typing import BinaryIO, NamedTuple, Protocol, runtime_checkable

STREAM_BYTES = 8 << 20
"""Buffer size for streamed files."""


class Content(NamedTuple):
    """The beginning of a file.

    Attributes:
        data: Bytes from the start of the file.
        size: Size of the whole file in bytes.
    """

    data: bytes
    size: int


class OutsideRootError(Exception):
    """A file is outside the root. The message includes the remedy and has no final period."""


@runtime_checkable
class RecordFiles(Protocol):
    """Read-only files below a root, named by relative paths such as ``a/b/c``.

    Implementations can be pickled. `read` and `open` raise `FileNotFoundError` if a file is missing
    or not a regular file, `OutsideRootError` if it is outside the root, another `OSError` if it
    cannot be read, and `UserError` if requests to a server fail.
    """

    @property
    def threads(self) -> int:
        """Recommended number of files to read in parallel."""
        ...

    def read(self, name: str, limit: int) -> Content:
        """Read the beginning of a file.

        Args:
            name: Name of the file.
            limit: Maximum number of bytes to read.

        Returns:
            The bytes, and the size of the whole file.
        """
        ...

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open a file as a stream of bytes."""
        ...

    def location(self, name: str) -> str:
        """Return the path or URL of a file, for messages."""
        ...


def normalize_name(name: str) -> str:
    """Return a file name in its shortest form: ``a//./b`` becomes ``a/b``.

    Args:
        name: Name of a file, relative to the data set's folder.

    Returns:
        The normalized name.

    Raises:
        OutsideRootError: The name is absolute or contains ``..``, a backslash or a NUL.
    """
    if name[:1] == "/" or "\\" in name or "\0" in name or ".." in name.split("/"):
        raise OutsideRootError(
            "path is outside the data set's folder; correct the table or header that names it"
        )
    return posixpath.normpath(name) if "//" in name or "./" in name else name


def buffered(raw: io.RawIOBase) -> BinaryIO:
    """Wrap a raw stream in a buffer of `STREAM_BYTES`."""
    return io.BufferedReader(raw, STREAM_BYTES)
