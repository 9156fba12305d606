"""The leases of all stores of an extraction: all of them, or none."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pipeline.extraction.request import Request
from stores.layout import leases
from stores.lease import Lease, LeaseHeld, acquire
from stores.location import Location


def acquire_all(
    request: Request, wait_seconds: float, notice: Callable[[str], None] | None
) -> tuple[tuple[Lease, ...], str | None]:
    """The leases of all stores, in the order of the experts; and why that of the leads is not.

    Seeing that a holder is dead takes its time, so they are watched side by side; but the first
    of them alone, so that of two that want the same stores at once one gets all of them.
    """
    *experts, leads = request.locations
    first, *others = sorted(experts, key=str) or [leads]
    together = [*others, leads] if experts else []
    until = time.monotonic() + wait_seconds
    held: dict[Location, Lease] = {}
    busy: LeaseHeld | None = None
    try:
        for some in ([first], together):
            stop = threading.Event()

            def one(location: Location, stop: threading.Event = stop) -> LeaseHeld | None:
                left = max(0.0, until - time.monotonic())
                try:
                    held[location] = acquire(
                        leases(location), wait_seconds=left, notice=notice, stop=stop
                    )
                except LeaseHeld as refused:
                    # With no expert at all it is the leads that are wanted.
                    if not experts or location != leads:
                        raise
                    return refused
                return None

            with ThreadPoolExecutor(max_workers=len(request.locations)) as pool:
                try:
                    for answer in pool.map(one, some):
                        busy = answer or busy
                finally:
                    # Whoever still waits when one was refused, or at Ctrl-C, waits for nothing.
                    stop.set()
    except BaseException:
        for lease in held.values():
            lease.release()
        raise
    return (
        tuple(held[where] for where in request.locations if where in held),
        str(busy) if busy else None,
    )
