"""Reading of regular files of limited size, in folders to which other users can write."""

import errno
import os
import stat
from pathlib import Path

from stores.errors import UnsafeFile, too_large


def read_regular(path: Path, limit: int) -> bytes:
    """Read a regular file or a link to one.

    Args:
        path: The file.
        limit: Maximum size in bytes.

    Returns:
        The contents.

    Raises:
        UnsafeFile: The file is not a regular file, such as a FIFO, or is too large.
        OSError: The file cannot be read.
    """
    descriptor = open_regular(path, follow=True)
    try:
        return read_open_file(descriptor, path, limit)
    finally:
        os.close(descriptor)


def read_open_file(descriptor: int, path: Path, limit: int) -> bytes:
    """Read an open file.

    Args:
        descriptor: File descriptor; remains open.
        path: Path of the file, for the error message.
        limit: Maximum size in bytes.

    Returns:
        The contents.

    Raises:
        UnsafeFile: The file is larger than `limit`.
    """
    size = os.fstat(descriptor).st_size
    if size > limit:
        raise UnsafeFile(too_large(path, size))
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(limit)


def open_regular(path: Path, *, follow: bool = False) -> int:
    """Open a regular file for reading.

    If the path is a FIFO, this fails at once instead of waiting for a writer.

    Args:
        path: The file.
        follow: Whether the path may be a symbolic link to the file.

    Returns:
        The file descriptor.

    Raises:
        UnsafeFile: The path is not a regular file, or is a link and `follow` is False.
        IsADirectoryError: The path is a folder.
        OSError: The file cannot be opened.
    """
    no_links = 0 if follow else os.O_NOFOLLOW
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | no_links)
    except OSError as error:
        if error.errno == errno.ELOOP and path.is_symlink():
            raise UnsafeFile(describe_link(path, path.resolve())) from error
        if error.errno == errno.ENXIO:
            raise UnsafeFile(f"{path} is not a regular file; remove it.") from error
        raise
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        check_regular(path, status)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check_regular(path: Path, status: os.stat_result) -> None:
    """Check that a path is a regular file.

    Args:
        path: The path.
        status: Result of `lstat` or `fstat`.

    Raises:
        UnsafeFile: The path is a symbolic link or not a regular file.
    """
    if stat.S_ISLNK(status.st_mode):
        raise UnsafeFile(describe_link(path, path.resolve()))
    if not stat.S_ISREG(status.st_mode):
        raise UnsafeFile(f"{path} is not a regular file; remove it.")


def describe_link(path: object, target: object) -> str:
    """Return the message for a link that is not followed."""
    return (
        f"{path} is a link to {target}; links below the folder of a data set are not followed. "
        "Replace the link with its target."
    )
