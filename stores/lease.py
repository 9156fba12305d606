"""Leases: one extraction at a time writes to a store, on any file system and on S3.

Beside a store are numbered lease documents, each created by a create-only put, which exactly one
process wins. The highest number is the lease. Its holder renews it every 10 s and marks it as
released at the end. Another process polls the document; once it has not changed for 45 s by that
process's own clock, the lease has expired, and the next number may be taken. No file locks are
used, and clocks of different machines are never compared. A holder that was only suspended may
still try to write after expiry; the store roots fence such writes off (`local.py`, `objects.py`).
"""

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from stores.errors import LeaseLost, StoreError, translate_errors
from stores.layout import leases_folder, store_beside
from stores.lease_record import EXPIRE_SECONDS, RELEASED_TOKENS, LeaseRecord
from stores.location import Location

HEARTBEAT_SECONDS = 10.0
POLL_SECONDS = 1.0


class LeaseHeld(StoreError):
    """Another process holds the lease."""


@dataclass(frozen=True)
class Ticket:
    """The right to write under a lease, which its holder can pass to other processes.

    Attributes:
        folder: Folder of the lease documents.
        number: Number of the lease.
        token: Token in the lease document.
    """

    folder: Location
    number: int
    token: str

    @property
    def staging(self) -> Location:
        """Staging folder through which the holder writes."""
        return self.folder / f"{self.number:08d}-{self.token}"

    def check(self) -> None:
        """Check that the lease is still held.

        Raises:
            LeaseLost: Another process has taken over the lease.
        """
        number, record = _read_highest(self.folder)
        if number != self.number or record is None or record.token != self.token:
            by = f" by {record.who}" if record else ""
            raise LeaseLost(
                f"{store_beside(self.folder)} was taken over{by}, as this extraction did not renew "
                "its lease in time; run the same command again when that one is done."
            )


class Lease:
    """A held lease, renewed by a background thread until it is released.

    Attributes:
        ticket: The right to write, for this and other processes.
        record: The lease document as last written.
    """

    def __init__(self, ticket: Ticket, record: LeaseRecord, heartbeat_seconds: float) -> None:
        self.ticket = ticket
        self.record = record
        self._heartbeat_seconds = heartbeat_seconds
        self._failing = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Release the lease. If that cannot be written, the lease expires instead."""
        self._done.set()
        with suppress(OSError):
            self.ticket.staging.root.remove_staging(self.ticket.staging.key)
        RELEASED_TOKENS.add(self.ticket.token)
        self._thread.join(self._heartbeat_seconds)
        # If the last renewal failed or is waiting for a connection, this write would hang as well.
        if self._thread.is_alive() or self._failing:
            return
        with suppress(StoreError, OSError):
            self.ticket.check()
            self._write(replace(self.record, released=True))

    def _renew(self) -> None:
        while not self._done.wait(self._heartbeat_seconds):
            try:
                self.ticket.check()
                self._write(replace(self.record, beat=self.record.beat + 1))
                self._failing = False
            except LeaseLost:
                return
            except (StoreError, OSError):
                # The disk is full or the connection is lost; the next renewal may succeed.
                self._failing = True

    def _write(self, record: LeaseRecord) -> None:
        document = _document(self.ticket.folder, self.ticket.number)
        with translate_errors(document):
            document.root.write(document.key, record.json())
        self.record = record


def acquire(
    folder: Location,
    *,
    wait_seconds: float = 0.0,
    log: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
    expire_seconds: float = EXPIRE_SECONDS,
) -> Lease:
    """Acquire a lease, or take over one that has expired.

    If the lease is held, waits until the holder renews it or its lease expires, and after a renewal
    until `wait_seconds` have passed in all.

    Args:
        folder: Folder of the lease documents (`layout.leases_folder`).
        wait_seconds: How long to wait for a holder that renews its lease.
        log: Called once with a message if there is a holder to wait for.
        stop: Ends the wait when set by another thread.
        heartbeat_seconds: Interval of renewals.
        expire_seconds: Seconds without a renewal after which others may take over this lease.

    Returns:
        The lease, to be released or used in a ``with`` block.

    Raises:
        LeaseHeld: Another process holds the lease; the message names it.
        StoreError: The store root is unreachable or cannot be written.
    """
    began = time.monotonic()
    stop = stop or threading.Event()
    watched: tuple[int, LeaseRecord | None] | None = None
    changed = began
    while True:
        # This process may itself be suspended at any line. The time without a change is measured
        # from after the first read of a document to before its last, so it is never overestimated.
        now = time.monotonic()
        number, record = _read_highest(folder)
        if (number, record) != watched:
            renewed = watched is not None and watched[0] == number
            watched, changed = (number, record), time.monotonic()
        is_free = number == 0 or (record is not None and (record.released or record.known_inactive))
        if is_free or now - changed > (record.expires if record else expire_seconds):
            if lease := _take(folder, number + 1, heartbeat_seconds, expire_seconds):
                return lease
            continue
        if record is not None:
            if (renewed and now - began >= wait_seconds) or stop.is_set():
                raise LeaseHeld(
                    f"{store_beside(folder)} is being written by {record}; run the same command "
                    "when that is done, or with --wait-minutes."
                )
            if log is not None and now - began > POLL_SECONDS:
                limit = (
                    f", then waiting up to {wait_seconds / 60:.3g} minutes in all"
                    if wait_seconds
                    else ""
                )
                log(
                    f"{record.who} has been writing to {store_beside(folder)} since "
                    f"{record.since}: checking for up to {record.expires:.0f} s whether its lease "
                    f"is still renewed{limit}."
                )
                log = None
        elif stop.is_set():
            raise LeaseHeld(f"{store_beside(folder)} is being written; run the same command again.")
        stop.wait(POLL_SECONDS)


def read_holder(store: Location) -> LeaseRecord | None:
    """Return the record of a store's lease, expired or not; None if it was released."""
    _, record = _read_highest(leases_folder(store))
    return None if record is None or record.released else record


def lease_number(location: Location) -> int:
    """Return the number in the name of a lease document or staging folder, else 0."""
    # The whole name must match: names of partial files are random and may begin with digits.
    match = re.fullmatch(r"(\d{8,})(\.json|-[0-9a-f]{12})", location.name)
    return int(match[1]) if match else 0


def _take(folder: Location, number: int, heartbeat: float, expires: float) -> Lease | None:
    """Try to take the lease with this number; None if another process was faster."""
    record = LeaseRecord.for_this_process(expires)
    ticket = Ticket(folder, number, record.token)
    root = folder.root
    lease = None
    try:
        with translate_errors(folder):
            # Before the document: otherwise a process that is suspended between the two could
            # create the folder after another has taken over and removed this one's files.
            root.create_staging(ticket.staging.key)
            key = _document(folder, number).key
            try:
                # If the response to a successful put was lost, the document is this process's own.
                won = root.create(key, record.json()) or root.read(key) == record.json()
            except FileNotFoundError:
                # The winner removed this process's partial file.
                won = False
            if won and _read_highest(folder)[0] == number:
                lease = Lease(ticket, record, heartbeat)
                _remove_lower(folder, number)
                return lease
            root.remove_staging(ticket.staging.key)
            return None
    except BaseException:
        # The document may exist, and nobody should wait for its expiry.
        RELEASED_TOKENS.add(record.token)
        with suppress(OSError):
            root.remove_staging(ticket.staging.key)
        if lease is not None:
            lease.release()
        raise


def _remove_lower(folder: Location, number: int) -> None:
    """Remove the documents and staging folders of all lower numbers."""
    for old in folder.folders():
        if lease_number(old) < number:
            folder.root.remove_staging(old.key)
    for old in folder.files():
        if lease_number(old) < number:
            folder.root.delete(old.key)


def _read_highest(folder: Location) -> tuple[int, LeaseRecord | None]:
    """Return the highest lease number (0 if there is none) and its record, if it is readable."""
    with translate_errors(folder):
        number = max((lease_number(file) for file in folder.files()), default=0)
        return number, LeaseRecord.parse(_document(folder, number).read()) if number else None


def _document(folder: Location, number: int) -> Location:
    return folder / f"{number:08d}.json"
