"""Commands and health checks of the Compose files, changed so that they run on loopback."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILES = (ROOT / "docker-compose.yml", ROOT / "docker-compose.s3.yml")
VARIABLE = re.compile(r"\$\{(?P<name>[A-Z0-9_]+)(:-(?P<default>[^}]*)|:\?[^}]*)?\}")
PORT = re.compile(r"(?<=[:= ])(4200|5432|8080|8786|8787|8789|9000)\b")


@dataclass(frozen=True)
class Service:
    """A service of the Compose files as a process on loopback.

    Attributes:
        name: Name of the service.
        command: Entry point, if the file sets one, and command, with their arguments.
        environment: Environment variables.
        healthcheck: Command that succeeds when the service is ready.
    """

    name: str
    command: list[str]
    environment: dict[str, str]
    healthcheck: list[str]


def read_service(name: str, values: Mapping[str, str], ports: Mapping[str, int]) -> Service:
    """Read a service.

    Args:
        name: Name of the service.
        values: Values of the variables, as in `.env`.
        ports: Ports on loopback by ``NAME:PORT`` in the files, of this and all other services.

    Returns:
        The service, in which the hosts in `ports` and 0.0.0.0 are replaced by 127.0.0.1.
    """
    service: dict[str, Any] = {}
    for file in FILES:
        found = yaml.safe_load(file.read_text())["services"].get(name, {})
        environment = {**service.get("environment", {}), **found.get("environment", {})}
        service = {**service, **found, "environment": environment}

    def convert(text: str) -> str:
        text = VARIABLE.sub(lambda m: values.get(m["name"]) or m["default"] or "", text)
        for address, port in ports.items():
            host, _, number = address.partition(":")
            text = re.sub(rf"(?<![\w-]){host}:{number}\b", f"127.0.0.1:{port}", text)
        own = {
            address.partition(":")[2]: str(port)
            for address, port in ports.items()
            if address.partition(":")[0] == name
        }
        text = PORT.sub(lambda m: own.get(m[0], m[0]), text)
        return text.replace("0.0.0.0", "127.0.0.1")

    return Service(
        name,
        [*service.get("entrypoint", ()), *shlex.split(convert(service.get("command", "")))],
        {
            key: convert(" " + value).strip()
            for key, value in service["environment"].items()
            if value is not None and key != "HOME"
        },
        [convert(part) for part in service.get("healthcheck", {}).get("test", ())[1:]],
    )
