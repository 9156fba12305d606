"""Stores from one root to another: joined by record id, resumable, each shard compared.

A copy writes what the source has whole and the target has not, so a copy that broke off goes on
by being begun again, and two roots that have different rows of one store complete each other.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8

from stores.creation import create_or_grow
from stores.embeddings import EmbeddingStore
from stores.errors import DamagedStore, StoreError, translate_errors
from stores.layout import dataset_name, leases_folder, runs_folder, store_location
from stores.lease import Lease, acquire
from stores.location import Location
from stores.opening import ResolvedUrl, find_stores
from stores.status import ABSENT, FIRST_REASON, WHOLE
from stores.verify import Progress


@dataclass(frozen=True)
class CopyResult:
    """What was copied into a store: rows written now, and those that were there before.

    `damaged`: what of the source could not be read, a sentence each; those rows were left out.
    """

    location: Location
    whole: int
    failed: int
    already_present: int
    damaged: tuple[str, ...] = ()


def select_stores(
    source: ResolvedUrl,
    *,
    reference: str,
    datasets: Sequence[str] = (),
    experts: Sequence[str] = (),
) -> tuple[EmbeddingStore, ...]:
    """The stores to be copied, the reference expert of each data set first.

    Args:
        source: A root or a single store.
        reference: Expert whose stores are copied first and along with any other of their data set.
        datasets: Namespaces to copy, all by default.
        experts: Experts to copy, all by default.

    Returns:
        The stores, those of `reference` first.

    Raises:
        StoreError: No store is selected.
    """
    beside = find_stores(source.root) if source.is_single_store else source.found

    def asked(location: Location) -> bool:
        return (not datasets or dataset_name(location) in datasets) and (
            not experts or location.parent.name in experts
        )

    chosen = [one for one in source.found.stores if asked(one.location)]
    if not chosen:
        for wrong in source.found.errors:
            raise wrong
        there = sorted(
            f"{dataset_name(one.location)} {one.location.parent.name}"
            for one in source.found.stores
        )
        raise StoreError(
            f"Nothing in {source.root} was asked for: it has {', '.join(there) or 'no store'}; "
            "name others by --experts and --dataset-name."
        )
    served = {dataset_name(one.location) for one in chosen}
    references = [
        one
        for one in beside.stores
        if one.location.parent.name == reference and dataset_name(one.location) in served
    ]
    others = [one for one in chosen if one.location.parent.name != reference]
    return (*references, *others)


def copy_stores(
    stores: Sequence[EmbeddingStore],
    target: Location,
    *,
    reference: str,
    log: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Iterator[CopyResult]:
    """Copy stores into a root, one after the other; memory holds a shard or two.

    Readers of neither side wait. `progress` counts the rows that the sources have, over all. A
    source too damaged to tell its rows is left out, and said to be so.
    Raises LeaseHeld where somebody else writes to a target, StoreError where source and target
    are the same or a root refuses.
    """
    has: list[int] = []
    readable = []
    for store in stores:
        try:
            has.append(int((store.status() != ABSENT).sum()))
            readable.append(store)
        except DamagedStore as error:
            yield CopyResult(store_location(target, store.provenance), 0, 0, 0, (str(error),))
    before = 0
    for store, rows in zip(readable, has, strict=True):

        def report(done: int, _: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, sum(has))

        yield copy_store(store, target, reference=reference, log=log, progress=report)
        before += rows


def copy_store(
    source: EmbeddingStore,
    target: Location,
    *,
    reference: str,
    log: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> CopyResult:
    """Copy one store into a root, under the target's lease; see `copy`."""
    location = store_location(target, source.provenance)
    if str(location) == str(source.location):
        raise StoreError(f"{location} is both source and target; name another root to copy to.")
    with acquire(leases_folder(location), log=log) as lease:
        # Only now: the target may have been grown while its lease was waited for.
        made = _made(source, target, location, lease, reference)
        copied = _fill(made, source, progress)
        _copy_runs(source, made)
    return copied


def _made(
    source: EmbeddingStore,
    target: Location,
    location: Location,
    lease: Lease,
    reference: str,
) -> EmbeddingStore:
    """The target's store, with a row for each of the source's records.

    All stores of a data set in a root have the same records in the same rows and shards, so the
    target's stores of `reference` define the rows.
    """
    there = find_stores(target, source.provenance["dataset"]).stores
    references = [one for one in there if one.location.parent.name == reference]
    record_id, shard_rows = source.record_id, source.shard_rows
    if references:
        # Those of the same dtype first: an extraction goes by them.
        first = min(
            references, key=lambda one: one.provenance["dtype"] != source.provenance["dtype"]
        )
        new = record_id[first.rows_by_id(record_id) < 0]
        record_id = np.concatenate([first.record_id, new])
        shard_rows = first.shard_rows
    return create_or_grow(
        location,
        source.provenance,
        lease.ticket,
        record_id=record_id,
        features=source.features,
        dtype=str(source.array("embedding").dtype),
        reasons=source.flags[FIRST_REASON:],
        shard_rows=shard_rows,
    )


def _fill(target: EmbeddingStore, source: EmbeddingStore, progress: Progress | None) -> CopyResult:
    """Write what the source has and the target has not, shard by shard of the target."""
    # One more row, absent: the place of the records that the source does not know (-1).
    source_status = np.append(_in_flags_of(target, source), np.uint8(ABSENT))
    total = int((source_status != ABSENT).sum())
    whole = failed = already_present = done = 0
    damaged: list[str] = []
    for shard in range(target.shards):
        rows = source.rows_by_id(target.record_id[target.shard_slice(shard)])
        theirs = source_status[rows]
        if not (theirs != ABSENT).any():
            continue
        target.track_shard(shard)
        status = target.status(shard)
        take = (theirs == WHOLE) & (status != WHOLE)
        note = (theirs >= FIRST_REASON) & (status == ABSENT)
        if take.any() or note.any():
            embedding = target.read_shard(shard)
            try:
                embedding[take] = source.read(rows[take])
            except DamagedStore as error:
                damaged.append(str(error))
            else:
                status = np.where(take | note, theirs, status)
                _write(target, shard, embedding, status)
                whole += int(take.sum())
                failed += int(note.sum())
        already_present += int(((theirs != ABSENT) & ~take & ~note).sum())
        done += int((theirs != ABSENT).sum())
        if progress is not None:
            progress(done, total)
    return CopyResult(target.location, whole, failed, already_present, tuple(damaged))


def _in_flags_of(target: EmbeddingStore, source: EmbeddingStore) -> UInt8[np.ndarray, " record"]:
    """The source's status in the target's numbers; a reason that it has no word for: absent."""
    number = {word: value for value, word in enumerate(target.flags)}
    known: Int[np.ndarray, " flag"] = np.array([number.get(word, ABSENT) for word in source.flags])
    translated = np.zeros(256, np.uint8)
    translated[: len(known)] = known
    status: np.ndarray = translated[source.status()]
    return status


def _write(
    target: EmbeddingStore, shard: int, embedding: np.ndarray, status: UInt8[np.ndarray, " row"]
) -> None:
    """Write a shard, read it back and compare. Raises StoreError where it came back otherwise."""
    target.write_shard(shard, embedding, status)
    same = np.array_equal(target.read_shard(shard), embedding, equal_nan=True)
    if not same or not np.array_equal(target.status(shard), status):
        raise StoreError(
            f"Shard {shard} of {target.location} came back otherwise than it was written; see to "
            "the disk or the network, and run the same command again."
        )


def _copy_runs(source: EmbeddingStore, target: EmbeddingStore) -> None:
    """Bring the run objects along; those that are there already stay as they are."""
    with translate_errors(target.location):
        for file in runs_folder(source.location).files():
            if (run := file.read()) is not None and file.name.endswith(".json"):
                there = runs_folder(target.location) / file.name
                there.root.create(there.key, run)
