"""Handling of user errors in Prefect flows and tasks, and passing of large task arguments."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

from enecg.errors import UserError
from flows.output import printable
from stores.errors import StoreError
from stores.url import redact

P = ParamSpec("P")
T = TypeVar("T")

USER_ERRORS = (UserError, StoreError)
"""Exceptions whose message is meant for the user. Any other exception is a bug."""


def return_user_errors(function: Callable[P, T]) -> Callable[P, T | Exception]:
    """Decorate a task so that it returns user errors instead of raising them.

    If a task raises an error, Prefect logs the traceback and retries the task. The flow must raise
    the returned error.

    Args:
        function: Function of the task.

    Returns:
        The decorated function, which returns the result or a user error.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T | Exception:
        try:
            return function(*args, **kwargs)
        except USER_ERRORS as error:
            return error

    return wrapper


def fail_on_user_error(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a flow so that a user error fails the run with its message and no traceback."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except USER_ERRORS as error:
            # Imported here because `--help` should not wait for Prefect.
            from prefect.states import Failed

            # The cast is correct for callers of the flow: Prefect raises `error` instead of
            # returning the state.
            return cast(T, Failed(message=printable(redact(str(error))), data=error))

    return wrapper


def by_reference(value: T) -> T:
    """Return `value` wrapped so that Prefect passes it to a task without inspecting it.

    Otherwise, Prefect would search the value for futures, which is slow for an extraction plan
    that contains models and a record index.
    """
    from prefect.utilities.annotations import quote

    return cast(T, quote(value))
