"""Fixtures for the documentation's commands: Prefect server, and folder with data and stores."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

EXPERTS = ("dlinear", "timesnet")


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment variables that select a Prefect server, which all commands share."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    api = f"http://127.0.0.1:{port}/api"
    variables = {
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_PLUGINS_ENABLED": "true",
        "DO_NOT_TRACK": "1",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port), "--no-ui"]
    server = subprocess.Popen(
        command,
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{api}/health")
                break
            except OSError:
                assert server.poll() is None, f"the Prefect server exited with {server.poll()}"
                time.sleep(0.5)
        else:
            pytest.fail("the Prefect server did not respond within two minutes")
        yield {**variables, "PREFECT_API_URL": api}
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data/quick` and `stores-data/quick`, which the commands of the pages read."""
    import enecg

    folder = tmp_path_factory.mktemp("prepared")
    dataset, store = f"mimic-iv-ecg:{folder}/data/quick", folder / "stores-data" / "quick"
    enecg.synthesize(folder / "data" / "quick", patients=40, seed=0)
    options = enecg.ExtractOptions(weights=("random:0",))
    enecg.extract(dataset, store, EXPERTS, options=options)
    return folder


@pytest.fixture
def workspace(prepared: Path, tmp_path: Path) -> Path:
    """A copy of `prepared` for the commands of one page."""
    return Path(shutil.copytree(prepared, tmp_path / "workspace", symlinks=True))
