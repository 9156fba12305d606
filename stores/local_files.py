"""Paths in a local store root, checked for symbolic links, and durable writes."""

import os
import uuid
from pathlib import Path

from stores.errors import UnsafeFile
from stores.location import BytesLike
from stores.regular_files import describe_link

PARTIAL = ".partial"
"""Suffix of a file that is still being written."""
DATASET_DEPTH = 2
"""Depth of a data set's folder below the root; links inside this folder are not followed."""


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
    for number, part in enumerate(parts):
        if part in ("", ".", ".."):
            raise UnsafeFile(f"{root}/{key} is not a valid location: a part is empty, '.' or '..'.")
        path = path / part
        if DATASET_DEPTH <= number < len(parts) - 1 and path.is_symlink():
            raise UnsafeFile(describe_link(path, path.resolve()))
    return path


def safe_folder(root: Path, key: str) -> Path:
    """Return the path of a folder below a root.

    Args:
        root: Directory of the store root; see `safe_path`.
        key: Key of the folder.

    Returns:
        The path.

    Raises:
        UnsafeFile: The folder, or one above it, is a link inside a data set's folder, or the key is
            invalid.
    """
    path = safe_path(root, key)
    if depth(key) > DATASET_DEPTH and path.is_symlink():
        raise UnsafeFile(describe_link(path, path.resolve()))
    return path


def depth(key: str) -> int:
    """Return the number of parts of a key."""
    return len(key.split("/")) if key else 0


def partial_name(folder: Path) -> Path:
    """Return a new unique path for a partial file in a folder."""
    return folder / f"{uuid.uuid4().hex}{PARTIAL}"


def write_durably(value: BytesLike, path: Path) -> Path:
    """Write a new file and sync it to disk. If this fails, remove the file.

    Args:
        value: Contents.
        path: The file, which must not exist.

    Returns:
        `path`.
    """
    try:
        with path.open("xb") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def sync_folders(folder: Path, top: Path) -> None:
    """Sync folders to disk, so that new directory entries are durable.

    Args:
        folder: The first folder.
        top: The last folder, which is `folder` or one of its parents.
    """
    for current in (folder, *folder.parents):
        descriptor = os.open(current, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if current == top:
            break
