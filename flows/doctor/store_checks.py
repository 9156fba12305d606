"""Checks of a store root: list, write, read, conditional put, lease and free space."""

import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from enecg.experts import get_definition
from enecg.leads import LeadsSample
from flows.doctor.finding import Finding, from_error
from flows.tables import format_bytes
from stores.creation import default_shard_rows
from stores.errors import StoreError, VersionConflict, translate_errors
from stores.layout import leases_folder
from stores.lease import acquire
from stores.local import LocalRoot
from stores.locate import locate
from stores.location import Location
from stores.objects import ConditionalObjectStore, ObjectRoot
from stores.opening import open_stores

FLOAT16_BYTES = 2


def check_store(url: str) -> Iterator[Finding]:
    """Check that stores can be read and written. A folder is written below the root and removed.

    If the root is a folder that does not exist, only check that it can be created.

    Args:
        url: Root folder or URL of the stores.

    Yields:
        A finding for each store that cannot be opened, and for each operation. After an error, or
        if a wrong value is read, the remaining operations are skipped.

    Raises:
        StoreError: The URL is invalid, or the root is unreachable or cannot be listed.
    """
    root = locate(url)
    if isinstance(root.root, LocalRoot) and not root.path.exists():
        existing = _existing(root.path)
        if os.access(existing, os.W_OK | os.X_OK):
            yield Finding("store", "ok", f"{root} does not exist yet and can be created")
        else:
            yield Finding(
                "store",
                "failed",
                f"{root} does not exist, and {existing} is not a writable folder",
                "choose another --store, or get write permission",
            )
        return
    found = open_stores(root)
    for error in found.errors:
        yield from_error("store: open", error)
    count = f"{len(found.stores)} store" + ("" if len(found.stores) == 1 else "s")
    yield Finding("store: list", "ok", f"{root}: {count}")
    probe = root / f"doctor-{uuid.uuid4().hex[:12]}"
    try:
        with translate_errors(root):
            yield from _probe(probe)
    except StoreError as error:
        yield from_error("store: write", error)
    finally:
        with suppress(OSError, StoreError):
            _remove(probe)


def _probe(probe: Location) -> Iterator[Finding]:
    root, key = probe.root, (probe / "value").key
    root.write(key, b"first")
    yield Finding("store: write", "ok", "a value was written")
    if root.read(key) != b"first":
        yield Finding(
            "store: read",
            "failed",
            "the value that was read differs from the one that was written",
            "use a file system or server that does not return cached values",
        )
        return
    yield Finding("store: read", "ok", "the value was read back")
    yield _check_conditional_put(probe)
    with acquire(leases_folder(probe / "1" / "expert" / ("0" * 16)), note=", enecg doctor"):
        yield Finding("store: lease", "ok", "a lease was acquired and released")


def _check_conditional_put(probe: Location) -> Finding:
    root, key = probe.root, (probe / "created").key
    works = root.create(key, b"1") and not root.create(key, b"2")
    if works and isinstance(root, ObjectRoot):
        writer = ConditionalObjectStore(root.client)
        writer.track_version(key)
        root.write(key, b"3")
        try:
            writer.put(key, b"4")
            works = False
        except VersionConflict:
            pass
    if works:
        return Finding("store: conditional put", "ok", "an existing value is not replaced")
    return Finding(
        "store: conditional put",
        "failed",
        "a conditional put replaced an existing value",
        "use a server that supports If-Match and If-None-Match; with this one, two extractions "
        "could damage a store",
    )


def _remove(probe: Location) -> None:
    for key, _ in list(probe.root.sizes(probe.key)):
        probe.root.delete(key)
    probe.root.remove_staging(probe.key)


def check_space(
    url: str, namespace: str, records: int, experts: Sequence[str]
) -> Iterator[Finding]:
    """Compare the free disk space with the size in float16 of the embeddings to add.

    The size excludes the shards that each expert's largest float16 store already contains, and
    includes the store of the gate's leads.

    Args:
        url: Root folder or URL of the stores.
        namespace: Name and version of the data set, such as ``ludb/1.0.1``.
        records: Number of records in the data set.
        experts: Names of the experts.

    Yields:
        One finding.

    Raises:
        UserError: An expert is unknown.
        StoreError: The URL is invalid, or a store or the root is unreachable or unreadable.
    """
    features = {name: get_definition(name).embedding_size for name in experts}
    features[LeadsSample.spec.name] = LeadsSample.spec.embedding_size
    existing = dict.fromkeys(features, 0)
    for store in open_stores(url, namespace).stores:
        expert = store.location.parent.name
        layout = (store.features, store.array("embedding").dtype.itemsize)
        if layout == (features.get(expert), FLOAT16_BYTES):
            shards = np.unique(np.flatnonzero(store.status()) // store.shard_rows)
            existing[expert] = max(existing[expert], len(shards) * store.shard_rows)
    # A shard has full size even if only some of its rows are present.
    shard_rows = default_shard_rows(records)
    rows = -(-records // shard_rows) * shard_rows
    needed = sum(
        max(0, rows - existing[name]) * size * FLOAT16_BYTES for name, size in features.items()
    )
    text = (
        f"embeddings to add for {records:,} records and {len(experts)} experts: "
        f"{format_bytes(needed)}"
    )
    root = locate(url)
    if not isinstance(root.root, LocalRoot):
        yield Finding("disk space", "ok", f"{text}; the space of {root} is unknown")
        return
    free = shutil.disk_usage(_existing(root.path)).free
    if free < needed:
        remedy = "free some space, or choose another --store"
        yield Finding("disk space", "failed", f"{text}, free: {format_bytes(free)}", remedy)
    else:
        yield Finding("disk space", "ok", f"{text}, free: {format_bytes(free)}")


def _existing(path: Path) -> Path:
    """Return the path, or the closest folder above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())
