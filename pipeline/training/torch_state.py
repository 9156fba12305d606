"""Control of PyTorch's global random state and number of threads."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

import torch

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
    """Restrict PyTorch to one CPU thread.

    The heads are small: on a busy machine, synchronizing several threads can take six times as long
    as the computation.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
