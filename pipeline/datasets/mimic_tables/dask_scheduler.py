"""Run one task on a Dask scheduler."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from enecg.errors import UserError

LOCAL_SCHEDULERS = ("threads", "processes", "synchronous")
"""Names of Dask schedulers on this machine."""

CONNECT_SECONDS = 10.0
"""Maximum time to wait for a scheduler."""

Result = TypeVar("Result")


def run_on_scheduler(scheduler: Any, function: Callable[..., Result], *arguments: object) -> Result:
    """Call a function as one Dask task.

    Args:
        scheduler: A scheduler, as accepted by `dask.compute`.
        function: The function.
        *arguments: Arguments of the function; paths must be valid on the worker.

    Returns:
        The result of the function.
    """
    from dask.base import compute
    from dask.delayed import delayed

    # Without wrappers, Dask would search the arguments for Dask objects and hash them.
    wrapped = [delayed(argument, traverse=False, pure=False) for argument in arguments]
    results: tuple[Result] = compute(delayed(function, pure=False)(*wrapped), scheduler=scheduler)
    return results[0]


@contextmanager
def connect_scheduler(name: str) -> Iterator[Any]:
    """Connect to a Dask scheduler.

    Args:
        name: Address such as ``tcp://HOST:8786``, or one of `LOCAL_SCHEDULERS`.

    Yields:
        A scheduler for `run_on_scheduler`.

    Raises:
        UserError: The scheduler is unreachable.
    """
    if name in LOCAL_SCHEDULERS:
        yield name
        return
    # Imported here because importing it takes a second.
    from distributed import Client

    try:
        client = Client(name, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise UserError(
            f"The Dask scheduler {name} is unreachable ({error}); start it with `dask scheduler`, "
            "or correct --scheduler."
        ) from error
    with client:
        yield client
