"""Find and remove files that interrupted writers left in a store root.

Rows of a store and files of a possibly running lease holder are never garbage.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from stores.embeddings import ARRAYS
from stores.errors import StoreError, UnsafeFile, access_denied_error, translate_errors
from stores.feature_names import NAME, UNIT
from stores.identity import is_identity
from stores.layout import (
    RESERVED_FOLDERS,
    dataset_folders,
    leases_folder,
    list_folders,
    runs_folder,
)
from stores.lease import LeaseHeld, Ticket, acquire, parse_lease_number, read_holder
from stores.lease_record import LeaseRecord
from stores.local import CLEARED, LocalRoot
from stores.local_files import PARTIAL
from stores.location import Location
from stores.opening import open_store

STALE_SECONDS = 3600.0
"""Age above which a partial file is garbage; writing one takes seconds."""
STORE_NAMES = {"zarr.json", *ARRAYS, NAME, UNIT}
"""Names in a store's folder. If it contains other files or folders, it is never removed."""


@dataclass(frozen=True)
class GarbageItem:
    """A folder or file that may be removed.

    Attributes:
        location: The folder or file.
        is_folder: Whether it is a folder, which is removed recursively.
        store: The store to which it belongs.
        needs_lease: Whether the store's lease must be held while the item is removed, because a
            writer could otherwise start to use the item.
        size_bytes: Total size of its files.
        reason: Why it is garbage.
    """

    location: Location
    is_folder: bool
    store: Location
    needs_lease: bool
    size_bytes: int
    reason: str


def find_garbage(root: Location, denied: list[StoreError] | None = None) -> list[GarbageItem]:
    """Find the files and folders in a store root that may be removed.

    Symbolic links inside a data set's folder are not followed; stores that cannot be read without
    following one are skipped.

    Args:
        root: The store root.
        denied: Receives the errors of folders and stores that this user may not read; they are
            skipped.

    Returns:
        Folders and files, grouped by store.

    Raises:
        StoreError: The root cannot be read.
    """
    items: list[GarbageItem] = []
    denied = [] if denied is None else denied
    with translate_errors(root):
        for store in _all_stores(root, denied):
            # `links.find_links` reports the links.
            with suppress(UnsafeFile), _skip_denied(store, denied):
                items += [*_garbage_in_store(store), *_garbage_beside_store(store)]
    return items


def remove_garbage(
    items: Sequence[GarbageItem], denied: list[StoreError] | None = None
) -> Iterator[GarbageItem]:
    """Remove the items that are still garbage. Stores that another process writes to are skipped.

    Args:
        items: Result of `find_garbage`.
        denied: Receives the errors of stores that this user may not write to; they are skipped.

    Yields:
        Each item that was removed.

    Raises:
        StoreError: A root cannot be read or written.
    """
    for store in dict.fromkeys(item.store for item in items):
        # Skip the rest of a store in which a link appeared after `find_garbage`.
        with (
            suppress(LeaseHeld, UnsafeFile),
            _skip_denied(store, [] if denied is None else denied),
        ):
            yield from _remove_from_store(store, [item for item in items if item.store == store])


@contextmanager
def _skip_denied(store: Location, denied: list[StoreError]) -> Iterator[None]:
    """Append the error of a store that this user may not read or write."""
    try:
        yield
    except PermissionError as error:
        denied.append(access_denied_error(store, error))
    except StoreError as error:
        if not isinstance(error.__cause__, PermissionError):
            raise
        denied.append(error)


def _remove_from_store(store: Location, items: Sequence[GarbageItem]) -> Iterator[GarbageItem]:
    if any(item.needs_lease for item in items):
        with acquire(leases_folder(store)) as lease, translate_errors(store):
            current = {item.location for item in _garbage_in_store(store, is_held=True)}
            for item in items:
                if item.needs_lease and item.location in current:
                    yield _remove(item, lease.ticket)
        if leases_folder(store) in current:
            with translate_errors(store):
                _remove_own_lease(lease.ticket)
    with translate_errors(store):
        current = {item.location for item in _garbage_beside_store(store)}
        for item in items:
            if not item.needs_lease and item.location in current:
                yield _remove(item)


def _all_stores(root: Location, denied: list[StoreError]) -> list[Location]:
    """Return the locations of all stores, including removed ones that left leases or runs.

    Folders whose name is not an identity are ignored, because the root, or the target of a link in
    place of a data set, can contain other folders.
    """
    stores = []
    for dataset in dataset_folders(root, denied):
        folders = list_folders(dataset, denied)
        experts = [folder for folder in folders if folder.name not in RESERVED_FOLDERS]
        for kind in RESERVED_FOLDERS:
            with suppress(UnsafeFile):
                experts += list_folders(dataset / kind, denied)
        keys = {
            (expert.name, store.name)
            for expert in experts
            for store in list_folders(expert, denied)
            if is_identity(store.name)
        }
        stores += [dataset / expert / identity for expert, identity in sorted(keys)]
    return stores


def _garbage_in_store(store: Location, *, is_held: bool = False) -> Iterator[GarbageItem]:
    """Yield garbage in a store; if the store does not exist, also its leases and runs.

    Args:
        store: Location of the store.
        is_held: Whether the caller holds the lease. If not, yield nothing while another process
            may hold it.

    Yields:
        The items.
    """
    if not is_held and _may_be_running(read_holder(store)):
        return

    def item(location: Location, reason: str, is_folder: bool = False) -> GarbageItem:
        return GarbageItem(location, is_folder, store, True, _size(location, is_folder), reason)

    if not _store_exists(store):
        names = {entry.name for entry in (*store.folders(), *store.files())}
        if names and all(name in STORE_NAMES or name.endswith(PARTIAL) for name in names):
            reason = "a store whose creation was interrupted before its first row"
            yield item(store, reason, is_folder=True)
        # Yield the leases last, because one of them is held while the other items are removed.
        for kind, folder in (("runs", runs_folder(store)), ("leases", leases_folder(store))):
            if any(folder.root.children(folder.key)):
                yield item(folder, f"{kind} of a store that does not exist", is_folder=True)
        return
    yield from (item(file, reason) for file, reason in _stale_partials(store, recursive=True))
    try:
        opened = open_store(store)
    except StoreError:
        # Do not remove anything from a damaged store, which `enecg store verify` reports.
        return
    for name in ARRAYS:
        array = opened.array(name)
        shard_rows = (array.shards or array.chunks)[0]
        shards = -(-array.shape[0] // shard_rows)
        chunks = store / name / "c"
        for shard in chunks.folders() if name == "embedding" else chunks.files():
            if shard.name.isdecimal() and int(shard.name) >= shards:
                reason = f"a shard beyond the last row of {name} ({array.shape[0]:,} rows)"
                yield item(shard, reason, is_folder=name == "embedding")


def _garbage_beside_store(store: Location) -> Iterator[GarbageItem]:
    """Yield garbage among the leases and runs of a store that exists or is being created."""
    holder = read_holder(store)
    if not _store_exists(store) and not _may_be_running(holder):
        return

    def item(location: Location, reason: str, is_folder: bool = False) -> GarbageItem:
        return GarbageItem(location, is_folder, store, False, _size(location, is_folder), reason)

    folder = leases_folder(store)
    for file, reason in (*_stale_partials(runs_folder(store)), *_stale_partials(folder)):
        yield item(file, reason)
    highest = max((parse_lease_number(file) for file in folder.files()), default=0)
    for file in folder.files():
        if 0 < parse_lease_number(file) < highest:
            yield item(file, "a lease that was superseded by another")
    current = (
        f"{highest:08d}-{holder.token}" if holder is not None and _may_be_running(holder) else ""
    )
    for staging in folder.folders():
        number = parse_lease_number(staging)
        # A staging folder with a higher number belongs to a process that is about to create a
        # lease.
        is_old = 0 < number <= highest or staging.name.endswith(CLEARED)
        is_unreadable = number == highest and not _is_readable(folder, highest)
        if is_old and staging.name != current and not is_unreadable:
            yield item(
                staging, "staging folder of a writer that no longer holds the lease", is_folder=True
            )


def _may_be_running(holder: LeaseRecord | None) -> bool:
    return holder is not None and not holder.known_inactive


def _is_readable(folder: Location, number: int) -> bool:
    """Return whether a lease document can be parsed; an incomplete one cannot."""
    try:
        return LeaseRecord.parse((folder / f"{number:08d}.json").read()) is not None
    except UnsafeFile:
        return False


def _store_exists(store: Location) -> bool:
    """Return whether a store exists, possibly damaged: it has shards or a zarr.json."""
    has_rows = any(store.root.children(f"{store.key}/embedding/c"))
    return has_rows or (store / "zarr.json").read() is not None


def _stale_partials(folder: Location, *, recursive: bool = False) -> Iterator[tuple[Location, str]]:
    """Yield partial files older than `STALE_SECONDS` with a reason; object stores have none."""
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
            yield file, "a partial file of an interrupted writer"
    for subfolder in folder.folders() if recursive else ():
        yield from _stale_partials(subfolder, recursive=True)


def _size(location: Location, is_folder: bool) -> int:
    if is_folder:
        return sum(size for _, size in location.root.sizes(location.key))
    siblings = location.root.sizes(location.parent.key)
    return sum(size for key, size in siblings if key == location.key)


def _remove(item: GarbageItem, ticket: Ticket | None = None) -> GarbageItem:
    """Remove an item and return it; from the folder `ticket.folder`, remove only older leases."""
    root = item.location.root
    if ticket is not None and item.location == ticket.folder:
        for file in item.location.files():
            if parse_lease_number(file) < ticket.number:
                root.delete(file.key)
        for folder in item.location.folders():
            if parse_lease_number(folder) < ticket.number:
                _delete_folder(folder)
    elif item.is_folder:
        _delete_folder(item.location)
    else:
        root.delete(item.location.key)
    return item


def _delete_folder(location: Location) -> None:
    for key, _ in list(location.root.sizes(location.key)):
        location.root.delete(key)
    # On a file system, the emptied folders remain, so remove them too.
    location.root.remove_staging(location.key)


def _remove_own_lease(ticket: Ticket) -> None:
    """Remove a released lease, and its folder unless it contains files of another process."""
    ticket.folder.root.delete((ticket.folder / f"{ticket.number:08d}.json").key)
    if isinstance(ticket.folder.root, LocalRoot):
        with suppress(OSError):
            ticket.folder.path.rmdir()
