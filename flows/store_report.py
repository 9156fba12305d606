"""What `enecg store` prints: holders, runs, failures and findings in lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.extraction.recompute import RecomputeResult
    from stores.embeddings import EmbeddingStore
    from stores.location import Location
    from stores.verify import Verification


def short(store: EmbeddingStore) -> str:
    """A store as a progress bar names it."""
    from stores.layout import dataset_name

    return f"{dataset_name(store.location)} {store.location.parent.name}"


def writer(location: Location) -> str | None:
    """Who has a store's lease, and whether they are known to be dead."""
    from stores.lease import read_holder

    holder = read_holder(location)
    return None if holder is None else str(holder)


def runs(store: EmbeddingStore) -> list[str]:
    """The runs of a store in lines, oldest first."""
    from stores.runs import read_runs

    told = []
    for run in read_runs(store):
        embedded, seconds = run.get("embedded", 0), run.get("embedding_seconds", 0)
        rate = f", {embedded / seconds:,.1f} records/s" if embedded and seconds else ""
        by = f" by {run['by']}" if "by" in run else ""
        stopped = ", stopped before its end" if run.get("finished") is False else ""
        told.append(
            f"{run.get('started', 'at an unknown time')}{by}: {embedded:,} embedded, "
            f"{run.get('rows_failed', 0):,} failed on {run.get('device', 'an unknown device')}"
            f"{rate}{stopped}"
        )
    return told


def failures(store: EmbeddingStore) -> list[str]:
    """Every record that could not be had, and why: a line each, a tab between."""
    from stores.status import FIRST_REASON

    flags = dict(enumerate(store.flags))
    rows = zip(store.record_id.tolist(), store.status().tolist(), strict=True)
    return [
        f"  failed    {record}\t{flags.get(value, f'status_{value}')}"
        for record, value in rows
        if value >= FIRST_REASON
    ]


def verified(result: Verification) -> list[str]:
    """What verifying came to, in lines."""
    lost = sum(one.rows for one in result.findings)
    state = "sound" if result.intact else "damaged"
    if result.repaired and result.findings:
        state = "mended" if result.intact else "damaged, and cannot be mended"
    lines = [
        f"{result.location}: {state}, {result.whole:,} of {result.rows:,} rows whole in "
        f"{result.shards:,} shards"
    ]
    lines += [f"  {finding}" for finding in result.findings]
    if lost:
        lines.append(
            f"  {lost:,} rows were set back to absent; the next extraction computes them again."
            if result.repaired
            else f"  {lost:,} rows are lost; --mend sets them back to absent."
        )
    return lines


def recomputed(again: RecomputeResult) -> list[str]:
    """What computing again came to, in lines."""
    return [
        f"  {again.rows:,} rows computed again: {again.equal:,} equal to the last bit, "
        f"{again.close:,} within one unit of float16, {len(again.different):,} different",
        *(f"  {sentence}" for sentence in again.different),
    ]
