"""Prefect artifacts: the progress bar and the extraction summary in the UI."""

from collections.abc import Sequence
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flows.progress import Progress, throttle
from pipeline.extraction.summary import ExtractionSummary


def progress_artifact(description: str, *, seconds: float = 10) -> Progress:
    """Create a progress artifact for the current run, updated at most every `seconds`."""
    artifact = create_progress_artifact(progress=0.0, description=description)
    assert isinstance(artifact, UUID)

    def progress(done: int, total: int) -> None:
        percent = 100.0 * done / total if total else 100.0
        update_progress_artifact(artifact_id=artifact, progress=percent)

    return throttle(progress, seconds)


def extraction_page(summary: ExtractionSummary, lines: Sequence[str]) -> str:
    """Format an extraction in Markdown: row counts as a table, then the report's lines."""
    table = (
        "| rows | |\n|---|--:|\n"
        f"| computed | {summary.computed:,} |\n"
        f"| already complete | {summary.already_complete:,} |\n"
        f"| failed | {summary.failed.total():,} |"
    )
    report = "\n".join(lines)
    return f"# Extraction\n\n{table}\n\n```text\n{report}\n```\n"
