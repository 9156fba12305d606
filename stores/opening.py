"""Find and open stores, and count their rows."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr
from obstore.exceptions import BaseError
from zarr.abc.store import Store

from stores.embeddings import ARRAYS, EmbeddingStore
from stores.errors import (
    StoreError,
    access_denied_error,
    damaged_store_error,
    translate_errors,
)
from stores.identity import compute_identity
from stores.layout import RESERVED_FOLDERS, STORE_DEPTH, dataset_folders, list_folders
from stores.lease import Ticket
from stores.locate import locate
from stores.location import Location
from stores.metadata import check_arrays, check_documents
from stores.regular_files import describe_link
from stores.status import ABSENT, FIRST_REASON, WHOLE, flag_of

FORMAT = "enecg-embeddings/1"
"""Value of the group attribute `format`."""


@dataclass(frozen=True)
class FoundStores:
    """The stores below a root.

    Attributes:
        stores: Stores that can be opened and have at least one row.
        errors: One error for each store that cannot be opened, each folder that this user may not
            list, and each symbolic link that `find_links` yields.
    """

    stores: tuple[EmbeddingStore, ...]
    errors: tuple[StoreError, ...]


@dataclass(frozen=True)
class ResolvedUrl:
    """The stores that a user's URL refers to.

    Attributes:
        root: The store root.
        found: The stores and errors; if `is_single_store` is True, one store or one error.
        is_single_store: Whether the URL refers to one store rather than to a root.
    """

    root: Location
    found: FoundStores
    is_single_store: bool


@dataclass(frozen=True)
class RowCounts:
    """Rows of a store by status.

    Attributes:
        rows: Total number of rows.
        whole: Number of rows with an embedding.
        missing: Number of rows that have not been extracted.
        failed: Number of failed rows by reason.
        size_bytes: Total size of the store's files.
    """

    rows: int
    whole: int
    missing: int
    failed: dict[str, int]
    size_bytes: int


def open_store(location: Location | str | Path, ticket: Ticket | None = None) -> EmbeddingStore:
    """Open a store.

    Args:
        location: Location, path or URL of the store (not of its root).
        ticket: Ticket of the store's lease; None opens the store read-only.

    Returns:
        The open store.

    Raises:
        StoreError: The store does not exist, is unreachable or damaged or has another format, or
            its provenance does not match the names of its folders.
    """
    if not isinstance(location, Location):
        parent, _, name = str(location).rstrip("/").rpartition("/")
        location = locate(parent or ".") / name
    root = location.root
    zarr_store = root.zarr_reader() if ticket is None else root.zarr_writer(ticket.staging.key)
    return open_with(location, ticket, zarr_store)


def open_with(location: Location, ticket: Ticket | None, zarr_store: Store) -> EmbeddingStore:
    """Open a store like `open_store`, through an existing Zarr store of its root."""
    with translate_errors(location):
        check_documents(location)
        try:
            group = zarr.open_group(
                zarr_store,
                path=location.key,
                mode="r" if ticket is None else "r+",
                zarr_format=3,
                # Consolidated metadata could differ from the documents checked above.
                use_consolidated=False,
            )
            arrays = [group.get(name) for name in ARRAYS]
        except FileNotFoundError as error:
            raise StoreError(
                f"There is no store at {location}; run `enecg extract` first, or correct the path."
            ) from error
        except (StoreError, OSError, BaseError):
            raise
        except Exception as error:
            # zarr raises errors of many types for invalid metadata.
            problem = "one of its zarr.json files is invalid"
            raise damaged_store_error(location, problem, repairable=False) from error
    found_format = group.attrs.get("format")
    if found_format != FORMAT:
        raise StoreError(
            f"{location}: the Zarr group has format {found_format!r}, but this version of EnECG "
            f"reads {FORMAT!r}; use a store root written by EnECG, or update EnECG."
        )
    if None in arrays:
        missing = [name for name, array in zip(ARRAYS, arrays, strict=True) if array is None]
        problem = f"the zarr.json of {' and '.join(missing)} is missing"
        raise damaged_store_error(location, problem, repairable=False)
    store = EmbeddingStore(location, group, ticket)
    check_arrays(store)
    identity = compute_identity(store.provenance)
    if identity != location.name:
        raise StoreError(
            f"{location}: the provenance has identity {identity}, which differs from the folder's "
            "name. The folder was renamed or the provenance was edited; undo this change, or "
            "remove the folder."
        )
    name = f"{store.provenance['dataset']}/{store.provenance['expert']}"
    # The key of a store that was opened by its path or URL contains only the store's own folder.
    if location.key.count("/") == STORE_DEPTH - 1 and location.parent.key != name:
        raise StoreError(
            f"{location} is a store of {name}, but its folder is that of another data set or "
            "expert; move or remove the folder."
        )
    return store


def open_stores(root: str | Path | Location, dataset: str | None = None) -> FoundStores:
    """Open the stores below a root, ordered by data set, expert and identity.

    Args:
        root: The store root.
        dataset: Name and version of one data set, such as ``ludb/1.0.1``; None searches all.

    Returns:
        The stores with at least one row, and the errors.

    Raises:
        StoreError: The URL is invalid, or the root is unreachable or unreadable.
    """
    root = root if isinstance(root, Location) else locate(root)
    stores: list[EmbeddingStore] = []
    errors: list[StoreError] = []
    with translate_errors(root):
        for folder in dataset_folders(root, errors) if dataset is None else [root / dataset]:
            for expert in list_folders(folder, errors):
                if expert.name in RESERVED_FOLDERS:
                    continue
                for location in list_folders(expert, errors):
                    try:
                        if store := _open_if_complete(location):
                            stores.append(store)
                    except StoreError as error:
                        errors.append(error)
                    except PermissionError as error:
                        errors.append(access_denied_error(location, error))
            links = find_links(folder)
            errors += [StoreError(describe_link(link, target)) for link, target in links]
    return FoundStores(tuple(stores), tuple(errors))


def find_links(dataset: Location) -> Iterator[tuple[Location, str]]:
    """Yield the symbolic links in a data set's folder and in its direct subfolders.

    These links are not followed.

    Args:
        dataset: Folder of a data set.

    Yields:
        Location of the link, and its target.
    """
    # `open_stores` reports the folders that this user may not list.
    for folder in (dataset, *list_folders(dataset, [])):
        with suppress(PermissionError):
            for name, target in folder.root.links(folder.key):
                yield folder / name, target


def resolve(url: str | Path) -> ResolvedUrl:
    """Open the stores that a URL refers to.

    Args:
        url: A store root, or one store below it.

    Returns:
        The root, and its stores or the one store.

    Raises:
        StoreError: There are no stores below the URL, it is too short for a store, or it is invalid
            or unreachable. Errors of single stores are returned in `found` instead.
    """
    target = locate(url)
    with translate_errors(target):
        if (target / "zarr.json").read() is None:
            found = open_stores(target)
            if not (found.stores or found.errors):
                raise StoreError(
                    f"There are no stores below {target}; use the --store root of an extraction, "
                    "or the URL of one store."
                )
            return ResolvedUrl(target, found, is_single_store=False)
    scheme, separator, path = str(target).rpartition("://")
    root_path, *parts = path.rsplit("/", STORE_DEPTH)
    if len(parts) < STORE_DEPTH:
        raise StoreError(
            f"{target} contains a zarr.json but is not a store: the URL of a store has the form "
            "ROOT/NAME/VERSION/EXPERT/IDENTITY; use such a URL, or a root without a zarr.json."
        )
    root = location = locate(f"{scheme}{separator}{root_path or '/'}")
    for part in parts:
        location /= part
    try:
        found = FoundStores((open_store(location),), ())
    except StoreError as error:
        found = FoundStores((), (error,))
    return ResolvedUrl(root, found, is_single_store=True)


def count_rows(store: EmbeddingStore) -> RowCounts:
    """Count a store's rows by status.

    Args:
        store: The open store.

    Returns:
        The counts and the size of the store.

    Raises:
        StoreError: The status or the record ids are damaged, or the store is unreachable.
    """
    by_status = np.bincount(store.status(), minlength=256)
    failed = {
        flag_of(value, store.flags): int(by_status[value])
        for value in range(FIRST_REASON, 256)
        if by_status[value]
    }
    with translate_errors(store.location):
        size = sum(size for _, size in store.location.root.sizes(store.location.key))
    return RowCounts(
        rows=len(store.record_id),
        whole=int(by_status[WHOLE]),
        missing=int(by_status[ABSENT]),
        failed=failed,
        size_bytes=size,
    )


def _open_if_complete(location: Location) -> EmbeddingStore | None:
    """Open a store; return None if its creation is incomplete (an extraction completes it)."""
    files = {file.name for file in location.files()}
    if "zarr.json" in files:
        store = open_store(location)
        return store if store.array("record_id").shape[0] else None
    if (location / "embedding" / "c").folders():
        raise StoreError(
            f"{location} is damaged: its zarr.json is missing, so the store cannot be read; run "
            "the extraction into this store again to restore the file."
        )
    return None
