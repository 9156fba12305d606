"""Copy stores from one root to another, matching rows by record id.

A copy writes the rows that have an embedding (status `WHOLE`) in the source but not in the target,
failure reasons of rows that are absent in the target, and run records. It reads each written shard
back and compares it with the data in memory. An interrupted copy resumes when it is run again. Two
roots that contain different rows of a store can be synchronized by copying in both directions.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8

from stores.creation import check_ids, create_or_grow
from stores.embeddings import EmbeddingStore
from stores.errors import DamagedStore, StoreError, UnsafeFile
from stores.layout import dataset_name, leases_folder, store_location
from stores.lease import Lease, acquire
from stores.location import Location
from stores.opening import ResolvedUrl, open_stores
from stores.runs import copy_runs
from stores.status import ABSENT, FIRST_REASON, WHOLE
from stores.verify import Progress


@dataclass(frozen=True)
class CopyResult:
    """The result of copying one store.

    Attributes:
        location: The target store.
        whole: Number of rows whose embedding was written.
        failed: Number of failed rows of the source for which the reason was written.
        already_present: Number of whole or failed rows of the source that the target contained.
        damaged: One message for each shard or store that was skipped because it is damaged or
            unsafe.
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
    """Select the stores to copy.

    Args:
        source: The stores to choose from.
        reference: Name of the expert whose stores are always copied for every selected data set,
            whether or not `experts` contains it.
        datasets: Names and versions of data sets, such as ``ludb/1.0.1``; empty selects all.
        experts: Names of experts; empty selects all.

    Returns:
        The stores of `reference` in each selected data set, then the other selected stores.

    Raises:
        StoreError: No store is selected. If stores cannot be opened, the first error is raised.
    """

    def is_selected(location: Location) -> bool:
        return (not datasets or dataset_name(location) in datasets) and (
            not experts or location.parent.name in experts
        )

    selected = [store for store in source.found.stores if is_selected(store.location)]
    if not selected:
        for error in source.found.errors:
            raise error
        available = sorted(
            f"{dataset_name(store.location)} {store.location.parent.name}"
            for store in source.found.stores
        )
        raise StoreError(
            f"No store in {source.root} matches --experts and --dataset-name; available are "
            f"{', '.join(available) or 'none'}."
        )
    names = {dataset_name(store.location) for store in selected}
    candidates = open_stores(source.root) if source.is_single_store else source.found
    references = [
        store
        for store in candidates.stores
        if store.location.parent.name == reference and dataset_name(store.location) in names
    ]
    others = [store for store in selected if store.location.parent.name != reference]
    return (*references, *others)


def copy_stores(
    stores: Sequence[EmbeddingStore],
    target: Location,
    *,
    reference: str,
    log: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Iterator[CopyResult]:
    """Copy stores into a root, one after the other.

    Source and target remain readable during the copy. Only a few shards are in memory at a time.

    Args:
        stores: The stores to copy.
        target: The target root.
        reference: Name of an expert. A new store has the same records in the same rows as the
            target's store of this expert.
        log: Called with a message while waiting for a lease (`lease.acquire`).
        progress: Called with the number of processed rows and the total, both over all stores.

    Yields:
        One result per store. If a copy stops because the store or its target is damaged or unsafe,
        all row counts are 0, even if rows were written, and `damaged` contains the message.

    Raises:
        LeaseHeld: Another process writes to a target store.
        StoreError: Source and target are the same store, or a root cannot be read or written.
    """
    totals: list[int] = []
    readable = []
    for store in stores:
        try:
            totals.append(int((store.status() != ABSENT).sum()))
            readable.append(store)
        except DamagedStore as error:
            yield CopyResult(store_location(target, store.provenance), 0, 0, 0, (str(error),))
    done_before = 0
    for store, rows in zip(readable, totals, strict=True):

        def report(done: int, _: int, done_before: int = done_before) -> None:
            if progress is not None:
                progress(done_before + done, sum(totals))

        try:
            yield copy_store(store, target, reference=reference, log=log, progress=report)
        except (DamagedStore, UnsafeFile) as error:
            yield CopyResult(store_location(target, store.provenance), 0, 0, 0, (str(error),))
        done_before += rows


def copy_store(
    source: EmbeddingStore,
    target: Location,
    *,
    reference: str,
    log: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> CopyResult:
    """Copy one store into a root, under the target's lease.

    Args:
        source: The store to copy.
        target: The target root.
        reference: As for `copy_stores`.
        log: As for `copy_stores`.
        progress: Called with the number of processed rows and the total, both of this store.

    Returns:
        The result of the copy.

    Raises:
        LeaseHeld: Another process writes to the target store.
        StoreError: Source and target are the same store, or one of them is damaged or inaccessible.
    """
    location = store_location(target, source.provenance)
    if str(location) == str(source.location):
        raise StoreError(f"{location} is both source and target; pass another target root.")
    with acquire(leases_folder(location), log=log) as lease:
        # Open the target only now, because it may have grown during the wait for the lease.
        target_store = _open_target(source, target, location, lease, reference)
        result = _copy_rows(target_store, source, progress)
        copy_runs(source, target_store)
    return result


def _open_target(
    source: EmbeddingStore,
    target: Location,
    location: Location,
    lease: Lease,
    reference: str,
) -> EmbeddingStore:
    """Open the target store; create it, or append rows for records of the source, if necessary."""
    # Within a root, all stores of a data set have the same records in the same rows and shards. The
    # target's stores of the `reference` expert define this layout.
    existing = open_stores(target, source.provenance["dataset"]).stores
    references = [store for store in existing if store.location.parent.name == reference]
    record_id, shard_rows = source.record_id, source.shard_rows
    if references:
        # Like an extraction, prefer a reference store with the same dtype.
        dtype = source.provenance["dtype"]
        first = min(references, key=lambda store: store.provenance["dtype"] != dtype)
        new = record_id[first.rows_by_id(record_id) < 0]
        record_id = np.concatenate([first.record_id, new])
        shard_rows = first.shard_rows
    check_ids(record_id, source.location)
    return create_or_grow(
        location,
        source.provenance,
        lease.ticket,
        record_id=record_id,
        features=source.features,
        dtype=str(source.array("embedding").dtype),
        reasons=source.flags[FIRST_REASON:],
        shard_rows=shard_rows,
        feature_names=source.feature_names,
    )


def _copy_rows(
    target: EmbeddingStore, source: EmbeddingStore, progress: Progress | None
) -> CopyResult:
    """Copy embeddings and reasons that are missing in the target, one shard at a time."""
    # `rows_by_id` returns -1 for a record that is not in the source. This index selects the
    # appended element, so the record counts as absent.
    source_status = np.append(_translate_status(target, source), np.uint8(ABSENT))
    total = int((source_status != ABSENT).sum())
    whole = failed = already_present = done = 0
    damaged: list[str] = []
    for shard in range(target.shards):
        rows = source.rows_by_id(target.record_id[target.shard_slice(shard)])
        new_status = source_status[rows]
        if not (new_status != ABSENT).any():
            continue
        target.track_shard(shard)
        try:
            status = target.status(shard)
            copy_data = (new_status == WHOLE) & (status != WHOLE)
            copy_reason = (new_status >= FIRST_REASON) & (status == ABSENT)
            already_present += int(((new_status != ABSENT) & ~copy_data & ~copy_reason).sum())
            if copy_data.any() or copy_reason.any():
                embedding = target.read_shard(shard)
                embedding[copy_data] = source.read(rows[copy_data])
                status = np.where(copy_data | copy_reason, new_status, status)
                _write_and_compare(target, shard, embedding, status)
                whole += int(copy_data.sum())
                failed += int(copy_reason.sum())
        except (DamagedStore, UnsafeFile) as error:
            damaged.append(str(error))
        done += int((new_status != ABSENT).sum())
        if progress is not None:
            progress(done, total)
    return CopyResult(target.location, whole, failed, already_present, tuple(damaged))


def _translate_status(target: EmbeddingStore, source: EmbeddingStore) -> UInt8[np.ndarray, " row"]:
    """Return the source's status in the target's flags; reasons without a flag become absent."""
    value_by_flag = {flag: value for value, flag in enumerate(target.flags)}
    translated: Int[np.ndarray, " flag"] = np.array(
        [value_by_flag.get(flag, ABSENT) for flag in source.flags]
    )
    table = np.zeros(256, np.uint8)
    table[: len(translated)] = translated
    status: np.ndarray = table[source.status()]
    return status


def _write_and_compare(
    target: EmbeddingStore, shard: int, embedding: np.ndarray, status: UInt8[np.ndarray, " row"]
) -> None:
    target.write_shard(shard, embedding, status)
    equal = np.array_equal(target.read_shard(shard), embedding, equal_nan=True)
    if not equal or not np.array_equal(target.status(shard), status):
        raise StoreError(
            f"Shard {shard} of {target.location} differs from what was written; check the disk or "
            "the network, and run the same command again."
        )
