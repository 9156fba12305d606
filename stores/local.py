"""Store roots in a directory, local or on a network file system.

No file locks are used. A lease holder writes each value to its own staging folder, then renames it
into place. A process that takes over the lease removes the previous holder's staging folder, so
later renames by the previous holder fail.
"""

import asyncio
import errno
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from stores.documents import MAX_DOCUMENT_BYTES, MAX_VALUE_BYTES
from stores.errors import LeaseLost, UnsafeFile, VersionConflict, too_large
from stores.location import BytesLike
from stores.regular_files import check_regular, describe_link, open_regular, read_open_file

NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""Error codes of `os.link` on file systems without hard links."""
FILE_GONE = {errno.ENOENT, errno.ESTALE}
"""Error codes for a removed file; NFS reports ESTALE."""
PARTIAL = ".partial"
"""Suffix of a file that is still being written."""
CLEARED = ".cleared"
"""Suffix of a staging folder that is being removed."""


DATASET_DEPTH = 2
"""Depth of a data set's folder below the root; links inside this folder are not followed."""


@dataclass(frozen=True)
class LocalRoot:
    """The `StoreRoot` of a directory."""

    directory: Path

    @property
    def url(self) -> str:
        """Path of the directory."""
        return str(self.directory)

    @property
    def read_threads(self) -> int:
        """Recommended number of concurrent reads."""
        return 4

    def read(self, key: str) -> bytes | None:
        """Return a file's contents, or None if it does not exist."""
        path = safe_path(self.directory, key)
        while True:
            try:
                descriptor = open_regular(path)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None
            try:
                return read_open_file(descriptor, path, MAX_DOCUMENT_BYTES)
            except OSError as error:
                # On NFS, another machine has replaced the file; read the new one.
                if error.errno != errno.ESTALE:
                    raise
            finally:
                os.close(descriptor)

    @contextmanager
    def open(self, key: str) -> Iterator["FileReader | None"]:
        """Open a file; if it is replaced, the reader keeps the old contents."""
        try:
            descriptor = open_regular(safe_path(self.directory, key))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            yield None
            return
        except OSError as error:
            raise _translate_stale(error, key) from error
        try:
            yield FileReader(descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)

    def write(self, key: str, value: bytes) -> None:
        """Write a file and rename it into place."""
        path = safe_path(self.directory, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_durably(value, _partial_name(path.parent)).replace(path)
        _sync_folders(path.parent, self.directory)

    def create(self, key: str, value: bytes) -> bool:
        """Write a file if it does not exist, using a hard link, which is atomic on NFS too."""
        path = safe_path(self.directory, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = _write_durably(value, _partial_name(path.parent))
        try:
            os.link(partial, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            # The file system has no hard links: reserve the name with an empty file, then replace
            # it.
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            except FileExistsError:
                return False
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        _sync_folders(path.parent, self.directory)
        return True

    def delete(self, key: str) -> None:
        """Delete a file if it exists."""
        safe_path(self.directory, key).unlink(missing_ok=True)

    def children(self, key: str) -> tuple[list[str], list[str]]:
        """Return the names of folders and files in a folder; empty lists if it does not exist.

        Raises:
            UnsafeFile: The folder, or one above it, is a symbolic link inside a data set's folder.
        """
        follows = _depth(key) < DATASET_DEPTH
        try:
            with os.scandir(_safe_folder(self.directory, key)) as entries:
                found = sorted(
                    (entry.name, entry.is_dir())
                    for entry in entries
                    if follows or not entry.is_symlink()
                )
        except (FileNotFoundError, NotADirectoryError):
            return [], []
        folders = [name for name, is_folder in found if is_folder]
        return folders, [name for name, is_folder in found if not is_folder]

    def names(self, key: str) -> list[str]:
        """Return the names of folders, files and links in a folder; see `children`."""
        try:
            return [path.name for path in _safe_folder(self.directory, key).iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def links(self, key: str) -> list[tuple[str, str]]:
        """Return the names and targets of the links in a folder that `children` omits."""
        if _depth(key) < DATASET_DEPTH:
            return []
        try:
            with os.scandir(_safe_folder(self.directory, key)) as entries:
                links = sorted(entry.name for entry in entries if entry.is_symlink())
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [(name, str((self.directory / key / name).resolve())) for name in links]

    def sizes(self, key: str) -> Iterator[tuple[str, int]]:
        """Yield the key and the size in bytes of every file below a folder."""
        folders, files = self.children(key)
        for name in files:
            file = f"{key}/{name}".strip("/")
            # Another process may delete the file at any time.
            try:
                yield file, (self.directory / file).lstat().st_size
            except FileNotFoundError:
                continue
        for name in folders:
            yield from self.sizes(f"{key}/{name}".strip("/"))

    def zarr_writer(self, staging: str) -> LocalStore:
        """Return a Zarr store that writes through the staging folder."""
        return FencedLocalStore(self.directory, staging=self.directory / staging)

    def zarr_reader(self) -> LocalStore:
        """Return a read-only Zarr store."""
        return RegularFileStore(self.directory, read_only=True)

    def create_staging(self, key: str) -> None:
        """Create a staging folder."""
        safe_path(self.directory, key).mkdir(parents=True)

    def remove_staging(self, key: str) -> None:
        """Remove a staging folder and its files, even while its owner creates more."""
        folder = safe_path(self.directory, key)
        # Once the folder is renamed, its owner can no longer write. Deleting the files may fail,
        # because another user owns them or NFS keeps a file that a process has open.
        cleared = folder.with_name(f"{uuid.uuid4().hex}{CLEARED}")
        try:
            folder.rename(cleared)
        except FileNotFoundError:
            return
        shutil.rmtree(cleared, ignore_errors=True)


@dataclass(frozen=True)
class FileReader:
    """The `RangeReader` of an open file."""

    descriptor: int
    size: int

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes ``[start, stop)``; see `RangeReader.read`."""
        try:
            return os.pread(self.descriptor, stop - start, start)
        except OSError as error:
            raise _translate_stale(error, "an open file") from error


class RegularFileStore(LocalStore):
    """Zarr's `LocalStore`, restricted to regular files; symbolic links to files are rejected."""

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read a value or a part of it; raise UnsafeFile if it is not a small regular file."""
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

    Every write is synced before it returns, so a status never reaches the disk before its data.
    """

    def __init__(self, root: Path | str, *, read_only: bool = False, staging: Path) -> None:
        super().__init__(root, read_only=read_only)
        self.staging = staging

    def with_read_only(self, read_only: bool = False) -> "FencedLocalStore":
        """Return a copy of the store, read-only or writable."""
        return type(self)(self.root, read_only=read_only, staging=self.staging)

    def track_version(self, key: str) -> None:
        """Do nothing: once the lease is lost, writes fail because the staging folder is removed."""

    async def set(self, key: str, value: Buffer) -> None:
        """Write a complete value durably."""
        self._check_writable()
        await asyncio.to_thread(self.put, key, value.as_buffer_like())

    def put(self, key: str, value: BytesLike) -> None:
        """Write a complete value durably.

        Raises:
            LeaseLost: The staging folder has been removed.
            OSError: The value cannot be written for another reason.
        """
        path = safe_path(self.root, key)
        is_new_folder = not path.parent.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write_durably(value, _partial_name(self.staging)).replace(path)
        except OSError as error:
            if error.errno not in FILE_GONE:
                raise
            raise LeaseLost(
                f"{path.parent} was taken over by another extraction because this one did not "
                "renew its lease in time; run the same command again after the other one finishes."
            ) from error
        _sync_folders(path.parent, self.root if is_new_folder else path.parent)


def safe_path(root: Path, key: str) -> Path:
    """Return the path of a key below a root.

    Args:
        root: Directory of the store root. This directory and the folders of data sets may be
            symbolic links.
        key: Key below the root, in the form ``a/b/c``.

    Returns:
        The path. Its last part is not checked and may be a link.

    Raises:
        UnsafeFile: A folder inside a data set's folder is a link, or a part of the key is empty,
            ``.`` or ``..``.
    """
    parts = key.split("/") if key else []
    path = root
    for depth, part in enumerate(parts):
        if part in ("", ".", ".."):
            raise UnsafeFile(f"{root}/{key} is not a valid location in a store.")
        path = path / part
        if DATASET_DEPTH <= depth < len(parts) - 1 and path.is_symlink():
            raise UnsafeFile(describe_link(path, path.resolve()))
    return path


def _safe_folder(root: Path, key: str) -> Path:
    """Return a folder's path like `safe_path`; also raise UnsafeFile if the folder is a link."""
    path = safe_path(root, key)
    if _depth(key) > DATASET_DEPTH and path.is_symlink():
        raise UnsafeFile(describe_link(path, path.resolve()))
    return path


def _depth(key: str) -> int:
    return len(key.split("/")) if key else 0


def _translate_stale(error: OSError, name: str) -> Exception:
    """Return `VersionConflict` if the file was removed from NFS, else the error itself."""
    return VersionConflict(name) if error.errno == errno.ESTALE else error


def _partial_name(folder: Path) -> Path:
    return folder / f"{uuid.uuid4().hex}{PARTIAL}"


def _write_durably(value: BytesLike, path: Path) -> Path:
    """Write and sync a new file; remove it if this fails."""
    try:
        with path.open("xb") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def _sync_folders(folder: Path, top: Path) -> None:
    """Sync a folder and its parents up to `top`, so that new directory entries are durable."""
    for current in (folder, *folder.parents):
        descriptor = os.open(current, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if current == top:
            break
