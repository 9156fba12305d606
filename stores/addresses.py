"""What a user's URL names: a root with all stores below it, or one store of a root."""

from dataclasses import dataclass
from pathlib import Path

from stores.errors import StoreError, told
from stores.layout import PARTS_BELOW_ROOT
from stores.location import Location, locate
from stores.opening import Found, find_stores, open_store


@dataclass(frozen=True)
class Address:
    """A root, and the stores that were meant; `single` where the URL was that of one store."""

    root: Location
    found: Found
    single: bool


def look_up(url: str | Path) -> Address:
    """Open what a URL names. Raises StoreError where there is no store."""
    here = locate(url)
    with told(here):
        if (here / "zarr.json").read() is None:
            found = find_stores(here)
            if not (found.stores or found.wrong):
                raise StoreError(
                    f"There are no stores under {here}; give the root that was given to "
                    "extract by --store, or the URL of one store."
                )
            return Address(here, found, single=False)
    root, *parts = str(here).rsplit("/", PARTS_BELOW_ROOT)
    location = locate(root)
    for part in parts:
        location /= part
    return Address(locate(root), _opened(location), single=True)


def _opened(location: Location) -> Found:
    try:
        return Found((open_store(location),), ())
    except StoreError as error:
        return Found((), (error,))
