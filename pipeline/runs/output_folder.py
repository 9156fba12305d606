"""Output folders that are replaced as a whole, by a run or an evaluation."""

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from enecg.errors import UserError
from pipeline.runs.results import CONFIG, PROVENANCE, RESULTS

RUN_FILES = (CONFIG, PROVENANCE, RESULTS)
"""Files of a run folder, in every version of EnECG."""

UNFINISHED = "unfinished"
"""Subfolder into which new files are written before they replace the earlier ones."""


def check_output(folder: Path, markers: Collection[str] = RUN_FILES, what: str = "run") -> Path:
    """Check that `folder` can become a run; an earlier run there will be overwritten.

    Args:
        folder: New or empty folder, or one that holds an earlier run.
        markers: Files that identify an earlier run.
        what: Noun for messages.

    Returns:
        The folder with ``~`` expanded.

    Raises:
        UserError: `folder` is a file, or holds something other than an earlier run.
    """
    folder = folder.expanduser()
    if folder.is_file():
        raise UserError(f"{folder} is a file, not a folder for the {what}; choose another --out.")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if names - {UNFINISHED} and not names.issuperset(markers):
        raise UserError(
            f"{folder} is not empty and holds no earlier {what} (it contains {min(names)}); "
            "choose another --out."
        )
    return folder


@contextmanager
def replace_output(folder: Path, marker: str = CONFIG) -> Iterator[Path]:
    """Write the contents of `folder` all at once.

    Args:
        folder: Output folder; created if missing.
        marker: File that makes the folder a run. It is removed first and written last, so that
            a folder with files of two runs is never read as one.

    Yields:
        A subfolder to write into. On success its files replace those of an earlier run; on an
        exception they are deleted.

    Raises:
        UserError: The folder cannot be written.
    """
    unfinished = folder / UNFINISHED
    with translate_write_errors(folder):
        new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
    try:
        yield unfinished
        with translate_write_errors(folder):
            (folder / marker).unlink(missing_ok=True)
            for earlier in folder.glob("repeat-[0-9]*"):
                shutil.rmtree(earlier)
            for path in sorted(unfinished.iterdir(), key=lambda path: path.name == marker):
                path.replace(folder / path.name)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if new and not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def translate_write_errors(folder: Path) -> Iterator[None]:
    """Turn an OSError into a UserError that names the output folder."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}); choose another --out."
        ) from error
