"""Fixtures that run commands, and one Prefect server per session."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_outcomes import Outcome, RunCommand

from flows.cli import enecg
from flows.run_app import run_app

UNSET = ("PREFECT_", "DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY", "PYTHONPATH")
"""Prefixes of the variables that an executable does not inherit."""

RunExecutable = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session", autouse=True)
def _quick_ensembles(quick_ensembles: None) -> None:
    """Shorten training in all tests of the commands."""


@pytest.fixture
def run_enecg(capfd: pytest.CaptureFixture[str]) -> RunCommand:
    """Return a function that runs `enecg` with the given arguments in this process."""

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        code = run_app(enecg(), map(str, arguments))
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return run


@pytest.fixture
def run_executable(tmp_path: Path) -> RunExecutable:
    """Return a function that runs a program with a new Prefect home, by default in a new folder."""
    home = tmp_path / "prefect-home"
    empty = tmp_path / "empty"
    empty.mkdir()

    def run(
        *arguments: str, folder: Path | None = None, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        executable = Path(sys.executable).parent / arguments[0]
        if not executable.exists():
            pytest.skip(f"{executable} does not exist; install the project in this environment")
        inherited = {k: value for k, value in os.environ.items() if not k.startswith(UNSET)}
        return subprocess.run(
            [str(executable), *arguments[1:]],
            cwd=folder or empty,
            env={**inherited, "PREFECT_HOME": str(home), "COLUMNS": "200", **environ},
            capture_output=True,
            text=True,
            timeout=200,
        )

    return run


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A Prefect server with an empty database."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        yield
