"""From a store root's URL to the places in which Zarr groups, leases and run objects lie."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from zarr.abc.store import Store

from stores.url import check_url

BytesLike = bytes | bytearray | memoryview


class WritingStore(Protocol):
    """What a Zarr store that is written to has besides: how our own documents go the same way."""

    def look(self, key: str) -> None:
        """Note what is there, to be read and then written over by this writer alone."""
        ...

    def put(self, key: str, value: BytesLike) -> None:
        """Write a whole value durably.

        Raises LeaseLost or Superseded where somebody else writes here now.
        """
        ...


class Parts(Protocol):
    """One version of a value, read in parts, whatever is written in its place meanwhile."""

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` up to `stop`, `stop` excluded."""
        ...


class Place(Protocol):
    """A root under which values lie by key, `a/b/c`: a directory, or a part of a bucket.

    A value is whole or not there, and on the disk when a call returns. Reading never waits.
    """

    @property
    def url(self) -> str:
        """The root as it is told to the user; without credentials."""
        ...

    @property
    def hands(self) -> int:
        """How many reads side by side pay."""
        ...

    def read(self, key: str) -> bytes | None:
        """The value, or None where there is none."""
        ...

    def open(self, key: str) -> AbstractContextManager[Parts | None]:
        """A value to be read in parts, or None. Raises Superseded where its version is gone."""
        ...

    def write(self, key: str, value: bytes) -> None:
        """Keep a value, in place of what was there."""
        ...

    def create(self, key: str, value: bytes) -> bool:
        """Keep a value where there is none; of many who try at once, one gets True."""
        ...

    def delete(self, key: str) -> None:
        """Take a value away, if it is there."""
        ...

    def children(self, key: str) -> tuple[list[str], list[str]]:
        """The names right under a key, sorted: those with more below them, and the values."""
        ...

    def sizes(self, key: str) -> Iterator[tuple[str, int]]:
        """Every key below this one, and its bytes."""
        ...

    def writing(self, staging: str) -> Store:
        """A Zarr store of the root, and a `WritingStore`: it writes only while `staging` lasts."""
        ...

    def reading(self) -> Store:
        """A Zarr store of the root that never writes."""
        ...

    def open_staging(self, key: str) -> None:
        """Make what a holder needs to write; the holder's place to set values aside."""
        ...

    def clear_staging(self, key: str) -> None:
        """Take that away: whoever writes by way of it cannot any more."""
        ...


@dataclass(frozen=True)
class Location:
    """A folder of a store root: the root, and the key below it."""

    place: Place
    key: str = ""

    def __truediv__(self, part: str) -> "Location":
        return Location(self.place, f"{self.key}/{part}".strip("/"))

    def __str__(self) -> str:
        return f"{self.place.url}/{self.key}".rstrip("/")

    @property
    def name(self) -> str:
        """The last part."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> "Location":
        """One part less."""
        return Location(self.place, self.key.rpartition("/")[0])

    @property
    def path(self) -> Path:
        """The folder on this machine; only for a root that is a directory."""
        return Path(self.place.url) / self.key

    def read(self) -> bytes | None:
        """The value here, or None."""
        return self.place.read(self.key)

    def folders(self) -> list["Location"]:
        """What lies right below and has more below it."""
        return [self / name for name in self.place.children(self.key)[0]]

    def files(self) -> list["Location"]:
        """The values right below."""
        return [self / name for name in self.place.children(self.key)[1]]


def locate(url: str | Path) -> Location:
    """The root that a URL names: a directory, `file://`, `s3://BUCKET/PREFIX`, `gs://` or `az://`.

    Credentials come from the usual places (environment, profiles, instance), never from the URL.
    Raises StoreError for any other kind of URL, and where the bucket cannot be had.
    """
    # Imported here, for obstore and boto3 take their time, and a directory needs neither.
    from stores.local import LocalPlace

    text = str(url)
    scheme = check_url(text)
    if not scheme:
        return Location(LocalPlace(Path(text).expanduser().absolute()))
    if scheme == "file":
        return Location(LocalPlace(Path(unquote(urlsplit(text).path))))
    from stores.objects import ObjectPlace

    return Location(ObjectPlace.connect(text.rstrip("/")))
