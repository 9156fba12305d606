"""Summary of an extraction: counts, failures and timings."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np

from pipeline.extraction.plan import NOT_FINITE, ExtractionPlan
from stores.location import Location
from stores.status import FIRST_REASON, WHOLE, flag_of

MAX_FAILURES = 1000
"""Maximum number of failures kept with their details; the others are only counted."""

MAX_FAILURES_SHOWN = 10
"""Maximum number of failures in the text of a summary."""


@dataclass(frozen=True)
class Failure:
    """A record that could not be embedded.

    Attributes:
        record_id: Id of the record.
        expert: Expert that failed; None if the record itself is unreadable.
        reason: Reason code, one of the stores' flags.
        detail: A message that names the file or the value.
    """

    record_id: int | str
    expert: str | None
    reason: str
    detail: str


@dataclass
class ExtractionSummary:
    """The results of an extraction, updated while it runs.

    A row is one record in one store.

    Attributes:
        computed: Number of rows computed and written in this run.
        already_complete: Number of requested rows that were already complete.
        previously_failed: Number of rows that failed in earlier runs and were not retried.
        failed: Number of rows that failed in this run, by (expert, reason).
        failed_records: Number of records that failed in this run, by reason; `NOT_FINITE` counts
            a record once per expert.
        failures: The first `MAX_FAILURES` failures of this run.
        embedded: Number of records passed to each expert, by name of the expert.
        embedding_seconds: Seconds spent in each expert, summed over workers, by name of the expert.
        stores: Locations of the stores.
        run_records: Locations of the run records of this run.
        leads_busy: Reason why the gate's leads were not extracted; None if they were.
        without_embeddings: For each expert whose requested records all failed, in this run or
            earlier, the number of records by reason.
        devices: Torch devices of the workers that computed ranges of shards.
        workers: Largest number of workers during the extraction.
        retries: Number of times that a range of shards was started again after an error or the loss
            of its worker.
    """

    computed: int = 0
    already_complete: int = 0
    previously_failed: int = 0
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed_records: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    embedded: Counter[str] = field(default_factory=Counter)
    embedding_seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    stores: tuple[Location, ...] = ()
    run_records: tuple[Location, ...] = ()
    leads_busy: str | None = None
    without_embeddings: dict[str, Counter[str]] = field(default_factory=dict)
    devices: set[str] = field(default_factory=set)
    workers: int = 1
    retries: int = 0

    @classmethod
    def of(cls, plan: ExtractionPlan) -> "ExtractionSummary":
        """Return the summary of a plan before any row is computed."""
        return cls(
            already_complete=plan.already_complete,
            previously_failed=plan.previously_failed,
            stores=tuple(planned.store.location for planned in plan.stores),
            leads_busy=plan.leads_busy,
        )

    def add(self, part: "ExtractionSummary") -> None:
        """Add the counts, failures and timings of one range of shards."""
        self.computed += part.computed
        self.already_complete += part.already_complete
        self.failed += part.failed
        self.failed_records += part.failed_records
        self.failures += part.failures[: MAX_FAILURES - len(self.failures)]
        self.embedded += part.embedded
        self.devices |= part.devices
        for name, seconds in part.embedding_seconds.items():
            self.embedding_seconds[name] += seconds

    def add_failure(self, failure: Failure, expert: str, *, repeated: bool) -> None:
        """Count a failed row.

        Args:
            failure: The failure.
            expert: Name of the expert whose store the row is in.
            repeated: Whether the same failure was already added for another expert.
        """
        self.failed[expert, failure.reason] += 1
        if repeated:
            return
        self.failed_records[failure.reason] += 1
        if len(self.failures) < MAX_FAILURES:
            self.failures.append(failure)

    def recount(self, plan: ExtractionPlan) -> None:
        """Recount rows and records in the stores, because lost workers do not report theirs."""
        self.already_complete, self.computed = plan.already_complete, 0
        self.failed.clear()
        unreadable: dict[str, np.ndarray] = {}
        for planned in plan.stores:
            status = planned.store.status()
            self.computed += int((status[planned.missing] == WHOLE).sum())
            for code in np.unique(status[planned.missing & (status >= FIRST_REASON)]):
                rows = planned.missing & (status == code)
                reason = flag_of(int(code), planned.store.flags)
                self.failed[planned.name, reason] = int(rows.sum())
                if reason != NOT_FINITE:
                    unreadable[reason] = unreadable.get(reason, False) | rows
        self.failed_records = Counter({reason: int(n.sum()) for reason, n in unreadable.items()})
        self.failed_records[NOT_FINITE] = sum(
            count for (_, reason), count in self.failed.items() if reason == NOT_FINITE
        )
        self.failed_records = +self.failed_records

    def find_experts_without_embeddings(self, plan: ExtractionPlan) -> None:
        """Set `without_embeddings` from the stores, after the rows of a plan were computed."""
        if not (self.failed or self.previously_failed):
            return
        requested = plan.index_rows >= 0
        for planned in plan.stores:
            status = planned.store.status()[requested]
            if len(status) and (status >= FIRST_REASON).all():
                counts = zip(*np.unique(status, return_counts=True), strict=True)
                self.without_embeddings[planned.name] = Counter(
                    {flag_of(int(code), planned.store.flags): int(count) for code, count in counts}
                )

    @property
    def error(self) -> str | None:
        """Message if an expert has no embedding of any requested record, else None."""
        if not self.without_embeddings:
            return None
        reasons = Counter[str]()
        for counts in self.without_embeddings.values():
            reasons |= counts
        by_reason = ", ".join(f"{n} {reason}" for reason, n in reasons.most_common())
        message = (
            f"No requested record has an embedding of {', '.join(self.without_embeddings)}: "
            f"{by_reason}."
        )
        shown = (
            f"First failure, record {failure.record_id}: {failure.detail}"
            for failure in self.failures
            if failure.expert is None or failure.expert in self.without_embeddings
        )
        earlier = "The records failed in an earlier run; retry them with --retry-failed."
        return f"{message} {next(shown, earlier)}"

    def lines(self) -> list[str]:
        """Return the summary as lines of text."""
        retry = (
            f", {self.previously_failed} failed in earlier runs (--retry-failed retries them)"
            if self.previously_failed
            else ""
        )
        lines = [
            f"{self.computed} rows computed, {self.already_complete} already complete, "
            f"{self.failed.total()} failed{retry}; a row is one record in one of "
            f"{len(self.stores)} stores."
        ]
        if self.embedded:
            rates = ", ".join(
                f"{name} {count / self.embedding_seconds[name]:.3g}"
                for name, count in self.embedded.items()
            )
            lines.append(f"Records/s per expert, excluding decoding and writing: {rates}.")
        lines += self._failure_lines()
        lines += [f"Store of {location.parent.name}: {location}" for location in self.stores]
        lines += [f"Run record: {location}" for location in self.run_records]
        if self.retries:
            lines.append(
                f"{self.retries} range{'s' if self.retries > 1 else ''} of shards started again "
                "after an error or the loss of a worker."
            )
        if self.leads_busy:
            lines.append(f"The gate's leads were not extracted: {self.leads_busy}")
        return lines

    def _failure_lines(self) -> list[str]:
        total = self.failed_records.total()
        if not total:
            return []
        counts = ", ".join(f"{n} {reason}" for reason, n in self.failed_records.most_common())
        lines = [f"{total} record{'s' if total > 1 else ''} failed: {counts}."]
        shown = self.failures[:MAX_FAILURES_SHOWN]
        lines += [f"  {failure.record_id}: {failure.reason}. {failure.detail}" for failure in shown]
        if total > len(shown):
            lines.append(
                f"  ... and {total - len(shown)} more; list all with `enecg store show URL "
                "--failed`, where URL is one of the stores below."
            )
        return lines
