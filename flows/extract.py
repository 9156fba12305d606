"""Stage one as a flow: every frozen expert over every record, once, into the shared store."""

from typing import TYPE_CHECKING

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows import parameters as p
from flows.mistakes import MISTAKES, failed
from flows.opaque import opaque
from flows.progress import Progress, shown, to_the_log

if TYPE_CHECKING:
    from pipeline.plan import ExtractionPlan, ShardRange
    from pipeline.summary import Summary

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
    retry_failed: p.RetryFailed = False,
) -> tuple[str, ...]:
    """Run the frozen experts over the ECGs and keep their embeddings in the store.

    What is in the store is not computed again, and a stopped run goes on where it was.
    """
    # Imported here, for they bring torch, and asking for help should not wait for it.
    from flows.artifacts import extraction_page, progress_artifact
    from pipeline.plan import plan_extraction
    from pipeline.summary import Summary, finish_extraction, report

    logger = get_run_logger()
    say = to_the_log(logger)
    try:
        plan = plan_extraction(
            dataset,
            store,
            p.split(experts),
            weights=p.split(weights),
            pooling=p.split(pooling),
            dtype=dtype,
            device=device,
            limit=limit,
            retry_failed=retry_failed,
        )
        summary = Summary(already_there=plan.already_there)
        with shown("extract", "records", say) as line:
            page = progress_artifact(f"Extraction of {dataset}")
            progress = Progress(plan.total_records, (line, page))
            for shards in plan.ranges(TASKS):
                outcome = extract_shards(opaque(plan), shards, batch_size, opaque(progress))
                if isinstance(outcome, Exception):
                    raise outcome
                summary += outcome
        written = finish_extraction(plan, summary)
    except MISTAKES as mistake:
        return failed(mistake)
    lines = [
        *report(plan, summary),
        *(f"Store of {one.path.parent.name}: {one.path}" for one in plan.stores),
        *(f"Run object: {path}" for path in written),
    ]
    create_markdown_artifact(key="extraction", markdown=extraction_page(summary, lines))
    for told in lines:
        logger.info(told)
    return tuple(lines)


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
    batch_size: int,
    progress: Progress,
) -> "Summary | Exception":
    """Compute a range of shards; a user's mistake is returned, for a raised one is logged."""
    from pipeline.extract import extract_range

    with progress.part() as report:
        try:
            return extract_range(plan, shards, batch_size=batch_size, progress=report)
        except MISTAKES as mistake:
            return mistake
