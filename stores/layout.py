"""Where things lie in a root: a data set's stores, and beside them their leases and their runs.

`ROOT/<dataset>/<expert>/<identity>` is a store; `ROOT/<dataset>/leases/<expert>/<identity>` and
`ROOT/<dataset>/runs/<expert>/<identity>` are no part of its Zarr group.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stores.identity import compute_identity
from stores.locate import locate
from stores.location import Location

RESERVED_FOLDERS = ("leases", "runs")
"""Folders of a data set that hold no stores."""

STORE_DEPTH = 4
"""Of a store: a data set's namespace is two folders deep, name and version."""


def store_location(root: str | Path | Location, provenance: Mapping[str, Any]) -> Location:
    """Where the store of this provenance is, or will be."""
    start = root if isinstance(root, Location) else locate(root)
    return (
        start
        / str(provenance["dataset"])
        / str(provenance["expert"])
        / compute_identity(provenance)
    )


def dataset_name(store: Location) -> str:
    """The data set in whose namespace a store lies, such as `ludb/1.0.1`."""
    namespace = store.parent.parent
    return f"{namespace.parent.name}/{namespace.name}"


def dataset_folders(root: Location) -> Iterator[Location]:
    """The folders of all data sets."""
    for name in root.folders():
        yield from name.folders()


def leases_folder(store: Location) -> Location:
    """The folder of a store's leases."""
    return _beside(store, "leases")


def runs_folder(store: Location) -> Location:
    """The folder of a store's run objects."""
    return _beside(store, "runs")


def store_beside(folder: Location) -> Location:
    """The store whose leases, or runs, lie in a folder."""
    return folder.parent.parent.parent / folder.parent.name / folder.name


def _beside(store: Location, kind: str) -> Location:
    return store.parent.parent / kind / store.parent.name / store.name
