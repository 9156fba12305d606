"""Stage one as a flow: every frozen expert over every record, once, into the shared store."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows import parameters as p
from flows.mistakes import MISTAKES, failed
from flows.opaque import opaque
from flows.progress import Progress, Say, shown, to_the_log

if TYPE_CHECKING:
    from pipeline.extraction.plan import ExtractionPlan, ShardRange
    from pipeline.extraction.summary import Summary
    from stores.location import Location

TASKS = 24
"""Tasks an extraction is cut into at most: SQLite, Prefect's default, stalls past a hundred."""


@flow(name="extract", flow_run_name="extract {dataset}")
@p.documented
def extract(
    *,
    dataset: p.Dataset,
    store: p.Store,
    experts: p.Experts = p.USUAL_EXPERTS,
    weights: p.Weights = ("published",),
    pooling: p.Pooling = ("default",),
    batch_size: p.BatchSize = 64,
    device: p.Device = "auto",
    dtype: p.Dtype = "float16",
    limit: p.Limit = None,
    records: p.Records = None,
    retry_failed: p.RetryFailed = False,
    dry_run: p.DryRun = False,
    wait_minutes: p.WaitMinutes = 0.0,
) -> tuple[str, ...]:
    """Run the frozen experts over the ECGs and keep their embeddings in the store.

    What is in the store is not computed again, and a stopped run goes on where it was.
    """
    request = asked(
        dataset=dataset,
        store=store,
        experts=experts,
        weights=weights,
        pooling=pooling,
        dtype=dtype,
        device=device,
        limit=limit,
        records=records,
    )
    say = to_the_log(get_run_logger())
    try:
        if dry_run:
            lines = look_ahead(request, retry_failed)
        else:
            lines = _extract(request, batch_size, retry_failed, 60 * wait_minutes, say)
    except MISTAKES as mistake:
        return failed(mistake)
    for told in lines:
        get_run_logger().info(told)
    return tuple(lines)


def asked(**parameters: Any) -> dict[str, Any]:
    """Of a flow's parameters what `pipeline.extraction.request.resolve` takes, names split
    at their commas.
    """
    return {
        name: p.split(value) if name in ("experts", "weights", "pooling") else value
        for name, value in parameters.items()
        if name not in ("batch_size", "wait_minutes")
    }


def look_ahead(request: dict[str, Any], retry_failed: bool) -> list[str]:
    """What there is to do, in lines; nothing is made or written. `request`: as for `resolve`."""
    # Imported here, for it brings torch, and asking for help should not wait for it.
    from pipeline.extraction.request import resolve
    from pipeline.extraction.survey import survey, told

    return told(survey(resolve(**request), retry_failed=retry_failed))


def _extract(
    request: dict[str, Any],
    batch_size: int,
    retry_failed: bool,
    wait_seconds: float,
    say: Say,
) -> list[str]:
    """Do what was asked for, and tell it in lines."""
    from flows.artifacts import extraction_page, progress_artifact
    from pipeline.extraction.plan import plan_extraction
    from pipeline.extraction.request import resolve
    from pipeline.extraction.summary import Summary, finish_extraction, report

    with plan_extraction(
        resolve(**request), retry_failed=retry_failed, wait_seconds=wait_seconds, notice=say
    ) as plan:
        summary = Summary(already_there=plan.already_there)
        written: list[Location] = []
        finished = False
        try:
            with shown("extract", "records", say) as line:
                page = progress_artifact(f"Extraction of {request['dataset']}")
                progress = Progress(plan.total_records, (line, page))
                for shards in plan.ranges(TASKS):
                    mistake = extract_shards(
                        opaque(plan), shards, opaque(summary), batch_size, opaque(progress)
                    )
                    if mistake is not None:
                        raise mistake
            finished = True
        finally:
            # What was done by an extraction that is stopped is told beside the store too.
            with suppress(*(() if finished else MISTAKES)):
                written = finish_extraction(plan, summary, finished=finished)
    lines = [
        *report(plan, summary),
        *(f"Store of {one.provenance['expert']}: {one.location}" for one in plan.stores),
        *(f"Run object: {location}" for location in written),
        *([f"The sampled leads were left to another extraction: {plan.busy}"] if plan.busy else []),
    ]
    create_markdown_artifact(key="extraction", markdown=extraction_page(summary, lines))
    return lines


@task(
    name="extract shards",
    task_run_name="shards {shards.first} to {shards.last}",
    cache_policy=NO_CACHE,
    # Safe to repeat: only what is still missing is computed.
    retries=2,
    retry_delay_seconds=[10, 60],
)
def extract_shards(
    plan: "ExtractionPlan",
    shards: "ShardRange",
    summary: "Summary",
    batch_size: int,
    progress: Progress,
) -> Exception | None:
    """Compute a range of shards; a user's mistake is returned, for a raised one is logged."""
    from pipeline.extraction.extract import extract_range

    with progress.part() as report:
        try:
            extract_range(plan, shards, summary, batch_size=batch_size, progress=report)
        except MISTAKES as mistake:
            return mistake
    return None
