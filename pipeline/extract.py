"""Stage one: compute the embeddings of the frozen experts and write them to shared stores."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from enecg.errors import UserError
from enecg.experts import Expert
from pipeline.datasets.base import Dataset
from pipeline.extraction.engine import Engine, open_engine, run_ranges
from pipeline.extraction.leases import Log
from pipeline.extraction.options import DEFAULT_EXPERTS, ExtractOptions
from pipeline.extraction.plan import ExtractionPlan, ShardRange, plan_extraction
from pipeline.extraction.progress import JobProgress
from pipeline.extraction.ranges import Progress
from pipeline.extraction.request import resolve_request
from pipeline.extraction.run_record import write_run_records
from pipeline.extraction.summary import ExtractionSummary
from stores.errors import StoreError

RANGES_PER_WORKER = 8
"""Maximum number of ranges per worker. Several let all workers finish at about the same time."""
RunPlan = Callable[[ExtractionPlan, ExtractionSummary, Engine], None]
"""A function that computes all shard ranges of a plan with an engine, by calling `run_ranges`."""


def extract(
    dataset: str | Dataset,
    store: str | Path,
    experts: Sequence[str | Expert] = DEFAULT_EXPERTS,
    *,
    options: ExtractOptions | None = None,
    progress: Progress | None = None,
    log: Log | None = None,
    run_plan: RunPlan | None = None,
) -> ExtractionSummary:
    """Compute the embeddings that are missing in `store` and write them.

    Complete rows are not recomputed, so an interrupted extraction resumes when it is run again. The
    gate's input, a sample of the leads, is also extracted unless another extraction is writing it.

    Args:
        dataset: A data set, or its spec such as ``"mimic-iv-ecg:/data/mimic"``.
        store: Root folder or URL of the shared stores.
        experts: Names from the registry, or expert objects.
        options: Weights, precision, device, record selection. Default: ``ExtractOptions()``.
        progress: Called as ``progress(done, total)`` with record counts.
        log: Called with a line of text for each store that the extraction waits for.
        run_plan: Called instead of the loop over shard ranges; `progress` is then not called.

    Returns:
        Counts, failures with reasons, timings per expert, and the stores' locations. `error` is
        set if an expert has no embedding of any requested record.

    Raises:
        UserError: An option is invalid, the data set, an expert, its weights, a device or a worker
            is unavailable, or a device is out of memory.
        LeaseHeld: Another extraction is writing to the store of an expert.
        StoreError: A store cannot be read or written, or its lease was lost (`LeaseLost`).
    """
    request = resolve_request(dataset, store, experts, options)
    with plan_extraction(request, log) as plan, open_engine(plan, dataset, experts) as engine:
        summary = ExtractionSummary.of(plan)
        finished = False
        try:
            (run_plan or _run_plan(progress))(plan, summary, engine)
            finished = True
            if summary.retries:
                summary.recount(plan)
            summary.find_experts_without_embeddings(plan)
        finally:
            # Write the run records after an interruption too. In this case, suppress errors of this
            # write, so that they do not replace the original error.
            with suppress(*(() if finished else (UserError, StoreError))):
                summary.run_records = write_run_records(plan, summary, finished=finished)
    return summary


def _run_plan(progress: Progress | None) -> RunPlan:
    def run(plan: ExtractionPlan, summary: ExtractionSummary, engine: Engine) -> None:
        job = JobProgress(plan.total_records, progress or (lambda done, total: None))

        def extract_one(shards: ShardRange) -> None:
            with job.part() as part_progress:
                engine.extract(shards, summary, part_progress)

        run_ranges(engine, plan.ranges(RANGES_PER_WORKER * engine.workers), extract_one)

    return run
