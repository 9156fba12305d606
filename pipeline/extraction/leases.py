"""Acquisition of the leases of the stores of an extraction."""

import threading
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
    """Acquire the leases of all stores of a request, or none if an error is raised.

    Every request includes the store of the gate's leads. If another extraction holds the lease of
    this store, a request with experts proceeds without it, and a request without experts fails.

    Args:
        request: The request. ``options.wait_minutes`` limits the total time to wait for leases.
        log: Called with a line for each store that the extraction waits for.

    Returns:
        The leases by store location; and a message if the lease of the gate's leads is held by
        another extraction, else None.

    Raises:
        LeaseHeld: Another extraction is writing to an expert's store or, if the request includes no
            expert, to the store of the gate's leads.
        StoreError: The store root is unreachable or cannot be written.
    """
    *experts, leads = [target.location for target in request.targets]
    # First acquire a single lease. If two extractions of the same stores start at the same time,
    # only the holder of this lease continues, so it can acquire all others. Monitor the other
    # leases at the same time, because detecting an expired lease takes up to 45 s.
    first, *others = [*sorted(experts, key=str), leads]
    wait_seconds = 60 * request.options.wait_minutes
    stop, first_is_held = threading.Event(), threading.Event()
    held: dict[Location, Lease] = {}
    scheduler = request.options.scheduler
    note = f", Dask scheduler {scheduler}" if scheduler is not None else ""

    def acquire_one(location: Location) -> str | None:
        """Acquire a lease; return a message if it is that of the gate's leads and is held."""
        try:
            held[location] = acquire(
                leases_folder(location),
                wait_seconds=wait_seconds,
                log=log,
                stop=stop,
                permitted=None if location == first else first_is_held,
                note=note,
            )
        except LeaseHeld as error:
            if not experts or location != leads:
                raise
            return str(error)
        return None

    try:
        with ThreadPoolExecutor(max_workers=len(request.targets)) as pool:
            try:
                waiting = [pool.submit(acquire_one, location) for location in (first, *others)]
                waiting[0].result()
                first_is_held.set()
                for acquired in waiting[1:-1]:
                    acquired.result()
                leads_busy = waiting[-1].result()
            finally:
                # After an error or Ctrl-C, the other threads must stop waiting.
                stop.set()
    except BaseException:
        for lease in held.values():
            lease.release()
        raise
    return held, leads_busy
