"""Files of interrupted writers are removed; files that may be in use are kept."""

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conformance.store_tests import PROVENANCE, damage, random_rows, whole_status, writable_store

from stores.garbage import find_garbage, remove_garbage
from stores.layout import leases_folder, runs_folder, store_location
from stores.lease import Ticket, acquire
from stores.lease_record import LeaseRecord
from stores.locate import locate
from stores.location import Location
from stores.opening import open_store, open_stores
from stores.runs import write_run
from stores.verify import verify


@pytest.fixture(params=["disk", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.getfixturevalue("s3_root")) if request.param == "s3" else str(tmp_path)


def list_garbage(root: str | Path) -> list[tuple[str, str]]:
    """Return the key below the data set and the reason of each garbage item."""
    start = f"{(locate(root) / 'ludb' / '1.0.1').key}/"
    return [
        (item.location.key.removeprefix(start), item.reason) for item in find_garbage(locate(root))
    ]


def remove_all_garbage(root: str | Path) -> int:
    """Remove all garbage; return the number of items."""
    return len(list(remove_garbage(find_garbage(locate(root)))))


def store_identity(root: str | Path) -> str:
    return store_location(root, PROVENANCE).name


def leave_lease(folder: Location, number: int) -> None:
    """Write a lease and a staging folder like those of a killed process on this machine."""
    holder = replace(LeaseRecord.for_this_process(45.0), process=2**22 + 1, token="f" * 12)
    folder.root.write(f"{folder.key}/{number:08d}.json", holder.json())
    folder.root.write(f"{folder.key}/{number:08d}-{holder.token}/x.partial", b"12345")


def delete_store(store: Location) -> None:
    for key, _ in list(store.root.sizes(store.key)):
        store.root.delete(key)
    store.root.remove_staging(store.key)  # removes the empty folders


def test_clean_root_has_no_garbage(root: str):
    with writable_store(root) as store:
        store.write_shard(0, random_rows(0), whole_status())
        write_run(store, {})
        assert list_garbage(root) == []
    assert list_garbage(root) == []


def test_removes_staging_folder_of_an_ended_writer_and_keeps_its_rows(root: str):
    with writable_store(root) as store:
        store.write_shard(0, random_rows(0), whole_status())
    leave_lease(leases_folder(store.location), 9)
    (found,) = [item for item in find_garbage(locate(root)) if item.is_folder]
    assert (found.size_bytes, found.reason) == (
        5,
        "staging folder of a writer that no longer holds the lease",
    )
    assert remove_all_garbage(root) == 2  # the staging folder, and the lease with the lower number
    assert list_garbage(root) == []
    assert verify(open_store(store.location)).whole == 4


def test_keeps_staging_folder_of_a_running_writer(tmp_path: Path):
    with writable_store(tmp_path):
        pass
    with writable_store(tmp_path) as store:
        assert store.ticket is not None
        staging = store.ticket.staging
        staging.root.write(f"{staging.key}/x.partial", b"12345")
        leave_lease(leases_folder(store.location), 1)
        assert [key for key, _ in list_garbage(tmp_path)] == [
            f"leases/dlinear/{store_identity(tmp_path)}/00000001{end}"
            for end in (".json", "-ffffffffffff")
        ]
        assert remove_all_garbage(tmp_path) == 2
        store.write_shard(0, random_rows(0), whole_status())
    assert open_store(store.location).status(0).tolist() == [1, 1, 1, 1]


def test_keeps_files_of_a_writer_on_another_machine(tmp_path: Path):
    with writable_store(tmp_path) as store:
        pass
    folder = leases_folder(store.location)
    holder = replace(
        LeaseRecord.for_this_process(45.0), machine="elsewhere", process=1, token="a" * 12
    )
    folder.root.write(f"{folder.key}/00000009.json", holder.json())
    folder.root.write(f"{folder.key}/00000009-{holder.token}/x.partial", b"1")
    # Simulate another process that is about to create a lease.
    folder.root.write(f"{folder.key}/00000010-bbbbbbbbbbbb/x.partial", b"1")
    assert list_garbage(tmp_path) == [
        (
            f"leases/dlinear/{store_identity(tmp_path)}/00000001.json",
            "a lease that was superseded by another",
        )
    ]


def test_removes_interrupted_creation_with_its_lease(root: str):
    with writable_store(root) as store:
        pass
    damage(store.location, "zarr.json", None)
    name = store_identity(root)
    assert [key for key, _ in list_garbage(root)] == [f"dlinear/{name}", f"leases/dlinear/{name}"]
    with acquire(leases_folder(store.location)):
        assert list_garbage(root) == []
    assert remove_all_garbage(root) == 2
    assert [key for key, _ in locate(root).root.sizes(locate(root).key)] == []


def test_store_with_rows_but_without_zarr_json_is_not_garbage(root: str):
    with writable_store(root) as store:
        store.write_shard(0, random_rows(0), whole_status())
    damage(store.location, "zarr.json", None)
    assert list_garbage(root) == []


def test_removes_leases_and_runs_without_a_store(root: str):
    with writable_store(root) as store:
        write_run(store, {})
    delete_store(store.location)
    assert [reason for _, reason in list_garbage(root)] == [
        "runs of a store that does not exist",
        "leases of a store that does not exist",
    ]
    assert remove_all_garbage(root) == 2
    assert list_garbage(root) == []


def test_removes_only_shards_beyond_the_end(root: str):
    with writable_store(root) as store:
        for shard, count in enumerate((4, 4, 2)):
            store.write_shard(shard, random_rows(shard, count), whole_status(count))
    store_root, key = store.location.root, store.location.key
    for name in ("embedding/c/3/0", "status/c/7", "record_id/c/1"):
        store_root.write(f"{key}/{name}", b"123")
    assert sorted(key for key, _ in list_garbage(root)) == [
        f"dlinear/{store_identity(root)}/{name}"
        for name in ("embedding/c/3", "record_id/c/1", "status/c/7")
    ]
    assert [item.size_bytes for item in find_garbage(locate(root))] == [3, 3, 3]
    with acquire(leases_folder(store.location)):
        assert list_garbage(root) == []
    assert remove_all_garbage(root) == 3
    assert verify(open_store(store.location)).whole == 10


def test_keeps_shards_of_a_store_that_grew_since_the_listing(root: str):
    with writable_store(root) as store:
        pass
    # Simulate a listing from before the store grew.
    store.location.root.write(f"{store.location.key}/embedding/c/3/0", b"123")
    found = find_garbage(locate(root))
    assert len(found) == 1
    damage(store.location, "embedding/c/3/0", None)
    with writable_store(root, range(16)) as grown:
        grown.write_shard(3, random_rows(3), whole_status())
    assert list(remove_garbage(found)) == []
    np.testing.assert_array_equal(
        open_store(store.location).read(np.arange(12, 16)), random_rows(3)
    )


def test_keeps_partial_file_that_was_written_since_the_listing(tmp_path: Path):
    with writable_store(tmp_path) as store:
        write_run(store, {})
    partial = runs_folder(store.location).path / "0123.partial"
    partial.write_bytes(b"1")
    os.utime(partial, (time.time() - 7200,) * 2)
    found = find_garbage(locate(tmp_path))
    assert [item.needs_lease for item in found] == [False]
    partial.write_bytes(b"12")
    assert list(remove_garbage(found)) == []
    assert partial.exists()


def test_partial_file_with_a_numeric_name_does_not_affect_the_lease(tmp_path: Path):
    with writable_store(tmp_path) as store:
        folder = leases_folder(store.location).path
        (folder / "12345678abcdef0123456789abcdef01.partial").write_bytes(b"")
        assert list_garbage(tmp_path) == []
        store.write_shard(0, random_rows(0), whole_status())


def test_removes_staging_folder_that_the_next_holder_could_not_delete(tmp_path: Path):
    with writable_store(tmp_path) as store:
        cleared = leases_folder(store.location).path / "0123456789abcdef.cleared"
        cleared.mkdir()
        (cleared / "x.partial").write_bytes(b"123")
        assert [item.size_bytes for item in find_garbage(locate(tmp_path))] == [3]
        assert remove_all_garbage(tmp_path) == 1
        assert not cleared.exists()
        store.write_shard(0, random_rows(0), whole_status())


def test_keeps_staging_folder_created_during_removal(root: str, monkeypatch: pytest.MonkeyPatch):
    with writable_store(root) as store:
        write_run(store, {})
    delete_store(store.location)
    store_root, folder = store.location.root, leases_folder(store.location)
    found = find_garbage(locate(root))
    original_delete, begun = type(store_root).delete, []

    def begin_before_delete(self: object, key: str) -> None:
        if "/runs/" in key and not begun:
            begun.append(Ticket(folder, 3, "a" * 12))
            store_root.write(f"{begun[0].staging.key}/x.partial", b"1")
        original_delete(self, key)

    monkeypatch.setattr(type(store_root), "delete", begin_before_delete)
    with writable_store(root, dtype="float32"):
        assert len(list(remove_garbage(found))) == 2
    assert begun
    assert [staging.name for staging in folder.folders()] == [begun[0].staging.name]
    with acquire(folder, heartbeat_seconds=0.1) as lease:
        assert list(remove_garbage(found)) == []
        lease.ticket.check()


def test_removes_partial_files_after_an_hour(tmp_path: Path):
    with writable_store(tmp_path) as store:
        write_run(store, {})
    old, new = (store.location.path / name / "0123.partial" for name in ("embedding", "status"))
    for path in (old, new):
        path.write_bytes(b"1")
    os.utime(old, (time.time() - 7200,) * 2)
    assert [key for key, _ in list_garbage(tmp_path)] == [
        f"dlinear/{store_identity(tmp_path)}/embedding/0123.partial"
    ]
    assert remove_all_garbage(tmp_path) == 1
    assert (old.exists(), new.exists()) == (False, True)
    assert len(open_stores(tmp_path).stores) == 1
