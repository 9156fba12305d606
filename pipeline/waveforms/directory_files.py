"""Files of a data set in a directory."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from pipeline.waveforms.record_files import Content, OutsideRootError, normalize_name

_PROC_FD = "/proc/self/fd"
# O_NONBLOCK: opening a FIFO for reading would block until it has a writer.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class DirectoryFiles:
    """Files below a directory.

    Symbolic links are followed if they end inside the directory or inside one of the linked
    folders, so records may be on another disk.

    Attributes:
        root: Path of the directory, as passed.
        threads: Number of files worth reading in parallel.
    """

    threads = 1

    def __init__(self, root: str | Path, linked_folders: Sequence[str] = ()) -> None:
        """Resolve the directory and the linked folders; the directory is not opened.

        Args:
            root: The directory; may be a symbolic link.
            linked_folders: Folders in `root` that may be links to a place outside it.
        """
        self.root = os.fspath(root)
        paths = (root, *(f"{root}/{folder}" for folder in linked_folders))
        self._allowed = tuple(os.path.realpath(path).rstrip("/") + "/" for path in paths)

    def read(self, name: str, limit: int) -> Content:
        """Read the first `limit` bytes of a file, or all of a shorter one."""
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
        """Open a file as a stream of bytes."""
        return os.fdopen(self._open(name)[0], "rb")

    def location(self, name: str) -> str:
        """Return the path of a file, for messages."""
        return f"{self.root}/{name}"

    def _open(self, name: str) -> tuple[int, int]:
        """Return the descriptor and size of a regular file inside the root."""
        path = f"{self.root}/{normalize_name(name)}"
        try:
            descriptor = os.open(path, _FLAGS)
        except NotADirectoryError as error:
            raise FileNotFoundError(path) from error
        # Check the descriptor: the path may refer to another file than the one that was opened.
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FileNotFoundError(path)
            if not _resolve(descriptor, path).startswith(self._allowed):
                raise OutsideRootError(name)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, status.st_size


def _resolve(descriptor: int, path: str) -> str:
    """Return the real path of an open file; on Linux without the cost of `os.path.realpath`."""
    try:
        return os.readlink(f"{_PROC_FD}/{descriptor}")  # noqa: PTH115 (Path.readlink is twice as slow)
    except OSError:
        return os.path.realpath(path)
