"""The leases of all stores of an extraction, acquired together or not at all."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pipeline.extraction.request import ExtractionRequest
from stores.layout import leases_folder
from stores.lease import Lease, LeaseHeld, acquire
from stores.location import Location

Log = Callable[[str], None]
"""Called with one line of text."""


def acquire_leases(
    request: ExtractionRequest, log: Log | None = None
) -> tuple[dict[Location, Lease], str | None]:
    """Acquire the leases of all stores of a request.

    Another extraction may hold the lease of the gate's leads; the extraction then runs without
    them, unless they are all that it writes.

    Args:
        request: The request. ``options.wait_minutes`` bounds the wait for all leases together.
        log: Called with a line for each store that the extraction waits for.

    Returns:
        The leases by store location, and the message of the `LeaseHeld` error of the gate's
        leads, or None if their lease is among the first.

    Raises:
        LeaseHeld: Another extraction is writing to one of the stores.
    """
    *experts, leads = [target.location for target in request.targets]
    # One lease first and the others concurrently (detecting an expired holder takes up to 45 s):
    # of two extractions that start together with the same stores, one gets all leases.
    first, *others = sorted(experts, key=str) or [leads]
    concurrent = [*others, leads] if experts else []
    deadline = time.monotonic() + 60 * request.options.wait_minutes
    held: dict[Location, Lease] = {}
    leads_busy: str | None = None
    try:
        for group in ([first], concurrent):
            stop = threading.Event()

            def acquire_one(location: Location, stop: threading.Event = stop) -> str | None:
                remaining = max(0.0, deadline - time.monotonic())
                try:
                    held[location] = acquire(
                        leases_folder(location), wait_seconds=remaining, log=log, stop=stop
                    )
                except LeaseHeld as error:
                    if not experts or location != leads:
                        raise
                    return str(error)
                return None

            with ThreadPoolExecutor(max_workers=len(request.targets)) as pool:
                try:
                    for message in pool.map(acquire_one, group):
                        leads_busy = message or leads_busy
                finally:
                    # After a refusal or Ctrl-C, the other threads must stop waiting.
                    stop.set()
    except BaseException:
        for lease in held.values():
            lease.release()
        raise
    return held, leads_busy
