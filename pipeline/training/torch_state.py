"""Control of PyTorch's global random state and number of threads."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

import torch
from threadpoolctl import threadpool_limits

Function = TypeVar("Function", bound=Callable[..., object])


def preserve_random_state(function: Function) -> Function:
    """Decorate a function so that it does not change PyTorch's global random state."""

    @functools.wraps(function)
    def wrapped(*args: object, **kwargs: object) -> object:
        with torch.random.fork_rng():
            return function(*args, **kwargs)

    return cast(Function, wrapped)


@contextmanager
def single_thread() -> Iterator[None]:
    """Restrict PyTorch, and the BLAS of NumPy and SciPy, to one CPU thread.

    Heads, gate and bootstrap have small matrices: on a busy machine, synchronizing several threads
    can take many times as long as the computation.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(threads)
