"""Progress and log messages of a running job, on the terminal or in Prefect (see `prefect_job`)."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, Protocol, TypeVar

from flows.output import log_to_stderr
from flows.progress import Progress, progress_bar
from flows.tasks import USER_ERRORS

P = ParamSpec("P")
Result = TypeVar("Result")
Lines = tuple[str, ...]


class Job(Protocol):
    """The running command."""

    def log(self, line: str) -> None:
        """Report a line."""

    def progress(
        self, title: str, unit: str, description: str, *, scale: int = 1
    ) -> AbstractContextManager[Progress]:
        """Show progress.

        Args:
            title: Name of the work.
            unit: Unit of work, in the plural, such as ``records``.
            description: Description for a page.
            scale: Divides the counts before display, as in `progress_bar`.

        Returns:
            Context of a callback that takes the units done and the total.
        """

    def publish(self, key: str, markdown: str) -> None:
        """Publish a page of results; `key` names the page."""

    def step(
        self,
        name: str,
        function: Callable[..., Result],
        *arguments: Any,
        retry_seconds: Sequence[float] = (),
    ) -> Result:
        """Call a function as one step of the job.

        Args:
            name: Name of the step.
            function: Idempotent function.
            *arguments: Its arguments.
            retry_seconds: Waiting time before each retry after an error that is not the user's.

        Returns:
            The result of the function.
        """

    def run(self, job: Callable[P, Lines], *args: P.args, **kwargs: P.kwargs) -> Lines:
        """Run another job as a part of this one."""


class TerminalJob:
    """A command that reports on the terminal."""

    def log(self, line: str) -> None:
        """Print a line to standard error."""
        log_to_stderr(line)

    @contextmanager
    def progress(
        self, title: str, unit: str, description: str, *, scale: int = 1
    ) -> Iterator[Progress]:
        """Show a progress bar, or lines if standard error is not a terminal."""
        with progress_bar(title, unit, log_to_stderr, scale=scale) as progress:
            yield progress

    def publish(self, key: str, markdown: str) -> None:
        """Do nothing: the command prints its results."""

    def step(
        self,
        name: str,
        function: Callable[..., Result],
        *arguments: Any,
        retry_seconds: Sequence[float] = (),
    ) -> Result:
        """Call a function, and retry it after an error that is not the user's."""
        for seconds in retry_seconds:
            try:
                return function(*arguments)
            except USER_ERRORS:
                raise
            except Exception as error:
                log_to_stderr(
                    f"{name} failed ({type(error).__name__}: {error}); retrying in {seconds:g} s."
                )
                time.sleep(seconds)
        return function(*arguments)

    def run(self, job: Callable[P, Lines], *args: P.args, **kwargs: P.kwargs) -> Lines:
        """Call the job."""
        return job(*args, **kwargs)


_CURRENT: ContextVar[Job] = ContextVar("job", default=TerminalJob())  # noqa: B039


def current_job() -> Job:
    """Return the running job; by default one that reports on the terminal."""
    return _CURRENT.get()


@contextmanager
def use_job(job: Job) -> Iterator[None]:
    """Make `job` the running job."""
    token = _CURRENT.set(job)
    try:
        yield
    finally:
        _CURRENT.reset(token)
