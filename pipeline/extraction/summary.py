"""What came of an extraction: counted, told in lines, and kept beside the stores."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

import torch

from pipeline.extraction.plan import ExtractionPlan
from stores.location import Location
from stores.runs import write_run

FAILURES_KEPT = 1000
"""Failures kept in words; beyond that they are counted, and their reasons are in the stores."""
FAILURES_NAMED = 10


@dataclass(frozen=True)
class Failure:
    """A record that cannot be had, or that an expert has no embedding of, and why.

    `expert`: None where it is the record itself.
    """

    record_id: int | str
    expert: str | None
    reason: str
    detail: str


@dataclass
class Summary:
    """What an extraction brought into the stores so far, in rows (a record of an expert is one).

    `failed`: by expert and reason. `records_failed`: by reason, each record once. `embedded` and
    `embedding_seconds`: by expert, the ECGs it was given and how long it took.
    """

    computed: int = 0
    already_there: int = 0
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    records_failed: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    embedded: Counter[str] = field(default_factory=Counter)
    embedding_seconds: Counter[str] = field(default_factory=Counter)

    def fail(self, failure: Failure, expert: str, *, again: bool) -> None:
        """Count a failure for an expert; `again`: it was for another expert too, and is told."""
        self.failed[expert, failure.reason] += 1
        if again:
            return
        self.records_failed[failure.reason] += 1
        if len(self.failures) < FAILURES_KEPT:
            self.failures.append(failure)


def report(plan: ExtractionPlan, summary: Summary) -> list[str]:
    """An extraction told in lines: rows, failures by reason, and the first of them by name."""
    lines = [
        f"{summary.computed} rows computed, {summary.already_there} already there, "
        f"{summary.failed.total()} failed"
        + (
            f", {plan.failed_before} failed before (--retry-failed tries them again)"
            if plan.failed_before
            else ""
        )
        + f"; a row is one record of one of {len(plan.stores)} stores."
    ]
    if rates := _rates(summary):
        lines.append("Records per second of each expert alone: " + ", ".join(rates) + ".")
    total = summary.records_failed.total()
    if total:
        counts = summary.records_failed.most_common()
        told = ", ".join(f"{count} {reason}" for reason, count in counts)
        lines.append(f"{total} record{'s' if total > 1 else ''} failed: {told}.")
        lines += [
            f"  {failure.record_id}: {failure.reason}. {failure.detail}"
            for failure in summary.failures[:FAILURES_NAMED]
        ]
        if total > FAILURES_NAMED:
            lines.append(
                f"  ... and {total - FAILURES_NAMED} more; `enecg store show --failed` with a "
                "store below lists them all."
            )
    return lines


def _rates(summary: Summary) -> list[str]:
    return [
        f"{name} {count / summary.embedding_seconds[name]:.3g}"
        for name, count in summary.embedded.items()
    ]


def finish_extraction(
    plan: ExtractionPlan, summary: Summary, *, finished: bool = True
) -> list[Location]:
    """Keep what was done beside each store it was done to; returns the run objects' locations.

    `finished`: False where it was stopped before its end.
    """
    if not plan.total_rows:
        return []
    ended = datetime.now().astimezone()
    written = []
    for expert, store, mask in zip(plan.experts, plan.stores, plan.to_do, strict=True):
        if not mask.any():
            continue
        name = expert.spec.name
        failed = {reason: n for (whose, reason), n in summary.failed.items() if whose == name}
        run = {
            "started": plan.started.isoformat(timespec="seconds"),
            "ended": ended.isoformat(timespec="seconds"),
            "finished": finished,
            "by": next(lease for lease in plan.leases if lease.ticket == store.ticket).holder.who,
            "device": plan.device,
            "torch": torch.__version__,
            "index_digest": plan.dataset.index().digest,
            "rows_to_do": int(mask.sum()),
            "rows_failed": sum(failed.values()),
            "failed_by_reason": failed,
            "embedded": summary.embedded[name],
            "embedding_seconds": round(summary.embedding_seconds[name], 3),
            "failures": [
                {"record_id": one.record_id, "reason": one.reason, "detail": one.detail}
                for one in summary.failures
                if one.expert in (None, name)
            ],
        }
        written.append(write_run(store, run))
    return written
