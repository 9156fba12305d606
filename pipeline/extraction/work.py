"""Picklable description of an extraction for worker processes.

Data sets, models and record indexes are not sent between processes. Each worker opens the data set
and loads the experts once.
"""

import functools
from contextlib import suppress
from dataclasses import dataclass, replace

import torch

from enecg.errors import UserError
from pipeline.extraction.options import ExtractOptions
from pipeline.extraction.plan import ExtractionPlan, ShardRange, join_extraction
from pipeline.extraction.ranges import Progress, extract_range
from pipeline.extraction.request import resolve_request
from pipeline.extraction.summary import ExtractionSummary
from stores.layout import leases_folder
from stores.lease import Ticket
from stores.locate import locate


@dataclass(frozen=True)
class StoreTicket:
    """Store key, lease number and token, from which a worker rebuilds the store's `Ticket`.

    The ticket allows the worker to write to the store.

    Attributes:
        store: Key of the store in the store root.
        number: Number of the lease.
        token: Token of the lease.
    """

    store: str
    number: int
    token: str


@dataclass(frozen=True)
class ExtractionWork:
    """All information about an extraction that a worker needs; small and picklable.

    Attributes:
        dataset: Spec of the data set.
        store: Root folder or URL of the stores.
        experts: Names of the experts.
        options: Options of the extraction.
        tickets: Tickets for the leases under which workers write.
        threads: Torch threads per worker; None keeps the worker's setting.
    """

    dataset: str
    store: str
    experts: tuple[str, ...]
    options: ExtractOptions
    tickets: tuple[StoreTicket, ...]
    threads: int | None = None


def describe_work(
    plan: ExtractionPlan, dataset: object, experts: tuple[object, ...], threads: int | None
) -> ExtractionWork:
    """Describe the work of a plan.

    Args:
        plan: The plan, whose leases are held.
        dataset: The data set as passed by the caller; must be a spec string.
        experts: The experts as passed by the caller; must be names.
        threads: Torch threads per worker; None keeps the worker's setting.

    Returns:
        The description.

    Raises:
        UserError: `dataset` or an expert is not a string.
    """
    names = tuple(expert for expert in experts if isinstance(expert, str))
    if not isinstance(dataset, str) or len(names) < len(experts):
        raise UserError(
            "With several workers, the data set must be given as SOURCE:FOLDER and the experts by "
            "name, because each worker opens them itself; register your expert as an entry point, "
            "or use one worker."
        )
    first = plan.stores[0].store.location
    root = str(first).removesuffix(f"/{first.key}")
    tickets = [
        StoreTicket(
            planned.store.location.key, planned.lease.ticket.number, planned.lease.ticket.token
        )
        for planned in plan.stores
        if planned.lease is not None
    ]
    return ExtractionWork(dataset, root, names, plan.request.options, tuple(tickets), threads)


def run_work(
    work: ExtractionWork, shards: ShardRange, device: str, progress: Progress | None = None
) -> ExtractionSummary:
    """Compute and write a range of shards under the leases of another process.

    Args:
        work: The extraction, as described by `describe_work`.
        shards: Range of shards.
        device: Torch device.
        progress: Called after each batch with the record counts of this range. If it raises
            `WorkStopped`, the rows computed so far are written, and this function returns.

    Returns:
        Counts, failures and timings of this range.

    Raises:
        UserError: The data set, an expert, the device or enough device memory is unavailable, or
            the data set, weights or EnECG version differ from those of the coordinating process.
        StoreError: A store cannot be read or written.
        LeaseLost: Another extraction has taken over a lease.
    """
    summary = ExtractionSummary()
    plan = _open_plan(work, device)
    with suppress(WorkStopped):
        extract_range(plan, shards, summary, progress)
    return summary


class WorkStopped(BaseException):
    """Raised in a worker when the coordinating process has requested the workers to stop."""


# Cache the last plan, so that each process opens the stores and loads the experts only once.
@functools.lru_cache(maxsize=1)
def _open_plan(work: ExtractionWork, device: str) -> ExtractionPlan:
    if work.threads is not None:
        torch.set_num_threads(work.threads)
    options = replace(work.options, device=device, devices=(), scheduler=None, workers=1)
    request = resolve_request(work.dataset, work.store, work.experts, options)
    root = locate(work.store)
    tickets = {}
    for ticket in work.tickets:
        location = root / ticket.store
        tickets[location] = Ticket(leases_folder(location), ticket.number, ticket.token)
    if unknown := tickets.keys() - {target.location for target in request.targets}:
        raise UserError(
            f"A worker cannot write to {', '.join(map(str, sorted(unknown, key=str)))}, because "
            "its data set, weights or EnECG version does not match the extraction; use the same "
            "files and versions on all workers."
        )
    return join_extraction(request, tickets)
