"""Who has a lease: what its numbered object says."""

import getpass
import json
import os
import socket
import uuid
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

EXPIRE_SECONDS = 45.0

RELEASED_TOKENS: set[str] = set()
"""Tokens of leases that this process has let go of, whether or not it could be told."""

_TYPES: dict[Any, Any] = {str: str, int: int, bool: bool, float: (int, float)}


@dataclass(frozen=True)
class LeaseRecord:
    """Who has a lease: what its object says, in JSON.

    `machine`: the same for all processes that see each other's process ids. `beat` counts the
    renewals. `expires`: seconds without a renewal after which it may be taken over.
    """

    token: str
    who: str
    since: str
    machine: str
    process: int
    beat: int = 0
    expires: float = EXPIRE_SECONDS
    released: bool = False

    @classmethod
    def for_this_process(cls, expires: float) -> "LeaseRecord":
        """This process."""
        try:
            user = getpass.getuser()
        except (KeyError, OSError):
            user = f"user {os.getuid()}"
        return cls(
            token=uuid.uuid4().hex[:12],
            who=f"{user}@{socket.gethostname()}, process {os.getpid()}",
            since=f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z}",
            machine=_machine(),
            process=os.getpid(),
            expires=expires,
        )

    @classmethod
    def parse(cls, value: bytes | None) -> "LeaseRecord | None":
        """From JSON; None where there is none, or it is half written and will be there soon."""
        known = {field.name: field.type for field in fields(cls)}
        try:
            # What a later version says besides is no reason to take its holder for dead.
            said = {key: one for key, one in json.loads(value or b"").items() if key in known}
            if not all(isinstance(one, _TYPES[known[key]]) for key, one in said.items()):
                return None
            return cls(**said)
        except (ValueError, TypeError, AttributeError):
            return None

    def __str__(self) -> str:
        gone = ", which is gone" if self.known_inactive else ""
        return f"{self.who}, since {self.since}{gone}"

    def json(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self)).encode()

    @property
    def known_inactive(self) -> bool:
        """Whether it can be seen from here that it writes no more: then nobody need wait.

        Its process ran on this machine and is gone, or it is this one and has let go of it.
        """
        if self.token in RELEASED_TOKENS:
            return True
        if self.machine != _machine():
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


def _machine() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    processes = Path("/proc/self/ns/pid")
    return " ".join(
        (
            socket.gethostname(),
            boot.read_text().strip() if boot.exists() else "",
            str(processes.readlink()) if processes.exists() else "",
        )
    )
