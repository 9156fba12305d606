"""How a store is found and opened."""

from dataclasses import dataclass
from pathlib import Path

import zarr
from zarr.abc.store import Store

from stores.embeddings import EmbeddingStore
from stores.errors import StoreError, damaged, told
from stores.identity import identity
from stores.layout import NO_STORES, namespaces
from stores.lease import Ticket
from stores.location import Location, locate

FORMAT = "enecg-embeddings/1"
ARRAYS = ("embedding", "status", "record_id")


def open_store(location: Location | str | Path, ticket: Ticket | None = None) -> EmbeddingStore:
    """Open a store to read it, or by the ticket of a lease to write too.

    Raises StoreError where there is none, or it is of another format or of another making.
    """
    if isinstance(location, Location):
        where = location
    else:
        # A store's own URL: its root is above it.
        above, _, name = str(location).rstrip("/").rpartition("/")
        where = locate(above or ".") / name
    place = where.place
    by = place.reading() if ticket is None else place.writing(ticket.staging.key)
    return open_by(where, ticket, by)


def open_by(where: Location, ticket: Ticket | None, by: Store) -> EmbeddingStore:
    """The same, to be read and written by a Zarr store that is there already."""
    with told(where):
        try:
            group = zarr.open_group(
                by,
                path=where.key,
                mode="r" if ticket is None else "r+",
                zarr_format=3,
            )
            arrays = [group.get(name) for name in ARRAYS]
        except FileNotFoundError as error:
            raise StoreError(f"There is no store at {where}; extract into it first.") from error
        except (ValueError, KeyError, TypeError) as error:
            what = "a zarr.json in it cannot be read"
            raise damaged(where, what, mendable=False) from error
    given = group.attrs.get("format")
    if given != FORMAT:
        raise StoreError(
            f"{where} is a Zarr group of the format {given!r}, and this program reads {FORMAT!r}; "
            "name the store root that EnECG wrote, or bring the program up to date."
        )
    if None in arrays:
        lost = [name for name, array in zip(ARRAYS, arrays, strict=True) if array is None]
        what = f"its {' and '.join(lost)} cannot be had (zarr.json)"
        raise damaged(where, what, mendable=False)
    store = EmbeddingStore(where, group, ticket)
    if identity(store.provenance) != where.name:
        raise StoreError(
            f"{where} is not what its name says: its provenance makes the identity "
            f"{identity(store.provenance)}, so the folder was renamed or the provenance changed; "
            "put back what was changed, or remove the folder."
        )
    return store


@dataclass(frozen=True)
class Found:
    """What lies below a root: the stores that open, and what is wrong with the others."""

    stores: tuple[EmbeddingStore, ...]
    wrong: tuple[StoreError, ...]


def find_stores(root: str | Path | Location, dataset: str | None = None) -> Found:
    """All stores of a data set, or of all, by data set, expert and identity."""
    start = root if isinstance(root, Location) else locate(root)
    stores: list[EmbeddingStore] = []
    wrong: list[StoreError] = []
    with told(start):
        for namespace in namespaces(start) if dataset is None else [start / dataset]:
            for expert in namespace.folders():
                if expert.name in NO_STORES:
                    continue
                for location in expert.folders():
                    try:
                        if store := _if_there(location):
                            stores.append(store)
                    except StoreError as error:
                        wrong.append(error)
    return Found(tuple(stores), tuple(wrong))


def _if_there(location: Location) -> EmbeddingStore | None:
    files = {file.name for file in location.files()}
    if "zarr.json" in files:
        store = open_store(location)
        # One that has no rows is about to get its first ones, or its making broke off.
        return store if store.array("record_id").shape[0] else None
    if (location / "embedding" / "c").folders():
        raise StoreError(
            f"{location} is a damaged store: its zarr.json is not there; the next extraction into "
            "it writes it again, and until then it cannot be read."
        )
    # Its making broke off, and will go on with the next extraction.
    return None
