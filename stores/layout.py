"""Folder layout of a store root.

``ROOT/<dataset>/<expert>/<identity>`` is a store, where ``<dataset>`` is two folders deep (name and
version). Beside it, outside its Zarr group, are ``ROOT/<dataset>/leases/<expert>/<identity>`` and
``ROOT/<dataset>/runs/<expert>/<identity>``.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stores.identity import compute_identity
from stores.locate import locate
from stores.location import Location

RESERVED_FOLDERS = ("leases", "runs")
"""Folders of a data set that contain no stores."""
STORE_DEPTH = 4
"""Folders from a root to a store: data set name, data set version, expert, identity."""


def store_location(root: str | Path | Location, provenance: Mapping[str, Any]) -> Location:
    """Return where the store with this provenance is, whether or not it exists.

    Args:
        root: Location or URL of the store root.
        provenance: JSON values, including ``dataset`` and ``expert``.

    Raises:
        StoreError: The URL is invalid, or the bucket is unreachable or does not exist.
    """
    start = root if isinstance(root, Location) else locate(root)
    expert = start / str(provenance["dataset"]) / str(provenance["expert"])
    return expert / compute_identity(provenance)


def dataset_name(store: Location) -> str:
    """Return the namespace of a store's data set, such as ``ludb/1.0.1``."""
    namespace = store.parent.parent
    return f"{namespace.parent.name}/{namespace.name}"


def dataset_folders(root: Location) -> Iterator[Location]:
    """Yield the folder of every data set."""
    for name in root.folders():
        yield from name.folders()


def leases_folder(store: Location) -> Location:
    """Return the folder of a store's leases."""
    return _folder_beside(store, "leases")


def runs_folder(store: Location) -> Location:
    """Return the folder of a store's run records."""
    return _folder_beside(store, "runs")


def store_beside(folder: Location) -> Location:
    """Return the store to which a folder of leases or run records belongs."""
    return folder.parent.parent.parent / folder.parent.name / folder.name


def _folder_beside(store: Location, kind: str) -> Location:
    return store.parent.parent / kind / store.parent.name / store.name
