"""Zarr stores of a directory: reading of regular files only, and durable, fenced writing."""

import asyncio
import errno
import stat
from pathlib import Path

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from stores.documents import MAX_VALUE_BYTES
from stores.errors import LeaseLost, UnsafeFile, too_large
from stores.local_files import partial_name, safe_path, sync_folders, write_durably
from stores.location import BytesLike
from stores.regular_files import check_regular

MISSING_FILE_ERRNOS = {errno.ENOENT, errno.ESTALE}
"""Error codes for a removed file; NFS reports ESTALE."""


class RegularFileStore(LocalStore):
    """Zarr's `LocalStore`, restricted to regular files; symbolic links to files are rejected."""

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read a value or a part of it.

        Args:
            key: Key of the value.
            prototype: Type of buffer to return.
            byte_range: Part to read; None reads the complete value.

        Returns:
            The buffer; None if the value does not exist.

        Raises:
            UnsafeFile: The key is invalid, or the file is not a regular file or is larger than
                `MAX_VALUE_BYTES`.
        """
        await asyncio.to_thread(self._check, key)
        return await super().get(key, prototype, byte_range)

    def _check(self, key: str) -> None:
        path = safe_path(self.root, key)
        try:
            status = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return
        if stat.S_ISDIR(status.st_mode):
            return
        check_regular(path, status)
        if status.st_size > MAX_VALUE_BYTES:
            raise UnsafeFile(too_large(path, status.st_size))


class FencedLocalStore(RegularFileStore):
    """Zarr's `LocalStore` with durable writes, which fail once the staging folder is removed.

    `set` and `put` sync the value before they return. Therefore, the status of rows, which is
    written after their embeddings, never reaches the disk before them. Other methods that write are
    inherited and must not be used.

    Args:
        root: Directory of the store.
        read_only: Whether writes raise an error.
        staging: Folder for new versions of files, on the same file system.
    """

    def __init__(self, root: Path | str, *, read_only: bool = False, staging: Path) -> None:
        super().__init__(root, read_only=read_only)
        self.staging = staging

    def with_read_only(self, read_only: bool = False) -> "FencedLocalStore":
        """Return a copy of the store, read-only or writable."""
        return type(self)(self.root, read_only=read_only, staging=self.staging)

    def track_version(self, key: str) -> None:
        """Do nothing: on a disk, the removed staging folder is enough to fence writes."""

    async def set(self, key: str, value: Buffer) -> None:
        """Write a complete value durably; see `put`."""
        self._check_writable()
        await asyncio.to_thread(self.put, key, value.as_buffer_like())

    def put(self, key: str, value: BytesLike) -> None:
        """Write a complete value durably.

        Args:
            key: Key of the value.
            value: Contents.

        Raises:
            LeaseLost: The staging folder has been removed.
            UnsafeFile: The key is invalid, or a folder in it is a symbolic link.
            OSError: The value cannot be written for another reason.
        """
        path = safe_path(self.root, key)
        is_new_folder = not path.parent.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_durably(value, partial_name(self.staging)).replace(path)
        except OSError as error:
            if error.errno not in MISSING_FILE_ERRNOS:
                raise
            raise LeaseLost(
                f"{self.root}: the lease was lost, because its staging folder was removed; another "
                "process has probably taken over. Run the same command again after it finishes."
            ) from error
        sync_folders(path.parent, self.root if is_new_folder else path.parent)
