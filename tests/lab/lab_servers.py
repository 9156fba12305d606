"""Processes of a lab on loopback."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from lab_compose import read_service

BIN = Path(sys.executable).parent
WAIT_SECONDS = 240


def wait_for(condition: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS) -> Any:
    """Wait until a function returns a true value, and return it."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if value := condition():
            return value
        time.sleep(0.5)
    pytest.fail(f"timed out after {seconds:g} s waiting for {what}")


@dataclass
class Lab:
    """Running processes, the folder with their logs, and the environment of a user."""

    folder: Path
    values: dict[str, str]
    ports: dict[str, int]
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)

    def start(self, name: str, *options: str, as_name: str | None = None) -> None:
        """Start a service of the Compose files, and wait until its health check succeeds.

        Options are appended to the command. `as_name` is the name of the process and of its log.
        """
        service = read_service(name, self.values, self.ports)
        environment = {**self.environment, **service.environment}
        process = self.popen(as_name or name, [*service.command, *options], environment)

        def ready() -> bool:
            assert process.poll() is None, f"{name} has exited:\n{self.log(as_name or name)}"
            return not subprocess.run(
                [*service.healthcheck], env=environment, capture_output=True
            ).returncode

        wait_for(ready, f"health check of {name}")

    def popen(
        self, name: str, command: Sequence[str], environment: dict[str, str], **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start a process in its own session; its output is appended to ``NAME.log``."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,
            )
        return self.processes[name]

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def run(self, *command: str) -> str:
        """Run a command in the environment of a user, and return its standard output."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a process and its descendants, and wait until the process exits."""
        process = self.processes.pop(name)
        for member in descendants(process.pid):
            try:
                os.kill(member, number)
            except ProcessLookupError:
                continue
        process.wait(60)


def descendants(process: int) -> list[int]:
    """Return a process and its descendants, from `/proc`."""
    found = [process]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found


def postgres_programs() -> Path:
    """Return the folder of Postgres's programs; skip the test if there is none."""
    folders = [*Path("/usr/lib/postgresql").glob("*/bin")]
    if found := shutil.which("initdb"):
        folders.append(Path(found).resolve().parent)
    if not folders:
        pytest.skip("Postgres is not installed; install the package postgresql")
    return folders[-1]


def start_postgres(lab: Lab) -> Path:
    """Start Postgres with an empty database (as user postgres if root); return its folder."""
    programs = postgres_programs()
    folder = Path(tempfile.mkdtemp(prefix="enecg-lab-"))
    options: dict[str, Any] = {}
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        options = {"user": "postgres", "group": "postgres", "extra_groups": ()}
    password = folder / "password"
    password.write_text(lab.values["POSTGRES_PASSWORD"])
    password.chmod(0o644)
    data = str(folder / "data")
    login = ["--username=prefect", "--auth=scram-sha-256", f"--pwfile={password}"]
    subprocess.run(
        [programs / "initdb", *login, "--no-sync", data],
        **options,
        check=True,
        capture_output=True,
        cwd=folder,
    )
    port = str(lab.ports["postgres:5432"])
    settings = ["-k", str(folder), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    environment = {"PATH": os.environ["PATH"]}
    lab.popen(
        "postgres",
        [str(programs / "postgres"), "-D", data, "-p", port, *settings],
        environment,
        **options,
    )
    target = ["-h", "127.0.0.1", "-p", port, "-U", "prefect"]
    environment |= {"PGPASSWORD": lab.values["POSTGRES_PASSWORD"]}
    wait_for(
        lambda: (
            not subprocess.run(
                [programs / "createdb", *target, "--maintenance-db=postgres", "prefect"],
                env=environment,
                capture_output=True,
            ).returncode
        ),
        "Postgres",
    )
    return folder


def start_s3(lab: Lab) -> None:
    """Start SeaweedFS with an empty folder; its parts other than the S3 API use free ports."""
    if not (BIN / "weed").exists():
        pytest.skip("SeaweedFS is not installed; `make test-lab` installs it")
    data = lab.folder / "s3"
    data.mkdir()
    options = ["master.port", "volume.port", "filer.port"]
    options += [f"{part}.port.grpc" for part in ("master", "volume", "filer", "s3")]
    ports = zip(options, free_ports(len(options)), strict=True)
    lab.start("s3", f"-dir={data}", *(f"-{option}={port}" for option, port in ports))


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for listener in sockets:
        listener.bind(("127.0.0.1", 0))
    numbers = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return numbers
