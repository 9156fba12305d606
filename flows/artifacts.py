"""Prefect artifacts: progress and the extraction summary on a run's page in the UI."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flows.progress import Progress, progress_bar, run_log, throttle
from pipeline.extraction.summary import ExtractionSummary

ARTIFACT_SECONDS = 10
"""Minimum time between two updates of a progress artifact."""


@contextmanager
def run_progress(title: str, unit: str, description: str, *, scale: int = 1) -> Iterator[Progress]:
    """Show the progress of the current run on the terminal or in its log, and as an artifact.

    Args:
        title: Name of the job.
        unit: Unit of work, in the plural, such as ``records``.
        description: Description of the artifact.
        scale: Divides the counts before display, as in `progress_bar`.

    Yields:
        A callback that takes the units done and the total.
    """
    artifact = create_progress_artifact(progress=0.0, description=description)
    assert isinstance(artifact, UUID)

    def update(done: int, total: int) -> None:
        percent = 100.0 * done / total if total else 100.0
        update_progress_artifact(artifact_id=artifact, progress=percent)

    throttled = throttle(update, ARTIFACT_SECONDS)
    with progress_bar(title, unit, run_log(get_run_logger()), scale=scale) as bar:

        def progress(done: int, total: int) -> None:
            bar(done, total)
            throttled(done, total)

        yield progress


def extraction_page(summary: ExtractionSummary, lines: Sequence[str]) -> str:
    """Format an extraction in Markdown: a table of row counts, followed by the report."""
    table = (
        "| rows | |\n|---|--:|\n"
        f"| computed | {summary.computed:,} |\n"
        f"| already complete | {summary.already_complete:,} |\n"
        f"| failed | {summary.failed.total():,} |"
    )
    report = "\n".join(lines)
    return f"# Extraction\n\n{table}\n\n```text\n{report}\n```\n"
