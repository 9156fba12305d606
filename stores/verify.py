"""Verification and repair of stores.

Verification reads every shard. Repair marks damaged rows as absent, so that the next extraction
computes them again, and rows with an intact embedding as whole.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from stores.embeddings import ARRAYS, ATTEMPTS, EmbeddingStore
from stores.errors import DamagedStore, StoreError, VersionConflict, translate_errors
from stores.layout import leases_folder
from stores.lease import acquire
from stores.location import Location
from stores.opening import open_store
from stores.record_ids import as_ids, is_unwritten
from stores.status import ABSENT, FIRST_REASON, WHOLE

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)`` with numbers of rows."""


@dataclass(frozen=True)
class Finding:
    """Damage or an incomplete write that verification has found in a store.

    Attributes:
        shard: Number of the shard, or None if the finding concerns the store.
        message: Description of the finding.
        rows: Number of rows with status whole whose embedding is lost.
        harmless: Whether the finding is only an incomplete write of an interrupted or running
            process. It does not affect readers, and the next extraction completes it.
        repairable: Whether `repair_store` can repair it, or it needs no repair.
    """

    shard: int | None
    message: str
    rows: int = 0
    harmless: bool = False
    repairable: bool = True

    def __str__(self) -> str:
        return self.message if self.shard is None else f"shard {self.shard}: {self.message}"


@dataclass(frozen=True)
class Verification:
    """The result of verifying a store.

    Attributes:
        location: The store.
        rows: Total number of rows; 0 if the record ids are damaged, because no shard is verified
            in this case.
        shards: Number of verified shards.
        whole: Number of rows with an intact embedding, including rows that are not yet marked as
            whole.
        findings: All findings.
        repaired: Whether the repairable findings were repaired.
    """

    location: Location
    rows: int
    shards: int
    whole: int
    findings: tuple[Finding, ...]
    repaired: bool = False

    @property
    def intact(self) -> bool:
        """Whether the store has no damage, or all damage was repaired."""
        return all(
            finding.harmless or (self.repaired and finding.repairable) for finding in self.findings
        )


def repair_store(
    location: Location,
    *,
    log: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Acquire a store's lease, verify the store, and mark damaged rows as absent.

    Args:
        location: The store.
        log: Called with a message while waiting for a lease (`lease.acquire`).
        progress: Called after each shard with the number of verified rows and the total.

    Returns:
        The verification, with the findings before the repair.

    Raises:
        LeaseHeld: Another process writes to the store.
        StoreError: The store cannot be opened, read or written.
    """
    with acquire(leases_folder(location), log=log) as lease:
        return verify(open_store(location, lease.ticket), repair=True, progress=progress)


def verify(
    store: EmbeddingStore, *, repair: bool = False, progress: Progress | None = None
) -> Verification:
    """Verify a store, reading one shard at a time.

    A concurrent writer causes only harmless findings: writers write data before its status, and
    this function reads the status before the data.

    Args:
        store: The store; must be open for writing if `repair` is True.
        repair: Whether to repair damaged shards.
        progress: Called after each shard with the number of verified rows and the total.

    Returns:
        The verification, with the findings before any repair.

    Raises:
        StoreError: The store cannot be read or written.
        ValueError: `repair` is True, and the store is open for reading only.
    """
    if repair and store.ticket is None:
        raise ValueError(f"{store.location} is open for reading only.")
    findings = _check_record_ids(store)
    if store.ticket is None and any(not finding.repairable for finding in findings):
        # The store may have grown while it was opened, so open and check it again.
        store = open_store(store.location)
        findings = _check_record_ids(store)
    if any(not finding.repairable for finding in findings):
        return Verification(store.location, 0, 0, 0, tuple(findings))
    rows, whole = len(store.record_id), 0
    for shard in range(store.shards):
        check = _check_and_repair(store, shard) if repair else _check_shard(store, shard)
        findings += check.findings
        whole += int((check.status == WHOLE).sum())
        if progress is not None:
            progress(store.shard_slice(shard).stop, rows)
    return Verification(store.location, rows, store.shards, whole, tuple(findings), repair)


def _check_record_ids(store: EmbeddingStore) -> list[Finding]:
    """Check the record ids and the lengths of the arrays."""

    def unrepairable(problem: str) -> list[Finding]:
        remedy = "copy the store from another root, or remove its folder and extract again"
        message = f"{problem}; record ids cannot be repaired: {remedy}"
        return [Finding(None, message, repairable=False)]

    try:
        ids = np.sort(store.record_id)
    except DamagedStore:
        return unrepairable("record_id does not match its checksum")
    rows = len(ids)
    if duplicates := int((ids[1:] == ids[:-1]).sum()):
        return unrepairable(f"{duplicates:,} record ids are duplicates")
    with translate_errors(store.location):
        ids_beyond = as_ids(store.array("record_id")[rows:])
        try:
            status_beyond: np.ndarray = store.array("status")[rows:]  # type: ignore[assignment]
        except ValueError:
            # If the damaged chunk also contains rows with ids, the check of its shard reports it.
            status_beyond = np.empty(0)
    # After an interrupted growth, rows without an id and ids after a gap are expected, but all of
    # these rows are absent.
    if count := int((status_beyond != ABSENT).sum()):
        if not is_unwritten(ids_beyond).all():
            return unrepairable(f"record_id has a gap at row {rows:,}, followed by more ids")
        return unrepairable(f"{count:,} rows contain embeddings but have no record id")
    longest = max(store.array(name).shape[0] for name in ARRAYS)
    if longest > rows:
        message = f"adding {longest - rows:,} rows is incomplete; the next extraction completes it"
        return [Finding(None, message, harmless=True)]
    return []


@dataclass(frozen=True)
class _ShardCheck:
    """The findings in a shard, and the contents that repair would write."""

    findings: list[Finding]
    embedding: Float[np.ndarray, "row feature"]
    status: UInt8[np.ndarray, " row"]


def _check_shard(store: EmbeddingStore, shard: int) -> _ShardCheck:
    # Read the status first; see `verify`.
    status, is_status_damaged = _read_status(store, shard)
    embedding, is_damaged = _read_embedding(store, shard)
    is_finite = np.isfinite(embedding).all(1)
    is_unknown = status >= len(store.flags)
    is_lost = (status == WHOLE) & ~is_finite
    is_unmarked = is_finite & (status != WHOLE) & ~is_unknown
    is_partial = ~is_finite & ~np.isnan(embedding).all(1) & (status != WHOLE)

    findings: list[Finding] = []

    def add(
        rows: Bool[np.ndarray, " row"] | Int[np.ndarray, ""], text: str, *, harmless: bool = False
    ) -> None:
        if count := int(np.sum(rows)):
            message = text.format(rows=f"{count:,} row{'s' if count > 1 else ''}")
            lost = int((rows & is_lost).sum())
            findings.append(Finding(shard, message, lost, harmless=harmless))

    if is_status_damaged:
        findings.append(Finding(shard, "status does not match its checksum"))
        is_unmarked = np.zeros_like(is_unmarked)
    add(is_damaged, "{rows} in chunks that do not match their checksum")
    if _exists(store, shard):
        add(is_lost & ~is_damaged, "{rows} with status whole but with NaN or infinity")
    else:
        add(is_lost & ~is_damaged, "the file of {rows} with status whole is missing")
    add(is_unknown, "{rows} with an undefined status")
    add(is_partial, "{rows} with partial data whose status is not whole")
    add(
        is_unmarked,
        "{rows} with an embedding, not yet marked as whole by an interrupted or running writer",
        harmless=True,
    )
    # Data is written before its status, so a finite row is whole regardless of its status.
    failed = (status >= FIRST_REASON) & ~is_unknown
    repaired_status = np.where(failed, status, np.uint8(ABSENT))
    repaired_status[is_finite] = WHOLE
    absent = np.full_like(embedding, np.nan)
    repaired_embedding = np.where(is_finite[:, None], embedding, absent)
    return _ShardCheck(findings, repaired_embedding, repaired_status)


def _read_status(store: EmbeddingStore, shard: int) -> tuple[UInt8[np.ndarray, " row"], bool]:
    """Return the status of a shard's rows, all absent if damaged, and whether it is damaged."""
    try:
        return store.status(shard), False
    except DamagedStore:
        span = store.shard_slice(shard)
        return np.full(span.stop - span.start, ABSENT, np.uint8), True


def _read_embedding(
    store: EmbeddingStore, shard: int
) -> tuple[Float[np.ndarray, "row feature"], Bool[np.ndarray, " row"]]:
    """Return a shard's rows, NaN in damaged chunks, and a mask of the rows in these chunks."""
    span = store.shard_slice(shard)
    count = span.stop - span.start
    is_damaged = np.zeros(count, bool)
    try:
        return store.read_shard(shard), is_damaged
    except DamagedStore:
        embedding = np.full((count, store.features), np.nan, store.layout.dtype)
        for first in range(0, count, store.layout.chunk_rows):
            chunk = slice(first, min(first + store.layout.chunk_rows, count))
            try:
                embedding[chunk] = store.read_shard(shard, chunk)
            except DamagedStore:
                is_damaged[chunk] = True
        return embedding, is_damaged


def _exists(store: EmbeddingStore, shard: int) -> bool:
    folder, _, name = store.shard_key("embedding", shard).rpartition("/")
    with translate_errors(store.location):
        return name in store.location.root.children(folder)[1]


def _check_and_repair(store: EmbeddingStore, shard: int) -> _ShardCheck:
    """Check a shard, repair it, and return the check before the repair."""
    for _ in range(ATTEMPTS):
        store.track_shard(shard)
        check = _check_shard(store, shard)
        if not check.findings or _repair_shard(store, shard, check):
            return check
    raise store.conflict_error(shard)


def _repair_shard(store: EmbeddingStore, shard: int, check: _ShardCheck) -> bool:
    """Write the repaired contents; return False if another writer has changed the shard."""
    assert store.ticket is not None
    with translate_errors(store.location):
        store.ticket.check()
        try:
            # Write the status first, so that no lost row is marked as whole.
            store.put_status(shard, check.status)
            store.put_data(shard, check.embedding)
        except VersionConflict:
            return False
    if _check_shard(store, shard).findings:
        raise StoreError(
            f"Shard {shard} of {store.location} was rewritten, but is damaged again when read; "
            "check the disk or the network, and run the same command again."
        )
    return True
