"""The result of a check, and its execution."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from flows.tasks import USER_ERRORS

Status = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """The result of a check.

    Attributes:
        name: Name of the check.
        status: ``ok``, ``warning``, or ``failed``, for which the command exits with 1.
        detail: Description of the result.
        remedy: Remedy; empty if none is needed or known.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""


Check = Callable[[], Iterator[Finding]]
"""A check, which yields one or more findings."""


def run_check(name: str, check: Check) -> Iterator[Finding]:
    """Run a check; convert an exception into a failed finding.

    Args:
        name: Name of the finding if the check raises an exception.
        check: The check.

    Yields:
        The findings of the check; the last one is that of an exception, if one was raised.
    """
    try:
        yield from check()
    except USER_ERRORS as error:
        yield from_error(name, error)
    except Exception as error:
        # Catch all exceptions, so that the other checks run even in a broken installation.
        text = (str(error).splitlines() or [""])[0]
        yield Finding(
            name,
            "failed",
            f"{type(error).__name__}: {text}",
            "reinstall EnECG; if the error remains, report it",
        )


def from_error(name: str, error: Exception, status: Status = "failed") -> Finding:
    """Return the finding of an error.

    Args:
        name: Name of the check.
        error: Error with a message of the form "problem; remedy", or without a remedy.
        status: Status of the finding.

    Returns:
        The finding.
    """
    detail, _, remedy = str(error).partition("; ")
    return Finding(name, status, detail.rstrip("."), remedy.rstrip("."))
