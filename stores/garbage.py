"""What lies about in a store root and serves nobody: what broke off, was followed, or is orphaned.

Nothing of a holder that may be alive counts as garbage, nor does any row of a store.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from stores.errors import StoreError, translate_errors
from stores.layout import RESERVED_FOLDERS, dataset_folders, leases_folder, runs_folder
from stores.lease import LeaseHeld, Ticket, acquire, lease_number, read_holder
from stores.lease_record import LeaseRecord
from stores.local import CLEARED, PARTIAL, LocalRoot
from stores.location import Location
from stores.opening import open_store

STALE_SECONDS = 3600.0
"""A file on its way to its name takes seconds: one unchanged for so long was left behind."""


@dataclass(frozen=True)
class GarbageItem:
    """Something that may go: a folder with all in it, or a single file.

    `store`: the store that it belongs to. `leased`: whether it is removed under the store's lease,
    as all that the next holder would use.
    """

    location: Location
    is_folder: bool
    store: Location
    needs_lease: bool
    size_bytes: int
    reason: str


def find_garbage(root: Location) -> list[GarbageItem]:
    """All that may go below a root. Raises StoreError where the root cannot be read."""
    with translate_errors(root):
        return [one for store in _stores_ever(root) for one in (*_leased(store), *_beside(store))]


def remove_garbage(items: Sequence[GarbageItem]) -> Iterator[GarbageItem]:
    """Remove what is garbage still, and give each thing that is gone.

    What somebody has begun to use since it was listed stays.
    """
    for store in dict.fromkeys(one.store for one in items):
        mine = [one for one in items if one.store == store]
        if leased := [one for one in mine if one.needs_lease]:
            try:
                with acquire(leases_folder(store)) as lease, translate_errors(store):
                    still = {one.location for one in _leased(store, held=True)}
                    for one in leased:
                        if one.location in still:
                            yield _remove(one, lease.ticket)
            except LeaseHeld:
                continue
            if leases_folder(store) in still:
                with translate_errors(store):
                    _forget(lease.ticket)
        with translate_errors(store):
            still = {one.location for one in _beside(store)}
            for one in mine:
                if not one.needs_lease and one.location in still:
                    yield _remove(one)


def _stores_ever(root: Location) -> list[Location]:
    """Where a store, its leases or its runs lie, or lay."""
    found = []
    for dataset in dataset_folders(root):
        experts = [one for one in dataset.folders() if one.name not in RESERVED_FOLDERS]
        for kind in RESERVED_FOLDERS:
            experts += (dataset / kind).folders()
        keys = {(expert.name, identity.name) for expert in experts for identity in expert.folders()}
        found += [dataset / expert / identity for expert, identity in sorted(keys)]
    return found


def _leased(store: Location, *, held: bool = False) -> Iterator[GarbageItem]:
    """Garbage in the store itself, and all of one that is not there; `held`: by the caller."""
    if not held and _alive(read_holder(store)):
        return

    def item(location: Location, why: str, folder: bool = False) -> GarbageItem:
        return GarbageItem(location, folder, store, True, _bytes(location, folder), why)

    if not _is_there(store):
        if any(store.root.children(store.key)):
            yield item(store, "a store whose making broke off before its first row", folder=True)
        # The leases last: they are what the others are removed under.
        for kind, folder in (("runs", runs_folder(store)), ("leases", leases_folder(store))):
            if any(folder.root.children(folder.key)):
                yield item(folder, f"{kind} of a store that is not there", folder=True)
        return
    yield from (item(one, why) for one, why in _stale_partials(store, deep=True))
    try:
        opened = open_store(store)
    except StoreError:
        # Told by `ls` and `verify`; nothing in it is called garbage.
        return
    for name in ("embedding", "status", "record_id"):
        array = opened.array(name)
        length = (array.shards or array.chunks)[0]
        shards = -(-array.shape[0] // length)
        chunks = store / name / "c"
        for one in chunks.folders() if name == "embedding" else chunks.files():
            if one.name.isdecimal() and int(one.name) >= shards:
                why = f"a shard of {name} beyond its end, row {array.shape[0]:,}"
                yield item(one, why, folder=name == "embedding")


def _beside(store: Location) -> Iterator[GarbageItem]:
    """Garbage among the leases and runs of a store that is there, or is being made."""
    holder = read_holder(store)
    if not _is_there(store) and not _alive(holder):
        return
    for file, why in (*_stale_partials(runs_folder(store)), *_stale_partials(leases_folder(store))):
        yield GarbageItem(file, False, store, False, _bytes(file, False), why)
    folder = leases_folder(store)
    highest = max((lease_number(file) for file in folder.files()), default=0)
    for file in folder.files():
        if 0 < lease_number(file) < highest:
            why = "a lease that was followed by another"
            yield GarbageItem(file, False, store, False, _bytes(file, False), why)
    current = f"{highest:08d}-{holder.token}" if holder and _alive(holder) else ""
    for staging in folder.folders():
        number = lease_number(staging)
        # A number above the highest is somebody's who is about to take the lease.
        past = 0 < number <= highest or staging.name.endswith(CLEARED)
        unreadable = number == highest and _unreadable(folder, highest)
        if past and staging.name != current and not unreadable:
            why = "values set aside by a writer that no longer has the lease"
            yield GarbageItem(staging, True, store, False, _bytes(staging, True), why)


def _alive(holder: LeaseRecord | None) -> bool:
    """Whether a holder may be alive: a process of another machine is, for all that is known."""
    return holder is not None and not holder.known_inactive


def _unreadable(folder: Location, number: int) -> bool:
    """Whether a lease is there that nobody can read, as one that is being written."""
    return LeaseRecord.parse((folder / f"{number:08d}.json").read()) is None


def _is_there(store: Location) -> bool:
    """Whether a store is there, be it damaged: until its first row, its zarr.json comes last."""
    has_rows = any(store.root.children(f"{store.key}/embedding/c"))
    return has_rows or (store / "zarr.json").read() is not None


def _stale_partials(folder: Location, *, deep: bool = False) -> Iterator[tuple[Location, str]]:
    """Files that never got their names; only a directory has them."""
    if not isinstance(folder.root, LocalRoot):
        return
    for file in folder.files():
        if not file.name.endswith(PARTIAL):
            continue
        try:
            age = time.time() - Path(file.path).stat().st_mtime
        except FileNotFoundError:
            continue
        if age > STALE_SECONDS:
            yield file, "a file that never got its name, from a writer that was killed"
    for below in folder.folders() if deep else ():
        yield from _stale_partials(below, deep=True)


def _bytes(location: Location, folder: bool) -> int:
    if folder:
        return sum(size for _, size in location.root.sizes(location.key))
    above = location.parent.key
    return sum(size for key, size in location.root.sizes(above) if key == location.key)


def _remove(item: GarbageItem, ticket: Ticket | None = None) -> GarbageItem:
    """Remove it; of a folder of leases what is not above the one that this is done under."""
    place = item.location.root
    if ticket is not None and item.location == ticket.folder:
        for file in item.location.files():
            if lease_number(file) < ticket.number:
                place.delete(file.key)
        for folder in item.location.folders():
            if lease_number(folder) < ticket.number:
                _delete_all(folder)
    elif item.is_folder:
        _delete_all(item.location)
    else:
        place.delete(item.location.key)
    return item


def _delete_all(location: Location) -> None:
    for key, _ in list(location.root.sizes(location.key)):
        location.root.delete(key)
    # Of a directory the empty folders are left now.
    location.root.remove_staging(location.key)


def _forget(ticket: Ticket) -> None:
    """Take away a lease that was released, and the folder where nobody has begun another."""
    ticket.folder.root.delete((ticket.folder / f"{ticket.number:08d}.json").key)
    if isinstance(ticket.folder.root, LocalRoot):
        with suppress(OSError):
            ticket.folder.path.rmdir()
