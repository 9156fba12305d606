"""Prefect flows that run a job: steps become task runs; results and progress become artifacts."""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from prefect import Flow, flow, get_run_logger, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE

from flows.job import use_job
from flows.output import printable
from flows.parameters import documented
from flows.progress import Progress, in_background, progress_bar, run_log
from flows.tasks import by_reference, fail_on_user_error, return_user_errors

ARTIFACT_SECONDS = 10
"""Minimum time between two updates of a progress artifact."""

P = ParamSpec("P")
Result = TypeVar("Result")
Lines = tuple[str, ...]


class PrefectJob:
    """A job that runs in a Prefect flow."""

    def log(self, line: str) -> None:
        """Log a line in the flow run."""
        run_log(get_run_logger())(line)

    @contextmanager
    def progress(
        self, title: str, unit: str, description: str, *, scale: int = 1
    ) -> Iterator[Progress]:
        """Show progress on the terminal or in the run's log, and as an artifact."""
        artifact = create_progress_artifact(progress=0.0, description=description)
        assert isinstance(artifact, UUID)

        def update(done: int, total: int) -> None:
            percent = 100.0 * done / total if total else 100.0
            update_progress_artifact(artifact_id=artifact, progress=percent)

        with (
            progress_bar(title, unit, self.log, scale=scale) as bar,
            in_background(update, ARTIFACT_SECONDS) as update_soon,
        ):

            def progress(done: int, total: int) -> None:
                bar(done, total)
                update_soon(done, total)

            yield progress

    def publish(self, key: str, markdown: str) -> None:
        """Create a Markdown artifact; names of classes must not become HTML or links."""
        escaped = printable(markdown).replace("<", "&lt;").replace("[", "&#91;")
        create_markdown_artifact(key=key, markdown=escaped)

    def step(
        self,
        name: str,
        function: Callable[..., Result],
        *arguments: Any,
        retry_seconds: Sequence[float] = (),
    ) -> Result:
        """Call a function in a task run."""
        run = task(
            name=function.__name__.replace("_", " "),
            task_run_name=name,
            cache_policy=NO_CACHE,
            retries=len(retry_seconds),
            retry_delay_seconds=list(retry_seconds) or None,
        )(return_user_errors(function))
        result: Result | Exception = run(*map(by_reference, arguments))
        if isinstance(result, Exception):
            raise result
        return result

    def run(self, job: Callable[P, Lines], *args: P.args, **kwargs: P.kwargs) -> Lines:
        """Run the job as a subflow."""
        return as_flow(job)(*args, **kwargs)


@functools.cache
def as_flow(job: Callable[P, Lines]) -> Flow[P, Lines]:
    """Return the flow of a job, with the same name and parameters.

    Args:
        job: A function in `flows.jobs`, which returns the lines of its report.

    Returns:
        The flow, which logs the report and returns it.
    """

    @functools.wraps(job)
    def run(*args: P.args, **kwargs: P.kwargs) -> Lines:
        with use_job(PrefectJob()):
            lines = job(*args, **kwargs)
        for line in lines:
            get_run_logger().info(line)
        return lines

    name = job.__name__
    return flow(name=name, flow_run_name=f"{name} {{dataset}}")(documented(fail_on_user_error(run)))
