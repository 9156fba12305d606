"""Store roots that are directories, on this machine or on a network file system.

Nothing here relies on locks of the file system. What a stale writer may not do is held off by
its staging folder: every value is written there first and then renamed to its place, and who
takes over empties and removes the folder, so that a rename that comes late finds nothing.
"""

import asyncio
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from stores.errors import LeaseLost, VersionConflict
from stores.location import BytesLike

NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
GONE = {errno.ENOENT, errno.ESTALE}
"""What a file system says of a file that is not there any more; the second is NFS."""
PARTIAL = ".partial"
CLEARED = ".cleared"


@dataclass(frozen=True)
class LocalRoot:
    """A directory: the `StoreRoot` of a lab's shared folder."""

    root: Path

    @property
    def url(self) -> str:
        """The directory's path."""
        return str(self.root)

    @property
    def read_threads(self) -> int:
        """Reads that pay side by side."""
        return 4

    def read(self, key: str) -> bytes | None:
        """The file's bytes, or None."""
        while True:
            try:
                return (self.root / key).read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None
            except OSError as error:
                # NFS, of a file that another machine replaced meanwhile: there is a new one.
                if error.errno != errno.ESTALE:
                    raise

    @contextmanager
    def open(self, key: str) -> Iterator["FileReader | None"]:
        """The file, which stays what it was while it is open, whatever gets its name."""
        try:
            descriptor = os.open(self.root / key, os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            yield None
            return
        except OSError as error:
            raise _superseded(error, key) from error
        try:
            yield FileReader(descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)

    def write(self, key: str, value: bytes) -> None:
        """A whole new file or the old one."""
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_aside(value, _partial(path.parent)).replace(path)
        _sync_folders(path.parent, self.root)

    def create(self, key: str, value: bytes) -> bool:
        """A new file under a name that was free: a link, which one alone can make, also on NFS."""
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = _write_aside(value, _partial(path.parent))
        try:
            os.link(aside, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            # A file system without links: the name is taken first, the content comes after.
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            except FileExistsError:
                return False
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        _sync_folders(path.parent, self.root)
        return True

    def delete(self, key: str) -> None:
        """Remove the file."""
        (self.root / key).unlink(missing_ok=True)

    def children(self, key: str) -> tuple[list[str], list[str]]:
        """Folders and files; none where the folder is not there."""
        try:
            with os.scandir(self.root / key) as entries:
                found = sorted((entry.name, entry.is_dir()) for entry in entries)
        except (FileNotFoundError, NotADirectoryError):
            return [], []
        folders = [name for name, is_folder in found if is_folder]
        return folders, [name for name, is_folder in found if not is_folder]

    def sizes(self, key: str) -> Iterator[tuple[str, int]]:
        """Files below a folder, and their bytes."""
        folders, files = self.children(key)
        for name in files:
            below = f"{key}/{name}".strip("/")
            # A file may go while the folder is read.
            try:
                yield below, (self.root / below).stat().st_size
            except FileNotFoundError:
                continue
        for name in folders:
            yield from self.sizes(f"{key}/{name}".strip("/"))

    def zarr_writer(self, staging: str) -> LocalStore:
        """A Zarr store that writes by way of the staging folder."""
        return FencedLocalStore(self.root, staging=self.root / staging)

    def zarr_reader(self) -> LocalStore:
        """A Zarr store that reads."""
        return LocalStore(self.root, read_only=True)

    def create_staging(self, key: str) -> None:
        """Make the folder."""
        (self.root / key).mkdir(parents=True)

    def remove_staging(self, key: str) -> None:
        """Remove the folder and all in it, however often its holder adds to it meanwhile."""
        folder = self.root / key
        # By another name it serves nobody, at once, even where something in it cannot be removed:
        # it is somebody else's, or NFS keeps it for a process that has it open.
        away = folder.with_name(f"{uuid.uuid4().hex}{CLEARED}")
        try:
            folder.rename(away)
        except FileNotFoundError:
            return
        shutil.rmtree(away, ignore_errors=True)


@dataclass(frozen=True)
class FileReader:
    """An open file, read in parts."""

    descriptor: int
    size: int

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` up to `stop`. Raises VersionConflict where NFS lost them."""
        try:
            return os.pread(self.descriptor, stop - start, start)
        except OSError as error:
            raise _superseded(error, "an open file") from error


class FencedLocalStore(LocalStore):
    """zarr-python's local store, with every write on the disk before it returns, so that a status
    is never there before the data that it speaks of; and none once the staging folder is gone.
    """

    def __init__(self, root: Path | str, *, read_only: bool = False, staging: Path) -> None:
        super().__init__(root, read_only=read_only)
        self.staging = staging

    def with_read_only(self, read_only: bool = False) -> "FencedLocalStore":
        """The same store, read-only or not."""
        return type(self)(self.root, read_only=read_only, staging=self.staging)

    def track_version(self, key: str) -> None:
        """Nothing need be noted: who may not write cannot."""

    async def set(self, key: str, value: Buffer) -> None:
        """Write a whole value durably."""
        self._check_writable()
        await asyncio.to_thread(self.put, key, value.as_buffer_like())

    def put(self, key: str, value: BytesLike) -> None:
        """Write a whole value durably. Raises LeaseLost once the staging folder is gone."""
        path = self.root / key
        new = not path.parent.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write_aside(value, _partial(self.staging)).replace(path)
        except OSError as error:
            if error.errno not in GONE:
                raise
            raise LeaseLost(
                f"{path.parent} was taken over by another extraction while this one was away; "
                "run the same command again when that one is done."
            ) from error
        _sync_folders(path.parent, self.root if new else path.parent)


def _superseded(error: OSError, what: str) -> Exception:
    """What an error of reading means: NFS forgets a file that another machine replaced."""
    return VersionConflict(what) if error.errno == errno.ESTALE else error


def _partial(folder: Path) -> Path:
    return folder / f"{uuid.uuid4().hex}{PARTIAL}"


def _write_aside(value: BytesLike, aside: Path) -> Path:
    """Bring a value to the disk under another name."""
    try:
        with aside.open("xb") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    return aside


def _sync_folders(folder: Path, root: Path) -> None:
    """Bring the names in a folder to the disk, and of the folders above it up to `root`."""
    for one in (folder, *folder.parents):
        descriptor = os.open(one, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if one == root:
            break
