"""Control of torch's global state: random numbers and threads."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable[..., object])


def preserve_random_state(function: Function) -> Function:
    """Decorate a function so that it leaves torch's random state unchanged."""

    @functools.wraps(function)
    def wrapped(*arguments: object, **named: object) -> object:
        with torch.random.fork_rng():
            return function(*arguments, **named)

    return cast(Function, wrapped)


@contextmanager
def single_thread() -> Iterator[None]:
    """Restrict torch to one CPU thread.

    Heads are so small that synchronizing several threads on a busy machine takes up to six times
    as long as the computation.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
