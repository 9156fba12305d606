"""Find run folders."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from enecg.errors import UserError
from pipeline.runs.results import CONFIG, RESULTS

SEARCH_DEPTH = 3
"""Levels of subfolders that `find_runs` searches."""


def find_runs(folder: Path) -> Iterator[Path]:
    """Find run folders in a folder and in up to `SEARCH_DEPTH` levels of its subfolders.

    Args:
        folder: Folder to search; may be a run folder itself.

    Yields:
        Run folders, sorted by path. Subfolders of a run folder are not searched, and folders that
        this user may not read are skipped.

    Raises:
        UserError: The folder does not exist or cannot be read.
    """
    folder = folder.expanduser()
    if not (folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)):
        raise UserError(
            f"The folder {folder} does not exist or cannot be read; pass one that contains runs."
        )
    yield from _find_runs(folder, SEARCH_DEPTH)


def _find_runs(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / CONFIG).is_file() and (folder / RESULTS).is_file():
        yield folder
    elif depth:
        for subfolder in sorted(path for path in folder.iterdir() if path.is_dir()):
            with suppress(PermissionError):
                yield from _find_runs(subfolder, depth - 1)
