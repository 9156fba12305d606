"""The lines that `enecg store` prints about one store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.tables import format_bytes, one_line

if TYPE_CHECKING:
    from pipeline.extraction.recompute import RecomputeResult
    from stores.embeddings import EmbeddingStore
    from stores.opening import RowCounts
    from stores.verify import Verification


def writer(store: EmbeddingStore) -> str | None:
    """Return the holder of a store's lease, even if expired, or an error; None without a lease."""
    from stores.errors import StoreError
    from stores.lease import read_holder

    try:
        holder = read_holder(store.location)
    except StoreError as error:
        return f"unknown: {error}"
    return None if holder is None else str(holder)


def describe(store: EmbeddingStore, counts: RowCounts) -> list[str]:
    """Describe a store: row counts, size, writer, provenance and runs.

    Args:
        store: The store.
        counts: Row counts of the store.

    Returns:
        Lines of text.
    """
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts.failed.items())
    lines = [
        str(store.location),
        f"  rows      {counts.rows:,}: {counts.whole:,} complete, {counts.missing:,} missing, "
        f"{sum(counts.failed.values()):,} failed" + (f" ({reasons})" if reasons else ""),
        f"  size      {format_bytes(counts.size_bytes)}, {store.features:,} features, "
        f"{_shards(store.shards)} of {store.shard_rows:,} rows",
        f"  writer    {writer(store) or 'none'}",
        *(f"  {key:<18}{value}" for key, value in store.provenance.items()),
        *(f"  run       {line}" for line in _runs(store)),
    ]
    return [one_line(line) for line in lines]


def _shards(count: int) -> str:
    return "1 shard" if count == 1 else f"{count:,} shards"


def _runs(store: EmbeddingStore) -> list[str]:
    """Describe the runs that wrote to a store, oldest first."""
    from stores.runs import read_runs

    lines = []
    for run in read_runs(store):
        embedded, seconds = run.get("embedded", 0), run.get("embedding_seconds", 0)
        rate = f", {embedded / seconds:,.1f} records/s" if embedded and seconds else ""
        user = f" by {run['by']}" if "by" in run else ""
        interrupted = ", interrupted" if run.get("finished") is False else ""
        lines.append(
            f"{run.get('started', 'unknown time')}{user}: {embedded:,} embedded, "
            f"{run.get('rows_failed', 0):,} failed on {run.get('device', 'unknown device')}"
            f"{rate}{interrupted}"
        )
    return lines


def failed_records(store: EmbeddingStore) -> list[str]:
    """List the failed records, one per line: id and reason, separated by a tab."""
    from flows.failed_records import failed_rows

    return [f"  failed    {record}\t{reason}" for record, reason in failed_rows(store)]


def verification(result: Verification) -> list[str]:
    """Describe the state of a store and each finding."""
    lost = sum(finding.rows for finding in result.findings)
    state = "intact" if result.intact else "damaged"
    if result.repaired and result.findings:
        state = "repaired" if result.intact else "damaged, not repairable"
    lines = [
        f"{result.location}: {state}, {result.whole:,} of {result.rows:,} rows complete in "
        f"{_shards(result.shards)}",
        *(f"  {finding}" for finding in result.findings),
    ]
    if lost:
        lines.append(
            f"  Set {lost:,} lost rows to absent; the next extraction computes them."
            if result.repaired
            else f"  {lost:,} rows are lost; --repair sets them to absent."
        )
    return lines


def recomputation(result: RecomputeResult) -> list[str]:
    """Describe the comparison of recomputed rows with the stored ones."""
    return [
        f"  {result.rows:,} rows recomputed: {result.equal:,} equal, {result.close:,} within the "
        f"tolerance, {len(result.different):,} different",
        *(f"  {difference}" for difference in result.different),
    ]
