"""Who may write to a store: one extraction at a time, on any file system and on S3.

Beside the store lies a sequence of numbered objects, each made by create-only put, which one
alone can win: the highest number has the lease. Its holder changes it every ten seconds while it
lives, and marks it released at the end. Whoever wants it watches, by a clock of their own: an
object that has not changed for 45 seconds belongs to the dead, and the next number may be taken.
No clock is compared with another's, and no lock of a file system is used. What a holder that was
only asleep may still try is held off by the store roots themselves (`local.py`, `objects.py`).
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
    """Somebody alive has the lease."""


@dataclass(frozen=True)
class Ticket:
    """The right to write by a lease: what its holder gives to other processes and machines.

    `folder`: where the numbered objects lie.
    """

    folder: Location
    number: int
    token: str

    @property
    def staging(self) -> Location:
        """Where values are set aside before they get their names."""
        return self.folder / f"{self.number:08d}-{self.token}"

    def check(self) -> None:
        """Raise LeaseLost where somebody else has taken the lease."""
        number, holder = _highest(self.folder)
        if number != self.number or holder is None or holder.token != self.token:
            by = f" by {holder.who}" if holder else ""
            raise LeaseLost(
                f"{store_beside(self.folder)} was taken over{by} while this extraction was away; "
                "run the same command again when that one is done."
            )


class Lease:
    """A lease that is held, and renewed in the background until it is released."""

    def __init__(self, ticket: Ticket, holder: LeaseRecord, heartbeat_seconds: float) -> None:
        self.ticket = ticket
        self.record = holder
        self._beat_seconds = heartbeat_seconds
        self._failing = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Let others write. Nothing is lost where it cannot be told: then it expires."""
        self._done.set()
        with suppress(OSError):
            self.ticket.staging.root.remove_staging(self.ticket.staging.key)
        RELEASED_TOKENS.add(self.ticket.token)
        self._thread.join(self._beat_seconds)
        # Where the last renewal waits for a connection, or got none, this would wait as long.
        if self._thread.is_alive() or self._failing:
            return
        with suppress(StoreError, OSError):
            self.ticket.check()
            self._write(replace(self.record, released=True))

    def _renew(self) -> None:
        while not self._done.wait(self._beat_seconds):
            try:
                self.ticket.check()
                self._write(replace(self.record, beat=self.record.beat + 1))
                self._failing = False
            except LeaseLost:
                return
            except (StoreError, OSError):
                # A full disk or a lost connection: the next beat may get through.
                self._failing = True

    def _write(self, holder: LeaseRecord) -> None:
        here = _numbered(self.ticket.folder, self.ticket.number)
        with translate_errors(here):
            here.root.write(here.key, holder.json())
        self.record = holder


def acquire(
    folder: Location,
    *,
    wait_seconds: float = 0.0,
    log: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
    expire_seconds: float = EXPIRE_SECONDS,
) -> Lease:
    """Take the lease whose numbered objects lie in `folder`, or take it over from the dead.

    Waits as long as it takes to tell whether the holder lives, at most its `expires`; then, where
    it does, up to `wait_seconds` in all. `log` is told once whom it waits for. Another thread
    ends the waiting by `stop`.
    Raises LeaseHeld, saying who has it and since when.
    """
    began = time.monotonic()
    stop = stop or threading.Event()
    watched: tuple[int, LeaseRecord | None] | None = None
    changed = began
    while True:
        # A watcher may itself be stopped at any line. It counts from after it first saw an object
        # to before it saw it the last time, which is never longer than the object was unchanged.
        now = time.monotonic()
        number, holder = _highest(folder)
        if (number, holder) != watched:
            alive = watched is not None and watched[0] == number
            watched, changed = (number, holder), time.monotonic()
        free = number == 0 or (holder is not None and (holder.released or holder.known_inactive))
        if free or now - changed > (holder.expires if holder else expire_seconds):
            if lease := _take(folder, number + 1, heartbeat_seconds, expire_seconds):
                return lease
            continue
        if holder is not None:
            if (alive and now - began >= wait_seconds) or stop.is_set():
                raise LeaseHeld(
                    f"{store_beside(folder)} is being written by {holder}; "
                    "run the same command when that is done, or with --wait-minutes."
                )
            if log is not None and now - began > POLL_SECONDS:
                limit = (
                    f", and waiting up to {wait_seconds / 60:.3g} minutes" if wait_seconds else ""
                )
                log(
                    f"{holder.who} has been writing to {store_beside(folder)} since "
                    f"{holder.since}: seeing whether it lives, up to {holder.expires:.0f} s{limit}."
                )
                log = None
        elif stop.is_set():
            raise LeaseHeld(f"{store_beside(folder)} is being written; run the same command again.")
        stop.wait(POLL_SECONDS)


def read_holder(store: Location) -> LeaseRecord | None:
    """Who has the lease of a store by what its object says, be they alive or not."""
    _, holder = _highest(leases_folder(store))
    return None if holder is None or holder.released else holder


def _take(folder: Location, number: int, beat: float, expires: float) -> Lease | None:
    holder = LeaseRecord.for_this_process(expires)
    ticket = Ticket(folder, number, holder.token)
    place = folder.root
    lease = None
    try:
        with translate_errors(folder):
            # Before the lease itself: a holder that falls asleep between the two could otherwise
            # make it after somebody else has taken over and cleared away what it left.
            place.create_staging(ticket.staging.key)
            key = _numbered(folder, number).key
            try:
                # A put whose answer was lost was ours after all.
                won = place.create(key, holder.json()) or place.read(key) == holder.json()
            except FileNotFoundError:
                # What it was set aside as was swept away, by one who has won.
                won = False
            if won and _highest(folder)[0] == number:
                lease = Lease(ticket, holder, beat)
                _sweep(folder, number)
                return lease
            place.remove_staging(ticket.staging.key)
            return None
    except BaseException:
        # Nobody shall wait for who will not write.
        RELEASED_TOKENS.add(holder.token)
        with suppress(OSError):
            place.remove_staging(ticket.staging.key)
        if lease is not None:
            lease.release()
        raise


def _sweep(folder: Location, number: int) -> None:
    """Take away all lower numbers, and what their holders write by way of."""
    for old in folder.folders():
        if lease_number(old) < number:
            folder.root.remove_staging(old.key)
    for old in folder.files():
        if lease_number(old) < number:
            folder.root.delete(old.key)


def _highest(folder: Location) -> tuple[int, LeaseRecord | None]:
    with translate_errors(folder):
        number = max((lease_number(file) for file in folder.files()), default=0)
        return number, LeaseRecord.parse(_numbered(folder, number).read()) if number else None


def _numbered(folder: Location, number: int) -> Location:
    return folder / f"{number:08d}.json"


def lease_number(location: Location) -> int:
    """The number of a lease or of its staging folder by its name; 0 for any other name."""
    # Not just any name that begins with digits: what is set aside is named by chance.
    numbered = re.fullmatch(r"(\d{8,})(\.json|-[0-9a-f]{12})", location.name)
    return int(numbered[1]) if numbered else 0
