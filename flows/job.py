"""Interface between a running job and its environment: the terminal, or Prefect (`prefect_job`)."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

from flows.failed_records import FailedRecord
from flows.output import log_to_stderr
from flows.progress import Progress, progress_bar
from flows.retries import RetryWaits
from flows.tasks import USER_ERRORS

P = ParamSpec("P")
Result = TypeVar("Result")
Lines = tuple[str, ...]


@dataclass(frozen=True)
class Artifact:
    """Subject and description of an artifact in Prefect's UI.

    Attributes:
        subject: Name of a store, run folder or file. Later artifacts of the same kind and subject
            are new versions of one artifact.
        description: Description in Markdown.
    """

    subject: str
    description: str


class Job(Protocol):
    """Environment of a running job, which runs its steps and reports its progress and results."""

    def log(self, line: str) -> None:
        """Report one line of text."""

    def progress(
        self, title: str, unit: str, artifact: Artifact, *, scale: int = 1
    ) -> AbstractContextManager[Progress]:
        """Report progress during a ``with`` block.

        Args:
            title: Name of the work, for the progress bar.
            unit: Unit of work, in the plural, such as ``records``.
            artifact: Subject and description of the work, for Prefect's UI.
            scale: Divisor of the counts before display, as in `progress_bar`.

        Returns:
            Context manager that yields a callback, which takes the units done and the total.
        """

    def publish(self, kind: str, artifact: Artifact, markdown: str) -> None:
        """Publish a page of results.

        Args:
            kind: Kind of the artifact, such as ``extraction``.
            artifact: Subject and description.
            markdown: The page in Markdown.
        """

    def publish_failed(self, artifact: Artifact, records: Sequence[FailedRecord]) -> None:
        """Publish a table of failed records.

        Args:
            artifact: Subject and description.
            records: The failed records.
        """

    def publish_page(self, artifact: Artifact, page: Path) -> None:
        """Publish a link to a results page, if a web server serves it.

        Args:
            artifact: Subject and description.
            page: File of the page.
        """

    def step(
        self,
        name: str,
        function: Callable[..., Result],
        *arguments: Any,
        retry_seconds: Sequence[float] = (),
        stopped: threading.Event | None = None,
    ) -> Result:
        """Call a function as one step of the job.

        Args:
            name: Name of the step.
            function: Function to call. It must be idempotent if `retry_seconds` is not empty.
            *arguments: Arguments of the function.
            retry_seconds: Seconds to wait before each retry; empty disables retries. User errors
                are never retried.
            stopped: Event that is set when the job is stopped. It ends the wait for a retry.

        Returns:
            The result of the function.

        Raises:
            UserError: `stopped` was set before an attempt.
        """

    def run(self, job: Callable[P, Lines], *args: P.args, **kwargs: P.kwargs) -> Lines:
        """Run another job as a part of this one.

        Args:
            job: A function in `flows.jobs`.
            *args: Arguments of the job.
            **kwargs: Keyword arguments of the job.

        Returns:
            Lines of the job's report.
        """


class TerminalJob:
    """The environment of a job that runs without Prefect and reports on the terminal."""

    def log(self, line: str) -> None:
        """Print a line to standard error."""
        log_to_stderr(line)

    @contextmanager
    def progress(
        self, title: str, unit: str, artifact: Artifact, *, scale: int = 1
    ) -> Iterator[Progress]:
        """Show a progress bar, or lines if standard error is not a terminal."""
        with progress_bar(title, unit, log_to_stderr, scale=scale) as progress:
            yield progress

    def publish(self, kind: str, artifact: Artifact, markdown: str) -> None:
        """Do nothing, because the command prints the results at the end."""

    def publish_failed(self, artifact: Artifact, records: Sequence[FailedRecord]) -> None:
        """Do nothing; `enecg store show --failed` lists the failed records."""

    def publish_page(self, artifact: Artifact, page: Path) -> None:
        """Do nothing, because the report names the page."""

    def step(
        self,
        name: str,
        function: Callable[..., Result],
        *arguments: Any,
        retry_seconds: Sequence[float] = (),
        stopped: threading.Event | None = None,
    ) -> Result:
        """Call a function; retry after exceptions other than user errors, see `Job.step`."""
        waits = RetryWaits(name, retry_seconds, stopped)
        for _ in retry_seconds:
            waits.wait(log_to_stderr)
            try:
                return function(*arguments)
            except USER_ERRORS:
                raise
            except Exception as error:
                log_to_stderr(f"{name} failed ({type(error).__name__}: {error}).")
        waits.wait(log_to_stderr)
        return function(*arguments)

    def run(self, job: Callable[P, Lines], *args: P.args, **kwargs: P.kwargs) -> Lines:
        """Call the job."""
        return job(*args, **kwargs)


_CURRENT: ContextVar[Job] = ContextVar("job", default=TerminalJob())  # noqa: B039


def current_job() -> Job:
    """Return the environment of the running job; by default a `TerminalJob`."""
    return _CURRENT.get()


@contextmanager
def use_job(job: Job) -> Iterator[None]:
    """Make `current_job` return `job` during a ``with`` block."""
    token = _CURRENT.set(job)
    try:
        yield
    finally:
        _CURRENT.reset(token)
