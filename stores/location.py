"""From a store's URL to the folders in which Zarr groups and run objects lie."""

import os
import uuid
from pathlib import Path
from urllib.parse import unquote, urlsplit

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from stores.errors import StoreError

__all__ = ["DurableLocalStore", "local_root", "make_durable", "write_once"]


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


def make_durable(path: Path) -> None:
    """Have a file or directory, and its name in its parent, outlive a loss of power (fsync)."""
    for one in (path, path.parent):
        descriptor = os.open(one, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_once(path: Path, text: str) -> None:
    """A whole new file or none: written aside, brought to the disk, then given its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    aside.write_text(text)
    make_durable(aside)
    aside.rename(path)
    make_durable(path)


class DurableLocalStore(LocalStore):
    """zarr-python's local store (temporary file, then rename), with every write on the disk
    before it returns, so that a status is never there before the data that it speaks of.
    """

    async def set(self, key: str, value: Buffer) -> None:
        """Write a whole value, then fsync it and its directory."""
        await super().set(key, value)
        make_durable(self.root / key)
