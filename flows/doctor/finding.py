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
        name: What was checked.
        status: ``ok``; ``warning`` if commands are slower or some do not work; or ``failed``.
        detail: What was found.
        remedy: What to do; empty if there is nothing to do.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""


Check = Callable[[], Iterator[Finding]]
"""A check, which yields one finding or more."""


def run_check(name: str, check: Check) -> Iterator[Finding]:
    """Run a check; turn an exception into a failed finding.

    Args:
        name: Name of the finding if the check raises an exception.
        check: The check.

    Yields:
        The findings of the check.
    """
    try:
        yield from check()
    except USER_ERRORS as error:
        yield from_error(name, error)
    except Exception as error:
        # A check must not stop the others, whatever the state of the installation is.
        text = (str(error).splitlines() or [""])[0]
        yield Finding(
            name,
            "failed",
            f"{type(error).__name__}: {text}",
            "reinstall EnECG; if the error remains, report it",
        )


def from_error(name: str, error: Exception, status: Status = "failed") -> Finding:
    """Return the finding of an error whose message is "problem; remedy"."""
    detail, _, remedy = str(error).partition("; ")
    return Finding(name, status, detail.rstrip("."), remedy.rstrip("."))
