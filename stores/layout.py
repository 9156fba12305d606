"""Folder layout of a store root.

A store is the Zarr group ``ROOT/<dataset>/<expert>/<identity>``, where ``<dataset>`` is two folders
deep (name and version). Its leases and run records are outside the group, in
``ROOT/<dataset>/leases/<expert>/<identity>`` and ``ROOT/<dataset>/runs/<expert>/<identity>``.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stores.errors import StoreError, access_denied_error
from stores.identity import compute_identity
from stores.locate import locate
from stores.location import Location

RESERVED_FOLDERS = ("leases", "runs")
"""Subfolders of a data set that are not experts."""
_FOLDER_NAME = re.compile(r"\w(?:[\w.+ -]*[\w+-])?")
"""Valid name of a folder; ``.``, ``..`` and names that begin or end with a dot do not match."""

STORE_DEPTH = 4
"""Depth of a store below the root: data set name, data set version, expert, identity."""


def store_location(root: str | Path | Location, provenance: Mapping[str, Any]) -> Location:
    """Return the location of the store with this provenance, whether or not it exists.

    Args:
        root: Location or URL of the store root.
        provenance: JSON values, including ``dataset`` and ``expert``.

    Returns:
        The location.

    Raises:
        StoreError: The name of the data set or expert is invalid; or as for `locate`.
        ValueError: A number in the provenance is NaN or infinite.
    """
    root = root if isinstance(root, Location) else locate(root)
    dataset, expert = str(provenance["dataset"]), str(provenance["expert"])
    check_dataset_name(dataset)
    if not _FOLDER_NAME.fullmatch(expert) or expert in RESERVED_FOLDERS:
        raise StoreError(
            f"{expert!r} is not a valid name of an expert; use letters, digits, '.', '_' and '-', "
            f"with a letter or digit at both ends. The names {' and '.join(RESERVED_FOLDERS)} are "
            "reserved."
        )
    return root / dataset / expert / compute_identity(provenance)


def check_dataset_name(name: str) -> None:
    """Check that the name of a data set has the form ``NAME/VERSION``, both valid folder names.

    Args:
        name: Name and version, such as ``ludb/1.0.1``.

    Raises:
        StoreError: The name has another form; for example, it could point outside the root.
    """
    parts = name.split("/")
    if len(parts) != 2 or not all(_FOLDER_NAME.fullmatch(part) for part in parts):
        raise StoreError(
            f"{name!r} is not a valid name of a data set; use NAME/VERSION, and for both letters, "
            "digits, spaces, '.', '_', '+' and '-', with a letter or digit at both ends."
        )


def dataset_name(store: Location) -> str:
    """Return the name and version of a store's data set, such as ``ludb/1.0.1``."""
    version = store.parent.parent
    return f"{version.parent.name}/{version.name}"


def dataset_folders(root: Location, denied: list[StoreError]) -> Iterator[Location]:
    """Yield the folder of every version of every data set.

    Args:
        root: The store root.
        denied: Receives the errors of folders below the root that this user may not list.

    Yields:
        Folders at depth 2 below the root.
    """
    for name in root.folders():
        yield from list_folders(name, denied)


def list_folders(folder: Location, denied: list[StoreError]) -> list[Location]:
    """Return the subfolders of a folder.

    Args:
        folder: A folder below the root.
        denied: Receives the error if this user may not list the folder.

    Returns:
        The subfolders; empty if this user may not list the folder.
    """
    try:
        return folder.folders()
    except PermissionError as error:
        denied.append(access_denied_error(folder, error))
        return []


def leases_folder(store: Location) -> Location:
    """Return the folder of a store's leases."""
    return _folder_beside(store, "leases")


def runs_folder(store: Location) -> Location:
    """Return the folder of a store's run records."""
    return _folder_beside(store, "runs")


def store_beside(folder: Location) -> Location:
    """Return the location of the store whose leases or run records are in this folder."""
    return folder.parent.parent.parent / folder.parent.name / folder.name


def _folder_beside(store: Location, kind: str) -> Location:
    return store.parent.parent / kind / store.parent.name / store.name
