"""From a store's URL to the folders in which Zarr groups and run objects lie."""

import asyncio
import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from stores.errors import StoreError

__all__ = ["DurableLocalStore", "local_root", "locked", "write_durably"]


def local_root(url: str | Path) -> Path:
    """The directory that a store URL names: a plain path, or `file://`.

    Raises StoreError for any other kind of URL.
    """
    text = str(url)
    parts = urlsplit(text)
    if "://" not in text:
        return Path(text).expanduser().absolute()
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    raise StoreError(f"{text} is no place for a store: give a directory or a file:// URL.")


def write_durably(path: Path, value: bytes, root: Path) -> None:
    """A whole new file or the old one: written aside, brought to the disk, then given its name.

    The names of the folders from `root` down to it are brought to the disk too (fsync), so that a
    loss of power takes neither the file nor the way to it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with aside.open("wb") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    for folder in (path.parent, *path.parent.parents):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if folder == root:
            break


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a store, `IDENTITY.lock` beside its folder: one writer at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class DurableLocalStore(LocalStore):
    """zarr-python's local store, with every write on the disk before it returns, so that a status
    is never there before the data that it speaks of, and old data never gone before the new.
    """

    async def set(self, key: str, value: Buffer) -> None:
        """Write a whole value durably."""
        self._check_writable()
        await asyncio.to_thread(write_durably, self.root / key, value.to_bytes(), self.root)
