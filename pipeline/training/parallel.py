"""Calls of a function in several threads, with one CPU thread of PyTorch each."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def count_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], threads: int
) -> Iterator[Result]:
    """Call a function for each item, in several threads if `threads` allows it.

    Args:
        function: Must not depend on PyTorch's global random state, which all threads share.
        items: The items.
        threads: Maximum number of threads. With one thread or item, the function is called in the
            calling thread.

    Yields:
        The results, in the order of the items.
    """
    if min(threads, len(items)) <= 1:
        yield from map(function, items)
        return
    with (
        # Threads that save and restore the global random state concurrently can leave it changed.
        torch.random.fork_rng(),
        ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        try:
            yield from pool.map(function, items)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
