"""Prefect flows that run a job: steps become task runs; results and progress become artifacts."""

import functools
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from prefect import Flow, flow, get_run_logger, tags, task
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import MissingContextError
from prefect.runtime import flow_run

from enecg.errors import UserError
from flows.artifact_keys import artifact_key
from flows.failed_records import FOLDER, FailedRecord, write_failed
from flows.job import Artifact, use_job
from flows.output import log_to_stderr, printable
from flows.page_links import page_link, served_folder
from flows.parameters import documented
from flows.progress import Log, Progress, in_background, progress_bar, run_log
from flows.retries import RetryWaits
from flows.run_name import USER_TAG, run_name
from flows.tasks import by_reference, fail_on_user_error, return_user_errors

MAX_ROWS = 1000
"""Maximum number of rows of a table artifact."""

ARTIFACT_SECONDS = 10
"""Minimum seconds between two updates of a progress artifact."""

P = ParamSpec("P")
Result = TypeVar("Result")
Lines = tuple[str, ...]


class PrefectJob:
    """The environment of a job that runs in a Prefect flow.

    Args:
        flow_log: Logs a line in the flow run. Used in threads without a Prefect context, such as
            those that wait for leases.
    """

    def __init__(self, flow_log: Log = log_to_stderr) -> None:
        self._flow_log = flow_log

    def log(self, line: str) -> None:
        """Log a line in the task run or flow run."""
        try:
            log = run_log(get_run_logger())
        except MissingContextError:
            log = self._flow_log
        log(line)

    @contextmanager
    def progress(
        self, title: str, unit: str, artifact: Artifact, *, scale: int = 1
    ) -> Iterator[Progress]:
        """Show progress on the terminal or in the run's log, and as an artifact."""
        created = create_progress_artifact(
            progress=0.0,
            key=artifact_key(f"{title}-progress", artifact.subject),
            description=_escape(artifact.description),
        )
        assert isinstance(created, UUID)

        def update(done: int, total: int) -> None:
            percent = 100.0 * done / total if total else 100.0
            update_progress_artifact(artifact_id=created, progress=percent)

        with (
            progress_bar(title, unit, self.log, scale=scale) as bar,
            in_background(update, ARTIFACT_SECONDS) as update_soon,
        ):

            def progress(done: int, total: int) -> None:
                bar(done, total)
                update_soon(done, total)

            yield progress

    def publish(self, kind: str, artifact: Artifact, markdown: str) -> None:
        """Create a Markdown artifact."""
        create_markdown_artifact(
            key=artifact_key(kind, artifact.subject),
            markdown=_escape(markdown),
            description=_escape(artifact.description),
        )

    def publish_failed(self, artifact: Artifact, records: Sequence[FailedRecord]) -> None:
        """Create a table artifact of the first `MAX_ROWS` records.

        If pages are served, also write a CSV file of all records to the served folder, and create a
        link artifact. If the file cannot be written, log the reason and the remedy.
        """
        key = artifact_key("failed-records", artifact.subject)
        shown = min(len(records), MAX_ROWS)
        description = f"{artifact.description}: {shown:,} of {len(records):,} failed rows."
        if folder := served_folder(os.environ):
            file = folder / FOLDER / f"{key}.csv"
            try:
                write_failed(records, file)
            except UserError as error:
                self.log(f"Warning: {error}")
            else:
                self._link(f"{key}-file", artifact.description, file)
        create_table_artifact(
            key=key,
            table=[
                {
                    "record": str(record.record_id),
                    "expert": record.expert,
                    "reason": record.reason,
                    "detail": without_folder(printable(record.detail)),
                }
                for record in records[:MAX_ROWS]
            ],
            description=_escape(f"{description} `enecg store show URL --failed` lists all."),
        )

    def publish_page(self, artifact: Artifact, page: Path) -> None:
        """Create a link artifact, if `page_link` returns a URL."""
        self._link(artifact_key("page", artifact.subject), artifact.description, page)

    def _link(self, key: str, description: str, file: Path) -> None:
        if link := page_link(file, os.environ):
            create_link_artifact(
                link=link, link_text=file.name, key=key, description=_escape(description)
            )
            self.log(f"Link: {link}")

    def step(
        self,
        name: str,
        function: Callable[..., Result],
        *arguments: Any,
        retry_seconds: Sequence[float] = (),
        stopped: threading.Event | None = None,
    ) -> Result:
        """Call a function in a task run.

        The task run is in the state *Retrying* during the wait for a retry. Prefect's own delay is
        not used, because nothing can interrupt it. See `Job.step` for arguments and errors.

        Returns:
            The result of the function.
        """
        waits = RetryWaits(name, retry_seconds, stopped)

        def attempt(*values: Any) -> Result:
            waits.wait(self.log)
            return function(*values)

        run = task(
            name=function.__name__.replace("_", " "),
            task_run_name=name,
            cache_policy=NO_CACHE,
            retries=len(retry_seconds),
            retry_condition_fn=lambda *_: not waits.is_stopped,
        )(return_user_errors(attempt))
        result: Result | Exception = run(*map(by_reference, arguments))
        if isinstance(result, Exception):
            raise result
        return result

    def run(self, job: Callable[P, Lines], *args: P.args, **kwargs: P.kwargs) -> Lines:
        """Run the job as a subflow with the user tag of this flow run."""
        with tags(*(tag for tag in flow_run.tags if tag.startswith(USER_TAG))):
            return as_flow(job)(*args, **kwargs)


@functools.cache
def as_flow(job: Callable[P, Lines]) -> Flow[P, Lines]:
    """Return the flow of a job, with the same name and parameters.

    Args:
        job: A function in `flows.jobs`, which returns the lines of its report.

    Returns:
        The flow, which returns the report and logs its lines except for tables.
    """

    @functools.wraps(job)
    def run(*args: P.args, **kwargs: P.kwargs) -> Lines:
        with use_job(PrefectJob(run_log(get_run_logger()))):
            lines = job(*args, **kwargs)
        for line in lines:
            # Do not log tables, which have several lines, because they are artifacts.
            if "\n" not in line:
                get_run_logger().info(line)
        return lines

    return flow(name=job.__name__, flow_run_name=run_name)(documented(fail_on_user_error(run)))


def without_folder(detail: str) -> str:
    """Remove the folder from a detail that starts with a path, because table cells do not wrap."""
    return re.sub(r"^\S*/(?=\S)", "", detail)


def _escape(markdown: str) -> str:
    """Escape HTML and links in Markdown, because text from stores and runs is not trusted."""
    return printable(markdown).replace("<", "&lt;").replace("[", "&#91;")
