"""What a run leaves on its page in the Prefect UI: how far it is, and what came of it."""

from collections.abc import Sequence
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flows.progress import Report, at_most_every
from pipeline.extraction.summary import ExtractionSummary


def progress_artifact(description: str, *, seconds: float = 10) -> Report:
    """A progress bar on the page of the run that calls this, updated at most every `seconds`."""
    artifact = create_progress_artifact(progress=0.0, description=description)
    assert isinstance(artifact, UUID)

    def report(done: int, total: int) -> None:
        percent = 100.0 * done / total if total else 100.0
        update_progress_artifact(artifact_id=artifact, progress=percent)

    return at_most_every(seconds, report)


def extraction_page(summary: ExtractionSummary, lines: Sequence[str]) -> str:
    """An extraction in Markdown: the rows as a table, then all that was told at the end."""
    table = (
        "| rows | |\n|---|--:|\n"
        f"| computed | {summary.computed:,} |\n"
        f"| already complete | {summary.already_complete:,} |\n"
        f"| failed | {summary.failed.total():,} |"
    )
    told = "\n".join(lines)
    return f"# Extraction\n\n{table}\n\n```text\n{told}\n```\n"
