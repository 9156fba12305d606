"""Open the root of a data set, a directory or a URL, and find and copy files in it."""

import posixpath
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from enecg.errors import UserError
from pipeline.waveforms.directory_files import DirectoryFiles
from pipeline.waveforms.record_files import STREAM_BYTES, RecordFiles
from stores.url import OBJECT_SCHEMES, WEB_SCHEMES, check_url


def open_root(root: str | Path) -> RecordFiles:
    """Open the root of a data set without connecting to a server.

    Args:
        root: A directory, or a URL: ``s3://BUCKET/PREFIX``, ``https://``, ``http://``, ``gs://``
            or ``az://``.

    Returns:
        The files below the root.

    Raises:
        UserError: The URL is invalid or contains credentials; see `stores.url.check_url`.
    """
    if isinstance(root, str) and "://" in root:
        # Imported here because a directory does not need obstore.
        from pipeline.waveforms.object_files import ObjectFiles

        check_url(root, noun="data set", schemes=(*OBJECT_SCHEMES, *WEB_SCHEMES), error=UserError)
        return ObjectFiles(root.rstrip("/"))
    return DirectoryFiles(root)


def file_exists(files: RecordFiles, name: str) -> bool:
    """Return whether a file exists. In a directory, the file may be a link to any target.

    Args:
        files: The files of a data set.
        name: Name of the file. Do not pass names from tables or headers: unlike `RecordFiles.read`
            and `RecordFiles.open`, this function does not reject files outside of a directory.

    Returns:
        Whether it exists.

    Raises:
        OSError: The file at a URL cannot be read; see `RecordFiles` for this and other exceptions.
    """
    if isinstance(files, DirectoryFiles):
        return Path(files.root, name).is_file()
    try:
        files.read(name, 0)
    except FileNotFoundError:
        return False
    return True


def find_table(files: RecordFiles, name: str) -> str | None:
    """Find a table, plain or gzipped.

    Args:
        files: The files of a data set.
        name: Name of the table without suffix.

    Returns:
        ``NAME.csv`` if it exists, else ``NAME.csv.gz``; None if neither exists.
    """
    for table in (f"{name}.csv", f"{name}.csv.gz"):
        if file_exists(files, table):
            return table
    return None


def copy_file(files: RecordFiles, name: str, target: Path) -> None:
    """Copy a file to a local path.

    Args:
        files: The files of a data set.
        name: Name of the file.
        target: Path of the copy. Missing folders are created, and an existing file is replaced.

    Raises:
        OSError: The file cannot be read; see `RecordFiles` for this and other exceptions.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.open(name) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy, STREAM_BYTES)


@contextmanager
def local_copy(files: RecordFiles, name: str) -> Iterator[Path]:
    """Provide a local path of a file: that of a temporary copy if the root is a URL.

    Args:
        files: The files of a data set.
        name: Name of the file, as for `file_exists`.

    Yields:
        The path, valid inside the ``with`` block. In a directory, the file may be missing.

    Raises:
        OSError: The file at a URL cannot be read; see `RecordFiles` for this and other exceptions.
    """
    if isinstance(files, DirectoryFiles):
        yield Path(files.root) / name
        return
    with tempfile.TemporaryDirectory(prefix="enecg-") as folder:
        copy = Path(folder) / posixpath.basename(name)
        copy_file(files, name, copy)
        yield copy
