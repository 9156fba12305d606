"""Stage one: extract the embeddings of the frozen experts into the shared stores."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from enecg.errors import UserError
from flows import parameters as p
from flows.job import Artifact, current_job
from flows.output import log_to_stderr
from flows.progress import forward_logs
from pipeline.extraction.options import DEFAULT_EXPERTS, ExtractOptions
from pipeline.waveforms.options import DecodeOptions, ShortRecords

if TYPE_CHECKING:
    from pipeline.extraction.engine import Engine
    from pipeline.extraction.plan import ExtractionPlan, ShardRange
    from pipeline.extraction.progress import JobProgress
    from pipeline.extraction.summary import ExtractionSummary

STEPS = 24
"""Maximum number of steps, each of one or more shards; four per worker if that is more."""
MAX_STEPS = 96
"""Maximum with many workers. Prefect's default database, SQLite, stalls at about a hundred task
runs."""

RETRY_SECONDS = (10, 60)
"""Seconds to wait before each retry of a failed step."""


def extract(
    *,
    dataset: p.Dataset,
    store: p.Store,
    experts: p.Experts = DEFAULT_EXPERTS,
    weights: p.Weights = ("published",),
    pooling: p.Pooling = ("default",),
    expert_settings: p.ExpertSettings = (),
    batch_size: p.BatchSize = None,
    device: p.Device = "auto",
    workers: p.Workers = None,
    devices: p.Devices = (),
    threads: p.TorchThreads = None,
    scheduler: p.ExtractScheduler = None,
    precision: p.Precision = ("float32",),
    dtype: p.Dtype = "float16",
    short_records: p.ShortRecords = "refuse",
    derive_leads: p.DeriveLeads = False,
    limit: p.Limit = None,
    records: p.Records = None,
    retry_failed: p.RetryFailed = False,
    dry_run: p.DryRun = False,
    wait_minutes: p.WaitMinutes = 0.0,
) -> tuple[str, ...]:
    """Compute and write the missing embeddings.

    An interrupted extraction resumes when it is run again.

    Returns:
        Lines of the report.
    """
    options = {
        "weights": weights,
        "pooling": pooling,
        "expert_settings": expert_settings,
        "batch_size": batch_size,
        "device": device,
        "workers": workers,
        "devices": p.split(devices),
        "threads": threads,
        "scheduler": scheduler,
        "precision": precision,
        "dtype": dtype,
        "short_records": short_records,
        "derive_leads": derive_leads,
        "limit": limit,
        "records": records,
        "retry_failed": retry_failed,
        "wait_minutes": wait_minutes,
    }
    run = estimate if dry_run else _extract
    return tuple(run(dataset, store, experts, **options))


def estimate(
    dataset: str, store: str, experts: Iterable[str] = DEFAULT_EXPERTS, **options: Any
) -> list[str]:
    """Estimate the work of an extraction, without writing to the stores.

    Args:
        dataset: Data set as ``SOURCE:FOLDER``.
        store: Root folder or URL of the stores.
        experts: Names of experts; a value may contain several, separated by commas.
        **options: Fields of `ExtractOptions`, except `decoding`, and of `DecodeOptions`.

    Returns:
        Lines of the report.
    """
    # Imported here because `--help` should not wait for torch.
    from pipeline.extraction.estimate import estimate_extraction, format_estimates
    from pipeline.extraction.request import resolve_request

    with forward_logs("enecg", log_to_stderr), forward_logs("pipeline", log_to_stderr):
        request = resolve_request(dataset, store, p.split(experts), _options(**options))
    return format_estimates(estimate_extraction(request))


def _options(
    weights: Iterable[str] = ("published",),
    pooling: Iterable[str] = ("default",),
    precision: Iterable[str] = ("float32",),
    expert_settings: Iterable[str] = (),
    short_records: ShortRecords = "refuse",
    derive_leads: bool = False,
    **options: Any,
) -> ExtractOptions:
    return ExtractOptions(
        weights=p.split(weights),
        pooling=p.split(pooling),
        precision=p.split(precision),
        expert_settings=p.split(expert_settings),
        decoding=DecodeOptions(short_records, derive_leads),
        **options,
    )


def _extract(dataset: str, store: str, experts: Iterable[str], **options: Any) -> list[str]:
    from flows.failed_records import list_failed
    from pipeline import extract as stage
    from stores.opening import open_store

    job = current_job()
    artifact = Artifact(f"{store} {dataset}", f"Extraction of {dataset} into {store}")

    def run_plan(plan: "ExtractionPlan", summary: "ExtractionSummary", engine: "Engine") -> None:
        from pipeline.extraction.engine import run_ranges
        from pipeline.extraction.progress import JobProgress

        with job.progress("extract", "records", artifact) as run:
            progress = JobProgress(plan.total_records, run)

            def extract_one(shards: "ShardRange") -> None:
                job.step(
                    f"shards {shards.first} to {shards.last - 1}",
                    extract_shards,
                    *(engine, shards, summary, progress),
                    retry_seconds=RETRY_SECONDS,
                    stopped=engine.stopped,
                )

            steps = min(MAX_STEPS, max(STEPS, 4 * engine.workers))
            try:
                run_ranges(engine, plan.ranges(steps), extract_one)
            except (KeyboardInterrupt, SystemExit):
                for line in summary.lines():
                    job.log(line)
                raise

    with forward_logs("enecg", job.log), forward_logs("pipeline", job.log):
        summary = stage.extract(
            dataset,
            store,
            p.split(experts),
            options=_options(**options),
            log=job.log,
            run_plan=run_plan,
        )
    lines = summary.lines()
    job.publish("extraction", artifact, extraction_page(summary, lines))
    if summary.failed or summary.previously_failed:
        stores = map(open_store, summary.stores)
        job.publish_failed(artifact, list_failed(stores, summary.failures))
    if summary.error is not None:
        for line in lines:
            job.log(line)
        raise UserError(summary.error)
    return lines


def extract_shards(
    engine: "Engine",
    shards: "ShardRange",
    summary: "ExtractionSummary",
    progress: "JobProgress",
) -> None:
    """Extract a range of shards. A retry computes only the rows that are still missing.

    Args:
        engine: Engine that computes the range.
        shards: Range of shards.
        summary: Updated in place.
        progress: Progress of the extraction.
    """
    with progress.part() as part_progress:
        engine.extract(shards, summary, part_progress)


def extraction_page(summary: "ExtractionSummary", lines: Sequence[str]) -> str:
    """Format the results of an extraction in Markdown.

    Args:
        summary: Results of the extraction.
        lines: Lines of the report.

    Returns:
        A table of row counts, followed by the report.
    """
    table = (
        "| rows | |\n|---|--:|\n"
        f"| computed | {summary.computed:,} |\n"
        f"| already complete | {summary.already_complete:,} |\n"
        f"| failed | {summary.failed.total():,} |"
    )
    report = "\n".join(lines)
    return f"# Extraction\n\n{table}\n\n```text\n{report}\n```\n"
