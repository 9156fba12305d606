"""The number of CPU threads that torch uses for one operation."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

SAMPLE_SECONDS = 0.5
"""Time over which the use of the cores is measured."""


def choose_threads(requested: int | None, workers: int = 1) -> int:
    """Choose the number of threads of a worker on this machine.

    With more threads than free cores, an operation is several times slower, because it waits for
    its slowest thread.

    Args:
        requested: The number; None uses the cores that other processes leave free.
        workers: Number of workers that share the cores.

    Returns:
        The number, at least 1. If `requested` is None, it is at most ``torch.get_num_threads()``,
        which `OMP_NUM_THREADS` sets.
    """
    if requested is not None:
        return requested
    cores = _available_cores()
    maximum = min(len(cores) // workers, torch.get_num_threads())
    if maximum <= 1:
        return 1
    # Not the load average, which includes processes that ended within the last minute.
    used = psutil.cpu_percent(SAMPLE_SECONDS, percpu=True)
    free = round(sum(1 - float(used[core]) / 100 for core in cores))
    return max(1, min(maximum, free // workers))


def _available_cores() -> list[int]:
    """Return the indices of the cores on which this process may run."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return [*range(os.cpu_count() or 1)]


@contextmanager
def use_threads(threads: int) -> Iterator[None]:
    """Set the number of torch's threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
