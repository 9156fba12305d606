"""Find the WFDB records of a data set."""

import errno
import os
import re
from collections import deque
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from enecg.errors import UserError
from pipeline.datasets.id_columns import HEADER_SUFFIX

if TYPE_CHECKING:
    from pipeline.waveforms.object_files import ObjectFiles

_SURROGATE = re.compile("[\ud800-\udfff]")


def find_records(root: Path) -> list[str]:
    """Find all WFDB records in a directory and its subdirectories.

    Hidden files and folders are ignored. Each folder is visited once: under its own path if it is
    in the directory, or else under the path of a link to it.

    Args:
        root: The directory.

    Returns:
        Sorted paths of the headers relative to the directory, without ``.hea``.

    Raises:
        UserError: A folder cannot be read, a file name is not valid UTF-8, or a record has two
            headers.
    """
    records: list[str] = []
    visited: set[tuple[int, int]] = set()
    # Append links to the end, so that a folder is visited under its own path before a link to it.
    queue = deque([""])
    while queue:
        folder = queue.popleft()
        try:
            status = (root / folder).stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(root / folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
            for entry in listed:
                path = f"{folder}/{entry.name}".lstrip("/")
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    (queue.append if entry.is_symlink() else queue.appendleft)(path)
                elif entry.name.lower().endswith(HEADER_SUFFIX):
                    records.append(path[: -len(HEADER_SUFFIX)])
        except OSError as error:
            raise UserError(
                f"{root / folder} cannot be read ({error.strerror}); change its permissions, or "
                "move it out of the data set."
            ) from error
    return _sort_and_check(records, str(root))


def find_records_at_url(files: "ObjectFiles") -> list[str]:
    """Find all WFDB records below a URL, by the rules of `find_records`.

    Args:
        files: The files below the URL.

    Returns:
        Sorted paths of the headers relative to the URL, without ``.hea``.

    Raises:
        UserError: The files cannot be listed, or a record has two headers.
    """
    names = (
        name
        for name in files.list_names(HEADER_SUFFIX)
        if not name.startswith(".") and "/." not in name
    )
    return _sort_and_check([name[: -len(HEADER_SUFFIX)] for name in names], files.url)


def _sort_and_check(records: list[str], root: str) -> list[str]:
    """Sort the records; raise UserError if one has an invalid name or two headers."""
    # Python represents bytes that are not valid UTF-8 as surrogates.
    if invalid := next((record for record in records if _SURROGATE.search(record)), None):
        raise UserError(
            f"{root} has a record whose name is not valid UTF-8, {invalid!r}; rename its files."
        )
    records.sort()
    if repeated := next((name for name, other in pairwise(records) if name == other), None):
        raise UserError(
            f"{root} has several headers of the record {repeated}, whose suffixes differ only in "
            f"case ({HEADER_SUFFIX}, {HEADER_SUFFIX.upper()}); keep one of them."
        )
    return records


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        # A circular link is not a folder.
        if error.errno == errno.ELOOP:
            return False
        raise
