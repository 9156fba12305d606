"""The real executables, each run with a Prefect home of its own, and one test server a session."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

OURS = ("PREFECT_", "DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY", "PYTHONPATH")


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs an executable that lies beside this python, in an empty folder unless told otherwise."""
    home = tmp_path / "prefect-home"
    empty = tmp_path / "empty"
    empty.mkdir()

    def run(
        *words: str, folder: Path | None = None, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        executable = Path(sys.executable).parent / words[0]
        if not executable.exists():
            pytest.skip(f"{executable} is not there: install the project into this environment")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        return subprocess.run(
            [str(executable), *words[1:]],
            cwd=folder or empty,
            env={**clean, "PREFECT_HOME": str(home), "COLUMNS": "200", **environ},
            capture_output=True,
            text=True,
            timeout=200,
        )

    return run


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A Prefect server with an empty database, once a session."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        yield
