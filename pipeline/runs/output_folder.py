"""Output folders of runs, evaluations and explanations. Only complete files replace old ones."""

import fcntl
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from safetensors import SafetensorError

from enecg.errors import UserError
from pipeline.runs.results import CONFIG, PROVENANCE, RESULTS

RUN_FILES = (CONFIG, PROVENANCE, RESULTS)
"""Files that every version of EnECG writes into a run folder."""

OPTIONAL_FILES = ("results.html", "results-with-ecgs.html", "*.patients.txt")
"""Patterns of files that a run may lack. Those of an earlier run are deleted."""

UNFINISHED = "unfinished"
"""Name of the subfolder that contains the new files until they are complete."""


def check_output(folder: Path, markers: Collection[str] = RUN_FILES, kind: str = "run") -> Path:
    """Check that `folder` is writable, and is new, is empty or contains an earlier output.

    Args:
        folder: Output folder; need not exist.
        markers: Names of files that identify an earlier output of this kind.
        kind: Kind of output for error messages, such as ``"run"`` or ``"evaluation"``.

    Returns:
        The folder with ``~`` expanded.

    Raises:
        UserError: `folder` is a file, is inaccessible or not writable, or is not empty and does not
            contain an earlier output.
    """
    folder = folder.expanduser()
    with translate_write_errors(folder):
        if folder.is_file():
            raise UserError(
                f"{folder} is a file, not a folder for the {kind}; choose another --out."
            )
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        if names - {UNFINISHED} and not names.issuperset(markers):
            raise UserError(
                f"{folder} is not empty and does not contain an earlier {kind} (it contains "
                f"{min(names)}); choose another --out."
            )
        parent = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with TemporaryFile(dir=parent):
            return folder


@contextmanager
def replace_output(
    folder: Path,
    marker: str = CONFIG,
    *,
    optional: Collection[str] = OPTIONAL_FILES,
    share: bool = False,
) -> Iterator[Path]:
    """Replace an earlier output in `folder` if the `with` block succeeds.

    Args:
        folder: Output folder; created if missing.
        marker: Name of the file that identifies a complete output. The old marker is deleted
            before any file is replaced, and the new marker is moved into place last, so an
            interrupted replacement is not mistaken for a complete output.
        optional: Patterns of files of an earlier output that are deleted even if the new output has
            no files of the same names.
        share: Whether other users may read the files, subject to the process's umask. By default
            only their owner can, because they contain patient ids and labels.

    Yields:
        A new subfolder for the files. When the block ends, they replace files of the same names;
        `optional` files and subfolders ``repeat-*`` of an earlier run are deleted. If the block
        raises an exception, the new files are deleted.

    Raises:
        UserError: The folder is not writable, or another process is writing to it.
    """
    unfinished = folder / UNFINISHED
    folder_mode = 0o777 if share else 0o700
    with translate_write_errors(folder):
        new = not folder.exists()
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=folder_mode, exist_ok=True)
    with lock_folder(folder):
        with translate_write_errors(folder):
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(mode=folder_mode)
        try:
            with translate_write_errors(folder):
                yield unfinished
                if not share:
                    for path in unfinished.rglob("*"):
                        path.chmod(0o700 if path.is_dir() else 0o600)
                (folder / marker).unlink(missing_ok=True)
                for earlier in folder.glob("repeat-[0-9]*"):
                    shutil.rmtree(earlier)
                for pattern in optional:
                    for earlier in folder.glob(pattern):
                        earlier.unlink()
                for path in sorted(unfinished.iterdir(), key=lambda path: path.name == marker):
                    path.replace(folder / path.name)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
            if new and not any(folder.iterdir()):
                folder.rmdir()


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes of this machine, until the block or process ends.

    If the file system does not support locks, the folder is not locked.

    Args:
        folder: Existing folder.

    Raises:
        UserError: The folder is locked already.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UserError(
            f"Another process is writing to {folder}; wait until it finishes, or choose another "
            "--out."
        ) from error
    except OSError:
        # The file system does not support locks.
        pass
    try:
        yield
    finally:
        os.close(descriptor)


def write_file(path: Path, write: Callable[[Path], object], *, share: bool) -> None:
    """Write a file atomically and sync it to disk.

    Args:
        path: The file.
        write: Called with the path of a temporary file; writes the contents to it.
        share: Whether other users may read the file, subject to the umask.

    Raises:
        OSError: The file cannot be written.
    """
    temporary = path.with_name(f"unfinished-{path.name}")
    write(temporary)
    if not share:
        temporary.chmod(0o600)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


@contextmanager
def translate_write_errors(folder: Path) -> Iterator[None]:
    """Convert errors of writing files to a UserError that names the output folder."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}); free some space, or choose another "
            "--out."
        ) from error
    except SafetensorError as error:
        raise UserError(
            f"{folder} cannot be written ({error}); free some space, or choose another --out."
        ) from error
