"""What an extraction did: counted, told to people, and kept beside the stores."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path

import torch

from pipeline.plan import ExtractionPlan
from stores.runs import write_run


@dataclass(frozen=True)
class Failure:
    """A record that an expert has no embedding of, and why."""

    record_id: int
    expert: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Summary:
    """What an extraction did, in rows (one record of one expert is a row).

    `embedded` and `embedding_seconds`: by expert, the ECGs it was given and how long it took.
    """

    computed: int = 0
    already_there: int = 0
    failed: int = 0
    seconds: float = 0.0
    failures: tuple[Failure, ...] = ()
    embedded: Counter[str] = field(default_factory=Counter)
    embedding_seconds: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: "Summary") -> "Summary":
        return Summary(
            self.computed + other.computed,
            self.already_there + other.already_there,
            self.failed + other.failed,
            self.seconds + other.seconds,
            self.failures + other.failures,
            self.embedded + other.embedded,
            self.embedding_seconds + other.embedding_seconds,
        )


def report(plan: ExtractionPlan, summary: Summary, named: int = 10) -> list[str]:
    """An extraction told in lines: rows, failures by reason, and the first of them by name."""
    lines = [
        f"{summary.computed} rows computed, {summary.already_there} already there, "
        f"{summary.failed} failed"
        + (
            f", {plan.failed_before} failed before (--retry-failed tries them again)"
            if plan.failed_before
            else ""
        )
        + f"; a row is one record of one of {len(plan.stores)} stores."
    ]
    if rates := _rates(summary):
        lines.append("Records per second of each expert alone: " + ", ".join(rates) + ".")
    # A bad record fails in every store for one reason: it is told once.
    records = {failure.record_id: failure for failure in summary.failures}
    if records:
        counts = Counter(failure.reason for failure in records.values())
        told = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
        lines.append(f"{len(records)} records failed: {told}.")
        lines += [
            f"  {failure.record_id}: {failure.reason}. {failure.detail}"
            for failure in islice(records.values(), named)
        ]
        if len(records) > named:
            lines.append(f"  ... and {len(records) - named} more, in the run objects below.")
    return lines


def _rates(summary: Summary) -> list[str]:
    return [
        f"{name} {count / summary.embedding_seconds[name]:.3g}"
        for name, count in summary.embedded.items()
    ]


def finish_extraction(plan: ExtractionPlan, summary: Summary) -> list[Path]:
    """Keep what was done beside each store it was done to; returns the run objects' paths."""
    if not plan.total_rows:
        return []
    finished = datetime.now().astimezone()
    written = []
    for expert, store, mask in zip(plan.experts, plan.stores, plan.to_do, strict=True):
        if not mask.any():
            continue
        failures = [one for one in summary.failures if one.expert == expert.spec.name]
        run = {
            "started": plan.started.isoformat(timespec="seconds"),
            "finished": finished.isoformat(timespec="seconds"),
            "device": plan.device,
            "torch": torch.__version__,
            "index_digest": plan.dataset.index().digest,
            "rows_to_do": int(mask.sum()),
            "rows_failed": len(failures),
            "embedded": summary.embedded[expert.spec.name],
            "embedding_seconds": round(summary.embedding_seconds[expert.spec.name], 3),
            "failures": [
                {"record_id": one.record_id, "reason": one.reason, "detail": one.detail}
                for one in failures
            ],
        }
        written.append(write_run(store, run))
    return written
