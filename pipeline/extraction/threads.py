"""The number of CPU threads that torch uses for one operation."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def choose_threads(requested: int | None, workers: int = 1) -> int:
    """Choose the number of threads of a worker on this machine.

    Threads that wait for a core slow down an operation several times, because all its threads wait
    for the slowest one.

    Args:
        requested: The number; None uses the cores that other processes leave free.
        workers: Number of workers that share the cores.

    Returns:
        The number, at least 1. If `requested` is None, it is at most torch's default number, which
        `OMP_NUM_THREADS` sets.
    """
    if requested is not None:
        return requested
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert cores is not None
    busy, _, _ = os.getloadavg()
    free = round(cores - busy)
    return max(1, min(cores // workers, free // workers, torch.get_num_threads()))


@contextmanager
def use_threads(threads: int) -> Iterator[None]:
    """Set the number of torch's threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
