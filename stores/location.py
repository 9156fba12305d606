"""Store roots as key-value storage, and locations in them.

`StoreRoot` is the protocol that `local.LocalRoot` and `objects.ObjectRoot` implement; `locate`
converts a URL to a `Location`. I/O errors are raised as `OSError` or
`obstore.exceptions.BaseError`; callers translate them with `errors.translate_errors`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from zarr.abc.store import Store

BytesLike = bytes | bytearray | memoryview


class FencedWriter(Protocol):
    """Methods of a Zarr store that rejects writes by a process that has lost its lease."""

    def track_version(self, key: str) -> None:
        """In an object store, record a value's version; `put` then replaces only this version."""
        ...

    def put(self, key: str, value: BytesLike) -> None:
        """Write a complete value durably.

        Args:
            key: Key of the value.
            value: Contents.

        Raises:
            LeaseLost: Another process has taken over the lease.
            VersionConflict: The current version of the value is not the tracked one.
        """
        ...


class RangeReader(Protocol):
    """Reader of byte ranges of one version of a value, unaffected by later writes."""

    @property
    def size(self) -> int:
        """Size in bytes."""
        ...

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes ``[start, stop)``.

        Args:
            start: Offset of the first byte.
            stop: Offset after the last byte.

        Returns:
            The bytes; fewer if the value ends before `stop`.

        Raises:
            VersionConflict: This version is no longer available.
        """
        ...


class StoreRoot(Protocol):
    """Key-value storage in a directory or under a bucket prefix; keys have the form ``a/b/c``.

    Writes are atomic, and durable when the writing call returns. Readers never wait for writers.
    """

    @property
    def url(self) -> str:
        """Path or URL of the root, without credentials."""
        ...

    @property
    def read_threads(self) -> int:
        """Recommended number of concurrent reads."""
        ...

    def read(self, key: str) -> bytes | None:
        """Read a small value.

        Args:
            key: Key of the value.

        Returns:
            The value, or None if it does not exist.

        Raises:
            UnsafeFile: The value is larger than `MAX_DOCUMENT_BYTES`, a link or not a regular file.
        """
        ...

    def open(self, key: str) -> AbstractContextManager[RangeReader | None]:
        """Open the current version of a value in a ``with`` block; None if it does not exist."""
        ...

    def write(self, key: str, value: bytes) -> None:
        """Write a value, replacing an existing one.

        Args:
            key: Key of the value.
            value: Contents.
        """
        ...

    def create(self, key: str, value: bytes) -> bool:
        """Write a value if the key does not exist.

        Args:
            key: Key of the value.
            value: Contents.

        Returns:
            Whether the value was written. Of concurrent calls, at most one returns True; none does
            if the response to the successful put was lost and the put was retried.
        """
        ...

    def delete(self, key: str) -> None:
        """Delete a value if it exists."""
        ...

    def children(self, key: str) -> tuple[list[str], list[str]]:
        """Return the sorted names directly below a key: one list of folders, one of values.

        Symbolic links inside a data set's folder are omitted.
        """
        ...

    def names(self, key: str) -> list[str]:
        """Return all names directly below a key, in one request: `children` and `links`."""
        ...

    def links(self, key: str) -> list[tuple[str, str]]:
        """Return names and targets of the symbolic links that `children` omits for this key."""
        ...

    def sizes(self, key: str) -> Iterator[tuple[str, int]]:
        """Yield the key and the size in bytes of every value below a key."""
        ...

    def zarr_writer(self, staging: str) -> Store:
        """Return a Zarr store that is also a `FencedWriter`.

        Args:
            staging: Key of the lease holder's staging folder. In a directory, writes fail once
                this folder has been removed.

        Returns:
            The Zarr store.
        """
        ...

    def zarr_reader(self) -> Store:
        """Return a read-only Zarr store."""
        ...

    def create_staging(self, key: str) -> None:
        """Create the staging folder of a lease holder."""
        ...

    def remove_staging(self, key: str) -> None:
        """Remove a staging folder, so that its owner can no longer write."""
        ...


@dataclass(frozen=True)
class Location:
    """A folder or value in a store root.

    Attributes:
        root: The store root.
        key: Key below the root; empty for the root itself.
    """

    root: StoreRoot
    key: str = ""

    def __truediv__(self, part: str) -> "Location":
        return Location(self.root, f"{self.key}/{part}".strip("/"))

    def __str__(self) -> str:
        return f"{self.root.url.rstrip('/')}/{self.key}".rstrip("/") or "/"

    @property
    def name(self) -> str:
        """Last part of the key."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> "Location":
        """Location one level up."""
        return Location(self.root, self.key.rpartition("/")[0])

    @property
    def path(self) -> Path:
        """Local path; valid only if the root is a directory."""
        return Path(self.root.url) / self.key

    def read(self) -> bytes | None:
        """Return the value, or None if it does not exist."""
        return self.root.read(self.key)

    def folders(self) -> list["Location"]:
        """Return the folders directly below."""
        return [self / name for name in self.root.children(self.key)[0]]

    def files(self) -> list["Location"]:
        """Return the values directly below."""
        return [self / name for name in self.root.children(self.key)[1]]
