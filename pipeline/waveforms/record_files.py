"""The files of a data set under one root: a directory, or a prefix of a bucket or a web server."""

import io
import os
import posixpath
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol, runtime_checkable

from enecg.errors import UserError
from stores.url import OBJECT_SCHEMES, WEB_SCHEMES, check_url

URL_SCHEMES = (*OBJECT_SCHEMES, *WEB_SCHEMES)
"""What a root may be besides a directory."""

_STREAM_BYTES = 8 << 20
_IN_PROC = "/proc/self/fd"
# Not blocking: opening a FIFO for reading would wait for its writer.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class Content(NamedTuple):
    """The beginning of a file, and how many bytes the whole of it has."""

    data: bytes
    size: int


class LeavesRootError(Exception):
    """A name that leads out of the root: absolute, by `..`, or by a symbolic link."""


@runtime_checkable
class RecordFiles(Protocol):
    """Files by name, `a/b/c`, under a root.

    A name that is not there, or is no file (a directory, a FIFO, a device), is a
    FileNotFoundError; one that leads out of the root a LeavesRootError. Can be pickled.
    """

    @property
    def threads(self) -> int:
        """How many reads side by side pay."""
        ...

    def read(self, name: str, limit: int) -> Content:
        """The first `limit` bytes of a file, all of it where it is shorter, and its size."""
        ...

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A file as a stream of bytes, for a large table."""
        ...

    def told(self, name: str) -> str:
        """The file's path or URL, for a sentence to the user."""
        ...


def open_root(root: str | Path, elsewhere: Sequence[str] = ()) -> RecordFiles:
    """What lies at a directory, or at `s3://BUCKET/PREFIX`, `https://...`, `gs://` or `az://`.

    `elsewhere`: as for `DirectoryFiles`. Raises UserError for a URL of another kind, or with
    credentials in it. Asks nobody.
    """
    if isinstance(root, str) and "://" in root:
        from pipeline.waveforms.object_files import ObjectFiles

        check_url(root, noun="data set", schemes=URL_SCHEMES, error=UserError)
        return ObjectFiles(root.rstrip("/"))
    return DirectoryFiles(root, elsewhere)


def check_name(name: str) -> str:
    """A name in its plainest form, `a//./b` as `a/b`.

    Raises LeavesRootError where it is absolute, or has `..`, a backslash or a NUL in it.
    """
    if name[:1] == "/" or "\\" in name or "\0" in name or ".." in name.split("/"):
        raise LeavesRootError(name)
    return posixpath.normpath(name) if "//" in name or "./" in name else name


class DirectoryFiles:
    """Files in a directory. Links are followed as long as they end inside it, or inside one of its
    folders named in `elsewhere`, which may itself be a link: the records may be on another disk.
    """

    threads = 1

    def __init__(self, root: str | Path, elsewhere: Sequence[str] = ()) -> None:
        self.root = os.fspath(root)
        inside = (os.path.realpath(root), *(os.path.realpath(f"{root}/{one}") for one in elsewhere))
        self._inside = tuple(one.rstrip("/") + "/" for one in inside)

    def read(self, name: str, limit: int) -> Content:
        """The first `limit` bytes, and the size."""
        descriptor, size = self._open(name)
        try:
            wanted = min(limit, size)
            data = os.read(descriptor, wanted)
            while len(data) < wanted and (more := os.read(descriptor, wanted - len(data))):
                data += more
        finally:
            os.close(descriptor)
        return Content(data, size)

    def open(self, name: str) -> BinaryIO:
        """The file, open for reading."""
        return os.fdopen(self._open(name)[0], "rb")

    def told(self, name: str) -> str:
        """The path."""
        return f"{self.root}/{name}"

    def _open(self, name: str) -> tuple[int, int]:
        """A descriptor of a regular file inside the root, and its size.

        Looks at what was opened rather than at the path: it is this file that is read.
        """
        path = f"{self.root}/{check_name(name)}"
        try:
            descriptor = os.open(path, _FLAGS)
        except NotADirectoryError as error:
            raise FileNotFoundError(path) from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FileNotFoundError(path)
            if not _path_of(descriptor, path).startswith(self._inside):
                raise LeavesRootError(name)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, status.st_size


def _path_of(descriptor: int, path: str) -> str:
    """Where an open file lies, links followed; on Linux the kernel says so for much less time."""
    try:
        return os.readlink(f"{_IN_PROC}/{descriptor}")  # noqa: PTH115 (a Path takes as long again)
    except OSError:
        return os.path.realpath(path)


def is_there(files: RecordFiles, name: str) -> bool:
    """Whether there is a file of this name, in a directory perhaps linked from elsewhere.

    Records may not be: their names come from a table. Those of the tables are our own.
    """
    if isinstance(files, DirectoryFiles):
        return Path(files.root, name).is_file()
    try:
        files.read(name, 0)
    except FileNotFoundError:
        return False
    return True


def find_table(files: RecordFiles, name: str) -> str | None:
    """`NAME.csv` or `NAME.csv.gz`, None where neither is there."""
    for table in (f"{name}.csv", f"{name}.csv.gz"):
        if is_there(files, table):
            return table
    return None


def copy_file(files: RecordFiles, name: str, target: Path) -> None:
    """Copy a file to this machine, and make the folder for it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.open(name) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy, _STREAM_BYTES)


@contextmanager
def local_copy(files: RecordFiles, name: str) -> Iterator[Path]:
    """The path of a file on this machine: its own, or that of a copy for as long as this lasts."""
    if isinstance(files, DirectoryFiles):
        yield Path(files.root) / name
        return
    with tempfile.TemporaryDirectory(prefix="enecg-") as folder:
        copy = Path(folder) / posixpath.basename(name)
        copy_file(files, name, copy)
        yield copy


def buffered(raw: io.RawIOBase) -> BinaryIO:
    """A stream that reads ahead in large parts, each of which may be a request."""
    return io.BufferedReader(raw, _STREAM_BYTES)
