"""Is a store as it was written? Every shard is read; what is damaged can be set back to absent.

A row is lost only where its own chunk is: the sound chunks of a damaged shard keep theirs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from stores.embeddings import ATTEMPTS, EmbeddingStore
from stores.errors import DamagedStore, StoreError, VersionConflict, translate_errors
from stores.layout import leases_folder
from stores.lease import acquire
from stores.location import Location
from stores.opening import open_store
from stores.record_ids import as_ids, is_unwritten
from stores.status import ABSENT, FIRST_REASON, WHOLE

Progress = Callable[[int, int], None]
"""Called as progress(rows done, rows in all)."""


@dataclass(frozen=True)
class Finding:
    """What is not as it should be, in words.

    - `shard`: the one that it is about, or None for the store as a whole.
    - `rows`: whole rows that were lost by it.
    - `harmless`: what a stopped writer leaves; no reader sees it, the next extraction sees to it.
    - `repairable`: whether repair sets it right.
    """

    shard: int | None
    what: str
    rows: int = 0
    harmless: bool = False
    repairable: bool = True

    def __str__(self) -> str:
        return self.what if self.shard is None else f"shard {self.shard}: {self.what}"


@dataclass(frozen=True)
class Verification:
    """What reading a whole store came to; `whole` counts the rows that are sound.

    `repaired`: whether what was found has been set right, where it is repairable.
    """

    location: Location
    rows: int
    shards: int
    whole: int
    findings: tuple[Finding, ...]
    repaired: bool = False

    @property
    def intact(self) -> bool:
        """Whether nothing is wrong, or nothing any more."""
        return all(one.harmless or (self.repaired and one.repairable) for one in self.findings)


def repair_store(
    location: Location,
    *,
    log: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Verify a store under its lease, and set its damaged rows back to absent.

    Raises LeaseHeld where somebody else writes to it, StoreError where it may not be written.
    """
    with acquire(leases_folder(location), log=log) as lease:
        return verify(open_store(location, lease.ticket), repair=True, progress=progress)


def verify(
    store: EmbeddingStore, *, repair: bool = False, progress: Progress | None = None
) -> Verification:
    """Read all of a store. Memory holds one shard.

    A store that is written to meanwhile gives no false alarm: a status is read before the data
    that it speaks of, which was written before it. `repair` needs a store open for writing.
    """
    if repair and store.ticket is None:
        raise ValueError(f"{store.location} is open for reading only.")
    findings = _of_the_ids(store)
    if store.ticket is None and any(not finding.repairable for finding in findings):
        # It may have been opened, or its ids read, while it grew: then it is whole by now.
        store = open_store(store.location)
        findings = _of_the_ids(store)
    if any(not finding.repairable for finding in findings):
        return Verification(store.location, 0, 0, 0, tuple(findings))
    rows, whole = len(store.record_id), 0
    for shard in range(store.shards):
        seen = _verify_and_repair(store, shard) if repair else _look_at(store, shard)
        findings += seen.findings
        whole += int((seen.right_status == WHOLE).sum())
        if progress is not None:
            progress(store.shard_slice(shard).stop, rows)
    return Verification(store.location, rows, store.shards, whole, tuple(findings), repair)


def _of_the_ids(store: EmbeddingStore) -> list[Finding]:
    """What is wrong with the record ids, and with the arrays' lengths."""

    def lost(what: str) -> Finding:
        remedy = "copy the store from another root, or remove its folder and extract again"
        return Finding(None, f"{what}; the ids cannot be had back: {remedy}", repairable=False)

    try:
        known = len(store.record_id)
    except DamagedStore:
        return [lost("record_id does not match its checksum")]
    if known != len(np.unique(store.record_id)):
        return [lost(f"{known - len(np.unique(store.record_id))} record ids are there twice")]
    with translate_errors(store.location):
        beyond = as_ids(store.array("record_id")[known:])
        try:
            unnamed: np.ndarray = store.array("status")[known:]  # type: ignore[assignment]
        except ValueError:
            # Its chunk begins before the last id, so it is found with the shards too.
            unnamed = np.empty(0)
    # Of a growth that broke off, ids are left that follow a hole, and rows without any: all absent.
    if count := int((unnamed != ABSENT).sum()):
        if not is_unwritten(beyond).all():
            return [lost(f"record_id has a hole at row {known}, and ids after it")]
        return [lost(f"{count} rows hold embeddings and have no id")]
    longest = max(store.array(name).shape[0] for name in ("embedding", "status", "record_id"))
    if longest > known:
        what = f"{longest - known} rows were being added; the next extraction goes on there"
        return [Finding(None, what, harmless=True)]
    return []


@dataclass(frozen=True)
class _Seen:
    """A shard: what was found, and what it should hold."""

    findings: list[Finding]
    right_embedding: Float[np.ndarray, "row feature"]
    right_status: UInt8[np.ndarray, " row"]


def _look_at(store: EmbeddingStore, shard: int) -> _Seen:
    status, status_broken = _status(store, shard)
    embedding, broken = _embedding(store, shard)
    finite = np.isfinite(embedding).all(1)
    unknown = status >= len(store.flags)
    lost = (status == WHOLE) & ~finite
    untold = finite & (status != WHOLE)
    scraps = ~finite & ~np.isnan(embedding).all(1) & (status != WHOLE)

    findings: list[Finding] = []

    def found(rows: Bool[np.ndarray, " row"] | Int[np.ndarray, ""], what: str, **how: bool) -> None:
        if count := int(np.sum(rows)):
            told = what.format(count=f"{count:,} row{'s' if count > 1 else ''}")
            findings.append(Finding(shard, told, int((rows & lost).sum()), **how))

    if status_broken:
        findings.append(Finding(shard, "its status does not match its checksum"))
        untold = np.zeros_like(untold)
    found(broken, "{count} in chunks that do not match their checksum")
    if _is_there(store, shard):
        found(lost & ~broken, "{count} not finite that should be whole")
    else:
        found(lost & ~broken, "its file is not there, and {count} should be whole")
    found(unknown, "{count} with a status that the flags do not know")
    found(scraps, "{count} not whole that hold numbers")
    found(
        untold & ~unknown,
        "{count} there and not called whole yet, as by a writer that was stopped or is at work",
        harmless=True,
    )
    # Data goes before status, so a finite row is whole whatever its status says.
    failed = (status >= FIRST_REASON) & ~unknown
    right = np.where(failed, status, np.uint8(ABSENT))
    right[finite] = WHOLE
    holes = np.full_like(embedding, np.nan)
    return _Seen(findings, np.where(finite[:, None], embedding, holes), right)


def _status(store: EmbeddingStore, shard: int) -> tuple[UInt8[np.ndarray, " row"], bool]:
    """The status of a shard's rows, all absent where its chunk is damaged, and whether it is."""
    try:
        return store.status(shard), False
    except DamagedStore:
        span = store.shard_slice(shard)
        return np.full(span.stop - span.start, ABSENT, np.uint8), True


def _embedding(
    store: EmbeddingStore, shard: int
) -> tuple[Float[np.ndarray, "row feature"], Bool[np.ndarray, " row"]]:
    """A shard's rows, NaN where their chunk is damaged, and which these are."""
    span = store.shard_slice(shard)
    count = span.stop - span.start
    try:
        return store.read_shard(shard), np.zeros(count, bool)
    except DamagedStore:
        embedding = np.full((count, store.features), np.nan, store.layout.dtype)
        broken = np.zeros(count, bool)
        for first in range(0, count, store.layout.chunk_rows):
            part = slice(first, min(first + store.layout.chunk_rows, count))
            try:
                embedding[part] = store.read_shard(shard, part)
            except DamagedStore:
                broken[part] = True
        return embedding, broken


def _is_there(store: EmbeddingStore, shard: int) -> bool:
    folder, _, name = store.shard_key("embedding", shard).rpartition("/")
    with translate_errors(store.location):
        return name in store.location.root.children(folder)[1]


def _verify_and_repair(store: EmbeddingStore, shard: int) -> _Seen:
    """Set a shard right, and tell what was found in it."""
    for _ in range(ATTEMPTS):
        store.track_shard(shard)
        seen = _look_at(store, shard)
        if not seen.findings or _repair_shard(store, shard, seen):
            return seen
    raise StoreError(
        f"Shard {shard} of {store.location} is changed by another writer again and again; find out "
        "who writes there (`enecg store show`), and run the same command again."
    )


def _repair_shard(store: EmbeddingStore, shard: int, seen: _Seen) -> bool:
    """Write what a shard should hold: its status first, so that no lost row is called whole.

    False where a stale writer changed it since it was looked at.
    """
    assert store.ticket is not None
    with translate_errors(store.location):
        store.ticket.check()
        try:
            store.put_status(shard, seen.right_status)
            store.put_data(shard, seen.right_embedding)
        except VersionConflict:
            return False
    if _look_at(store, shard).findings:
        raise StoreError(
            f"Shard {shard} of {store.location} was written anew and came back damaged; see to "
            "the disk or the network, and run the same command again."
        )
    return True
