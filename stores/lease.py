"""Leases: one extraction at a time writes to a store, on any file system and on S3.

Numbered lease documents are kept beside each store. A document is created by a conditional put,
which succeeds in exactly one process. The document with the highest number is the current lease.
The holder renews the lease by rewriting its document every 10 s, and marks it as released at the
end. A waiting process polls the document. If the document does not change for 45 s, measured by the
waiting process's own clock, the lease has expired, and the waiting process may create the document
with the next number. No file locks are used, and clocks of different machines are never compared. A
lease whose document is not a valid lease record also expires after 45 s.

A suspended holder can resume after its lease has expired, and try to write. The store roots reject
such writes (`local.py`, `objects.py`).
"""

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from stores.errors import LeaseLost, StoreError, UnsafeFile, translate_errors
from stores.layout import leases_folder, store_beside
from stores.lease_record import EXPIRE_SECONDS, RELEASED_TOKENS, LeaseRecord
from stores.location import Location

HEARTBEAT_SECONDS = 10.0
"""Default interval of renewals."""
POLL_SECONDS = 1.0
"""Interval at which a waiting process reads the lease document."""
MAX_NUMBER = 10**18 - 1
"""Highest number of a lease. It is reached only if another program has written a document."""


class LeaseHeld(StoreError):
    """Another process holds the lease."""


@dataclass(frozen=True)
class Ticket:
    """Picklable handle that allows other processes to write under a lease.

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
        """Staging folder, to which values are written before they are renamed into place."""
        return self.folder / f"{self.number:08d}-{self.token}"

    def check(self) -> None:
        """Check that the lease is still held.

        Raises:
            LeaseLost: Another process has taken over the lease.
            StoreError: The lease documents cannot be read.
        """
        number, record = _read_highest(self.folder)
        if number != self.number or record is None or record.token != self.token:
            new_holder = record.who if record else "another process"
            raise LeaseLost(
                f"{store_beside(self.folder)} was taken over by {new_holder}, because this "
                "extraction did not renew its lease in time; run the same command again after that "
                "process finishes."
            )


class Lease:
    """A held lease, renewed by a background thread until it is released.

    Args:
        ticket: Handle that allows this and other processes to write.
        record: The lease record that was written when the lease was acquired.
        heartbeat_seconds: Seconds between renewals.

    Attributes:
        ticket: Handle that allows this and other processes to write.
        record: The lease record as last written.
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
        """Release the lease. If the document cannot be written, the lease expires later."""
        self._done.set()
        with suppress(OSError):
            self.ticket.staging.root.remove_staging(self.ticket.staging.key)
        RELEASED_TOKENS.add(self.ticket.token)
        self._thread.join(self._heartbeat_seconds)
        # If the last renewal failed or still waits for a connection, this write could hang too.
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
    permitted: threading.Event | None = None,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
    expire_seconds: float = EXPIRE_SECONDS,
    note: str = "",
) -> Lease:
    """Acquire a lease, or take over an expired one.

    If the lease is held, wait until it is released or expires. Raise `LeaseHeld` after the holder
    has renewed it and `wait_seconds` have elapsed since the call.

    Args:
        folder: Folder of the lease documents (`layout.leases_folder`).
        wait_seconds: Time to wait for a lease that is being renewed; the wait includes at least one
            renewal.
        log: Called once with a message if the wait is longer than `POLL_SECONDS`.
        stop: Event that another thread sets to end the wait.
        permitted: Event that another thread sets when the lease may be acquired. Until then, this
            function only observes whether the lease is renewed.
        heartbeat_seconds: Interval of renewals of the acquired lease.
        expire_seconds: Seconds without a renewal after which the acquired lease expires. Also
            applies to a current lease whose document is invalid.
        note: Text appended to the holder's description in messages, such as ``, enecg doctor``.

    Returns:
        The lease, to be released or used in a ``with`` block.

    Raises:
        LeaseHeld: Another process holds the lease, or `stop` was set before the lease was acquired.
        StoreError: The store root is unreachable or cannot be written.
    """
    start = time.monotonic()
    stop = stop or threading.Event()
    last_seen: tuple[int, LeaseRecord | None] | None = None
    last_change = start
    while True:
        # This process may be suspended at any time. Measure the time without a change from after
        # the first read of a document to before its latest read, so that a suspension between the
        # two reads cannot make the lease of a running holder appear expired.
        now = time.monotonic()
        number, record = _read_highest(folder)
        if (number, record) != last_seen:
            renewed = last_seen is not None and last_seen[0] == number
            last_seen, last_change = (number, record), time.monotonic()
        is_free = number == 0 or (record is not None and (record.released or record.known_inactive))
        is_expired = now - last_change > (record.expires if record else expire_seconds)
        is_permitted = permitted is None or permitted.is_set()
        if (is_free or is_expired) and is_permitted:
            if number == MAX_NUMBER:
                _restart_numbers(folder)
                continue
            own = LeaseRecord.for_this_process(expire_seconds, note)
            if lease := _create_lease(folder, number + 1, own, heartbeat_seconds):
                return lease
            continue
        if record is not None and not is_free and not is_expired:
            if (renewed and now - start >= wait_seconds) or stop.is_set():
                raise LeaseHeld(
                    f"{store_beside(folder)} is being written by {record}; run the same command "
                    "after that process finishes. To make an extraction wait for it, use "
                    "--wait-minutes."
                )
            if log is not None and now - start > POLL_SECONDS:
                limit = (
                    f" If it is, the total wait is at most {wait_seconds / 60:.3g} minutes."
                    if wait_seconds
                    else ""
                )
                log(
                    f"{record.who} has been writing to {store_beside(folder)} since "
                    f"{record.since}. Waiting up to {record.expires:.0f} s to check whether its "
                    f"lease is being renewed.{limit}"
                )
                log = None
        elif stop.is_set():
            raise LeaseHeld(
                f"Stopped waiting for the lease of {store_beside(folder)}; run the same command "
                "later."
            )
        (stop if permitted is None or is_permitted else permitted).wait(POLL_SECONDS)


def read_holder(store: Location) -> LeaseRecord | None:
    """Read the record of a store's current lease, which may have expired.

    Args:
        store: Location of the store.

    Returns:
        The record, or None if there is no lease, it was released, or its document is invalid.

    Raises:
        StoreError: The lease documents cannot be read.
    """
    _, record = _read_highest(leases_folder(store))
    return None if record is None or record.released else record


def parse_lease_number(location: Location) -> int:
    """Return the number in the name of a lease document or staging folder, or 0 for other names."""
    # Match the complete name, because random names of partial files may begin with digits.
    match = re.fullmatch(r"([0-9]{8,18})(\.json|-[0-9a-f]{12})", location.name)
    return int(match[1]) if match else 0


def _create_lease(
    folder: Location, number: int, record: LeaseRecord, heartbeat: float
) -> Lease | None:
    """Create the lease with this number; return None if another process has created it."""
    ticket = Ticket(folder, number, record.token)
    root = folder.root
    lease = None
    try:
        with translate_errors(folder):
            # Create the staging folder before the document. In the opposite order, a process that
            # is suspended between the two steps could create the folder after another process has
            # taken over the lease and removed older staging folders.
            root.create_staging(ticket.staging.key)
            key = _document(folder, number).key
            try:
                # A retried put fails if the first attempt succeeded but its response was lost. In
                # this case, the document contains this process's record.
                created = root.create(key, record.json()) or root.read(key) == record.json()
            except FileNotFoundError:
                # Another process has created the lease and removed this process's partial file.
                created = False
            if created and _read_highest(folder)[0] == number:
                lease = Lease(ticket, record, heartbeat)
                _remove_lower(folder, number)
                return lease
            root.remove_staging(ticket.staging.key)
            return None
    except BaseException:
        # The lease document may exist. Mark its token as released, so that this process can acquire
        # the lease again without waiting until it expires.
        RELEASED_TOKENS.add(record.token)
        with suppress(OSError):
            root.remove_staging(ticket.staging.key)
        if lease is not None:
            lease.release()
        raise


def _remove_lower(folder: Location, number: int) -> None:
    """Remove the documents and staging folders with lower numbers, and partial files."""
    for staging in folder.folders():
        if parse_lease_number(staging) < number:
            folder.root.remove_staging(staging.key)
    for file in folder.files():
        if parse_lease_number(file) < number:
            folder.root.delete(file.key)


def _restart_numbers(folder: Location) -> None:
    """Remove a free or expired lease with number `MAX_NUMBER`, which cannot have a successor."""
    with translate_errors(folder):
        # Remove the staging folders first, so that the previous holder can no longer write.
        for staging in folder.folders():
            if parse_lease_number(staging) == MAX_NUMBER:
                folder.root.remove_staging(staging.key)
        folder.root.delete(_document(folder, MAX_NUMBER).key)


def _read_highest(folder: Location) -> tuple[int, LeaseRecord | None]:
    """Return the highest lease number (0 if there is none) and its record (None if invalid)."""
    with translate_errors(folder):
        # Include folders and links with the name of a document, because they prevent its creation.
        names = [name for name in folder.root.names(folder.key) if name.endswith(".json")]
        number = max((parse_lease_number(folder / name) for name in names), default=0)
        if not number:
            return 0, None
        try:
            return number, LeaseRecord.parse(_document(folder, number).read())
        except UnsafeFile:
            return number, None


def _document(folder: Location, number: int) -> Location:
    return folder / f"{number:08d}.json"
