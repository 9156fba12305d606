"""Store roots in a directory, local or on a network file system.

No file locks are used. A lease holder writes each value of its store to its staging folder, then
renames it into place. A process that takes over the lease removes the previous holder's staging
folder, so later renames by the previous holder fail.
"""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zarr.storage import LocalStore

from stores.documents import MAX_DOCUMENT_BYTES
from stores.errors import VersionConflict
from stores.local_files import (
    DATASET_DEPTH,
    depth,
    partial_name,
    safe_folder,
    safe_path,
    sync_folders,
    write_durably,
)
from stores.local_zarr import FencedLocalStore, RegularFileStore
from stores.regular_files import open_regular, read_open_file

NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""Error codes of `os.link` on file systems without hard links."""
CLEARED = ".cleared"
"""Suffix of a staging folder that is being removed."""


@dataclass(frozen=True)
class LocalRoot:
    """The `StoreRoot` of a directory.

    Attributes:
        directory: The directory.
    """

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
        """Open a file; None if it does not exist. The reader keeps the contents of this version."""
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
        """Write a file and rename it into place; see `StoreRoot.write`."""
        path = safe_path(self.directory, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(value, partial_name(path.parent)).replace(path)
        sync_folders(path.parent, self.directory)

    def create(self, key: str, value: bytes) -> bool:
        """Write a file if it does not exist; see `StoreRoot.create`."""
        path = safe_path(self.directory, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = write_durably(value, partial_name(path.parent))
        try:
            # Creating a hard link is atomic, on NFS too.
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
        sync_folders(path.parent, self.directory)
        return True

    def delete(self, key: str) -> None:
        """Delete a file if it exists."""
        safe_path(self.directory, key).unlink(missing_ok=True)

    def children(self, key: str) -> tuple[list[str], list[str]]:
        """Return the names of folders and files in a folder; empty lists if it does not exist.

        Raises:
            UnsafeFile: The folder, or one above it, is a symbolic link inside a data set's folder.
        """
        follows = depth(key) < DATASET_DEPTH
        try:
            with os.scandir(safe_folder(self.directory, key)) as entries:
                children = sorted(
                    (entry.name, entry.is_dir())
                    for entry in entries
                    if follows or not entry.is_symlink()
                )
        except (FileNotFoundError, NotADirectoryError):
            return [], []
        folders = [name for name, is_folder in children if is_folder]
        return folders, [name for name, is_folder in children if not is_folder]

    def names(self, key: str) -> list[str]:
        """Return the names of folders, files and links in a folder; empty if it does not exist."""
        try:
            return [path.name for path in safe_folder(self.directory, key).iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def links(self, key: str) -> list[tuple[str, str]]:
        """Return the names and targets of the links in a folder that `children` omits."""
        if depth(key) < DATASET_DEPTH:
            return []
        try:
            with os.scandir(safe_folder(self.directory, key)) as entries:
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
        """Remove a staging folder and its files, even while its owner writes to it."""
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
    """The `RangeReader` of an open file.

    Attributes:
        descriptor: Descriptor of the file.
        size: Size of the file in bytes.
    """

    descriptor: int
    size: int

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes ``[start, stop)``; see `RangeReader.read`."""
        try:
            return os.pread(self.descriptor, stop - start, start)
        except OSError as error:
            raise _translate_stale(error, "an open file") from error


def _translate_stale(error: OSError, name: str) -> Exception:
    """Return `VersionConflict` if the file was removed from NFS, else the error itself."""
    return VersionConflict(name) if error.errno == errno.ESTALE else error
