"""Helpers for flows and tasks: handling of user errors, and passing of large arguments."""

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
    """Decorate a task so that it returns a user error instead of raising it.

    Prefect would log the traceback of a raised error and retry the task. The flow must raise the
    returned error.

    Args:
        function: Function of the task.

    Returns:
        The function, which may return an exception.
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

            # Typed as the flow's result because Prefect raises `error` in the flow's caller.
            return cast(T, Failed(message=printable(redact(str(error))), data=error))

    return wrapper


def by_reference(value: T) -> T:
    """Return `value` wrapped so that Prefect passes it to a task unchanged.

    Otherwise Prefect would search the value for futures, which is slow for a plan that contains
    models and a record index.
    """
    from prefect.utilities.annotations import quote

    return cast(T, quote(value))
