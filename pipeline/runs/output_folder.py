"""Output folders of runs and evaluations, replaced only when the new files are complete."""

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from enecg.errors import UserError
from pipeline.runs.results import CONFIG, PROVENANCE, RESULTS

RUN_FILES = (CONFIG, PROVENANCE, RESULTS)
"""Files that every version of EnECG writes into a run folder."""

UNFINISHED = "unfinished"
"""Subfolder for new files, until they replace those of an earlier run."""


def check_output(folder: Path, markers: Collection[str] = RUN_FILES, what: str = "run") -> Path:
    """Check that `folder` can be used for output: it is new, empty, or contains an earlier run.

    Args:
        folder: Output folder; need not exist.
        markers: Names of files that identify an earlier run.
        what: Kind of output for error messages, ``"run"`` or ``"evaluation"``.

    Returns:
        The folder with ``~`` expanded.

    Raises:
        UserError: `folder` is a file, or is not empty and does not contain an earlier run.
    """
    folder = folder.expanduser()
    if folder.is_file():
        raise UserError(f"{folder} is a file, not a folder for the {what}; choose another --out.")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if names - {UNFINISHED} and not names.issuperset(markers):
        raise UserError(
            f"{folder} is not empty and does not contain an earlier {what} (it contains "
            f"{min(names)}); choose another --out."
        )
    return folder


@contextmanager
def replace_output(folder: Path, marker: str = CONFIG) -> Iterator[Path]:
    """Replace the contents of `folder` if the `with` block succeeds.

    Args:
        folder: Output folder; created if missing.
        marker: Name of the file that identifies the folder as a run. The old one is deleted
            before any file is replaced, and the new one is moved into place last, so an
            interrupted replacement is not mistaken for a complete run.

    Yields:
        A new subfolder for the files. When the block ends, they replace those of an earlier run;
        if it raises an exception, they are deleted.

    Raises:
        UserError: The folder is not writable.
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
