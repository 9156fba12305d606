"""Stage one: the embeddings of every frozen expert, written to the shared stores."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from enecg.errors import UserError
from enecg.experts import Expert
from pipeline.datasets.base import Dataset
from pipeline.extraction.leases import Log
from pipeline.extraction.options import DEFAULT_EXPERTS, ExtractOptions
from pipeline.extraction.plan import ExtractionPlan, plan_extraction
from pipeline.extraction.ranges import Progress, extract_range
from pipeline.extraction.request import resolve_request
from pipeline.extraction.run_record import write_run_records
from pipeline.extraction.summary import ExtractionSummary
from stores.errors import StoreError

RunPlan = Callable[[ExtractionPlan, ExtractionSummary], None]
"""Runs `extract_range` on all ranges of a plan, in this process or elsewhere."""


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
    """Compute the embeddings that `store` is missing and write them.

    Complete rows are not recomputed, so an interrupted extraction resumes when it is run again.
    The leads that the gate uses are extracted with every expert.

    Args:
        dataset: A data set, or its spec such as ``"mimic-iv-ecg:/data/mimic"``.
        store: Root folder or URL of the shared stores.
        experts: Names from the registry, or expert objects.
        options: Weights, precision, device, record selection; ``ExtractOptions()`` by default.
        progress: Called as ``progress(done, total)`` with record counts.
        log: Called with a line when the extraction waits for another one.
        run_plan: Runs the shard ranges of the plan in place of a loop in this process, and reports
            its own progress.

    Returns:
        Counts, failures with reasons, timings per expert, and the stores' locations. `error` is
        set if an expert has no embedding of any requested record.

    Raises:
        UserError: A data set, expert, weight file or device is unavailable.
        LeaseHeld: Another extraction is writing to one of the stores.
        StoreError: A store cannot be read or written.
    """
    request = resolve_request(dataset, store, experts, options)
    with plan_extraction(request, log) as plan:
        summary = ExtractionSummary.of(plan)
        finished = False
        try:
            if run_plan is not None:
                run_plan(plan, summary)
            else:
                for shards in plan.ranges(1):
                    extract_range(plan, shards, summary, progress)
            finished = True
            summary.find_experts_without_embeddings(plan)
        finally:
            # An interrupted extraction has a run record too, but its own error takes precedence.
            with suppress(*(() if finished else (UserError, StoreError))):
                summary.run_records = write_run_records(plan, summary, finished=finished)
    return summary
