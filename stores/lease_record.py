"""The JSON document of a lease: who holds it, and how often it was renewed."""

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
"""Tokens of leases that this process has released, even if their documents do not show it yet."""

_TYPES: dict[Any, Any] = {str: str, int: int, bool: bool, float: (int, float)}


@dataclass(frozen=True)
class LeaseRecord:
    """The holder of a lease; the fields are the keys of the JSON document.

    Attributes:
        token: Random identifier of the lease.
        who: User, host and process, for messages.
        since: Local time of acquisition.
        machine: Host, boot and PID namespace; equal for processes that share PIDs.
        process: Process id.
        beat: Number of renewals.
        expires: Seconds without a renewal after which others may take over the lease.
        released: Whether the holder has released the lease.
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
        """Return a new record, held by this process, that expires after `expires` seconds."""
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
        """Parse a JSON document; None if it is missing or not completely written yet."""
        types = {field.name: field.type for field in fields(cls)}
        try:
            # Keys of a later version are ignored.
            known = {key: item for key, item in json.loads(value or b"").items() if key in types}
            if not all(isinstance(item, _TYPES[types[key]]) for key, item in known.items()):
                return None
            return cls(**known)
        except (ValueError, TypeError, AttributeError):
            return None

    def __str__(self) -> str:
        ended = ", no longer running" if self.known_inactive else ""
        return f"{self.who}, since {self.since}{ended}"

    def json(self) -> bytes:
        """Return the JSON document."""
        return json.dumps(asdict(self)).encode()

    @property
    def known_inactive(self) -> bool:
        """Whether the holder certainly writes no more, so that nobody has to wait for expiry.

        This is so if its process ran on this machine and has ended, or if it is this process and
        it has released the lease. A process on another machine counts as running.
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
    pid_namespace = Path("/proc/self/ns/pid")
    return " ".join(
        (
            socket.gethostname(),
            boot.read_text().strip() if boot.exists() else "",
            str(pid_namespace.readlink()) if pid_namespace.exists() else "",
        )
    )
