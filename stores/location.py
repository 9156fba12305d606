"""Store roots as key-value storage, and locations below them.

`StoreRoot` is the protocol that `local.LocalRoot` and `objects.ObjectRoot` implement; `locate`
turns a user's URL into a `Location`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from zarr.abc.store import Store

BytesLike = bytes | bytearray | memoryview


class FencedWriter(Protocol):
    """The additional methods of a Zarr store that rejects writes of a stale lease holder."""

    def track_version(self, key: str) -> None:
        """Remember the current version of a value, as the only one that `put` may replace."""
        ...

    def put(self, key: str, value: BytesLike) -> None:
        """Write a whole value durably.

        Raises:
            LeaseLost: Another process has taken over the lease.
            VersionConflict: The value is not the tracked version.
        """
        ...


class RangeReader(Protocol):
    """One version of a value, read in byte ranges; later writes do not affect it."""

    @property
    def size(self) -> int:
        """Size in bytes."""
        ...

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes ``[start, stop)``.

        Raises:
            VersionConflict: This version is no longer available.
        """
        ...


class StoreRoot(Protocol):
    """Key-value storage in a directory or in a part of a bucket; keys have the form ``a/b/c``.

    A value is either complete or absent, and durable when the writing call returns. Readers never
    wait for writers.
    """

    @property
    def url(self) -> str:
        """Path or URL, without credentials."""
        ...

    @property
    def read_threads(self) -> int:
        """Number of concurrent reads that improves throughput."""
        ...

    def read(self, key: str) -> bytes | None:
        """Return a value, or None if it does not exist."""
        ...

    def open(self, key: str) -> AbstractContextManager[RangeReader | None]:
        """Open the current version of a value, or None if it does not exist."""
        ...

    def write(self, key: str, value: bytes) -> None:
        """Write a value, replacing an existing one."""
        ...

    def create(self, key: str, value: bytes) -> bool:
        """Write a value only if the key does not exist; True for exactly one concurrent caller."""
        ...

    def delete(self, key: str) -> None:
        """Delete a value if it exists."""
        ...

    def children(self, key: str) -> tuple[list[str], list[str]]:
        """Return the names directly below a key, sorted: folders, then values."""
        ...

    def sizes(self, key: str) -> Iterator[tuple[str, int]]:
        """Yield every key below this one with its size in bytes."""
        ...

    def zarr_writer(self, staging: str) -> Store:
        """Return a Zarr store that is also a `FencedWriter`, valid while `staging` exists."""
        ...

    def zarr_reader(self) -> Store:
        """Return a read-only Zarr store."""
        ...

    def create_staging(self, key: str) -> None:
        """Create the folder that a lease holder writes through."""
        ...

    def remove_staging(self, key: str) -> None:
        """Remove a staging folder, which fences its holder off."""
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
        return f"{self.root.url}/{self.key}".rstrip("/")

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
