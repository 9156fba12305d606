"""Write the run records of an extraction."""

from datetime import datetime

import torch

from pipeline.extraction.plan import ExtractionPlan
from pipeline.extraction.summary import ExtractionSummary
from stores.location import Location
from stores.runs import write_run


def write_run_records(
    plan: ExtractionPlan, summary: ExtractionSummary, *, finished: bool = True
) -> tuple[Location, ...]:
    """Write a run record beside each store for which the plan has rows to compute.

    Args:
        plan: Plan of the extraction.
        summary: Results of the extraction.
        finished: Whether the extraction completed; False if it was interrupted or failed.

    Returns:
        Locations of the run records.

    Raises:
        StoreError: A run record cannot be written.
    """
    ended = datetime.now().astimezone()
    locations = []
    for planned in plan.stores:
        if not planned.missing.any():
            continue
        name = planned.name
        failed = {reason: n for (expert, reason), n in summary.failed.items() if expert == name}
        record = {
            "started": plan.started.isoformat(timespec="seconds"),
            "ended": ended.isoformat(timespec="seconds"),
            "finished": finished,
            "by": planned.lease.record.who if planned.lease is not None else "",
            # Without a device, no range was completed.
            "device": ", ".join(sorted(summary.devices)) or plan.request.device,
            "workers": summary.workers,
            "range_retries": summary.retries,
            "torch": torch.__version__,
            "index_digest": plan.request.dataset.index().digest,
            "rows_to_do": int(planned.missing.sum()),
            "rows_failed": sum(failed.values()),
            "failed_by_reason": failed,
            "embedded": summary.embedded[name],
            "embedding_seconds": round(summary.embedding_seconds.get(name, 0.0), 6),
            "failures": [
                # Omit the detail, because it may contain paths with patient ids, and the store is
                # shared.
                {"record_id": failure.record_id, "reason": failure.reason}
                for failure in summary.failures
                if failure.expert in (None, name)
            ],
        }
        locations.append(write_run(planned.store, record))
    return tuple(locations)
