"""The JSON document of a lease: its holder and the number of renewals."""

import getpass
import json
import os
import re
import socket
import uuid
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from stores.documents import parse_document

EXPIRE_SECONDS = 45.0
"""Default seconds without a renewal after which a lease expires."""
RELEASED_TOKENS: set[str] = set()
"""Tokens of leases that this process has released, including those whose documents could not be
marked as released."""

MAX_EXPIRE_SECONDS = 3600.0
"""Maximum of `LeaseRecord.expires`; a record with a larger value is invalid."""

_TOKEN = re.compile("[0-9a-f]{12}")
_MAX_TEXT = 1000
_MAX_PROCESS = 2**31 - 1
_MAX_BEAT = 2**53

_TYPES: dict[Any, Any] = {str: str, int: int, bool: bool, float: (int, float)}


@dataclass(frozen=True)
class LeaseRecord:
    """The contents of a lease document; fields are the keys of the JSON object.

    Attributes:
        token: Random identifier of the lease.
        who: User, host and process id of the holder and a note, for messages.
        since: Local time of acquisition, with the UTC offset.
        machine: Host name, boot id and PID namespace; a process id is unique only within these.
        process: Process id of the holder.
        beat: Number of renewals.
        expires: Seconds without a renewal after which other processes may take over the lease.
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
    def for_this_process(cls, expires: float, note: str = "") -> "LeaseRecord":
        """Return the record of a new lease of this process.

        Args:
            expires: Seconds without a renewal after which the lease expires.
            note: Text appended to `who`, such as ``, enecg doctor``.

        Returns:
            The record, with a random token and no renewals.
        """
        try:
            user = getpass.getuser()
        except (KeyError, OSError):
            user = f"user {os.getuid()}"
        return cls(
            token=uuid.uuid4().hex[:12],
            who=f"{user}@{socket.gethostname()}, process {os.getpid()}{note}",
            since=f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z}",
            machine=_machine(),
            process=os.getpid(),
            expires=expires,
        )

    @classmethod
    def parse(cls, value: bytes | None) -> "LeaseRecord | None":
        """Parse a JSON document; return None if it is missing, incomplete or invalid."""
        types = {field.name: field.type for field in fields(cls)}
        try:
            # Ignore keys that a later version of EnECG may add.
            known = {key: item for key, item in parse_document(value).items() if key in types}
            if not all(isinstance(item, _TYPES[types[key]]) for key, item in known.items()):
                return None
            record = cls(**known)
        except (ValueError, TypeError, AttributeError):
            return None
        return record if record.is_valid else None

    @property
    def is_valid(self) -> bool:
        """Whether the values are within bounds; a huge `expires` blocks takeovers for years."""
        texts = (self.who, self.since, self.machine)
        return (
            _TOKEN.fullmatch(self.token) is not None
            and all(len(text) <= _MAX_TEXT for text in texts)
            and 0 < self.process <= _MAX_PROCESS
            and 0 <= self.beat <= _MAX_BEAT
            and 0 < self.expires <= MAX_EXPIRE_SECONDS
        )

    def __str__(self) -> str:
        suffix = ", no longer running" if self.known_inactive else ""
        return f"{self.who}, since {self.since}{suffix}"

    def json(self) -> bytes:
        """Return the JSON document."""
        return json.dumps(asdict(self)).encode()

    @property
    def known_inactive(self) -> bool:
        """Whether the holder is known to have stopped, so the lease can be taken over at once.

        True if the holder's process ran on this machine and has ended, or if it is this process and
        has released the lease. A process on another machine is assumed to be running.
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
            boot.read_text(encoding="utf-8").strip() if boot.exists() else "",
            str(pid_namespace.readlink()) if pid_namespace.exists() else "",
        )
    )
