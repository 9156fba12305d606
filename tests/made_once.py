"""Data shared by all processes of a test run, written by the first one that requests them."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def make_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that the first process writes while the others wait.

    Args:
        factory: Provides the temporary folder of this process; with pytest-xdist, all processes of
            the test run share its parent.
        name: Name of the folder.
        make: Writes the content; called with the path of the folder, which does not exist.

    Returns:
        The folder, which tests must not change.
    """
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, complete = shared / name, shared / f"{name}.complete"
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            make(folder)
            complete.touch()
    return folder


def list_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and modification time in ns of all files of a folder, by relative path."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            state = path.stat()
            found[str(path.relative_to(folder))] = (state.st_size, state.st_mtime_ns)
    return found
