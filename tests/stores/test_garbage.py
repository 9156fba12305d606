"""What interrupted writers left is removed; what is or may be in use is kept."""

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conformance.store_tests import PROVENANCE, damage, make, rows, whole

from stores.garbage import find_garbage, remove_garbage
from stores.layout import leases_folder, store_location
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


def listed(root: str | Path) -> list[tuple[str, str]]:
    """Return the key below the data set and the reason of each garbage item."""
    start = f"{(locate(root) / 'ludb' / '1.0.1').key}/"
    return [
        (item.location.key.removeprefix(start), item.reason) for item in find_garbage(locate(root))
    ]


def clean(root: str | Path) -> int:
    """Remove all garbage; return the number of items."""
    return len(list(remove_garbage(find_garbage(locate(root)))))


def identity(root: str | Path) -> str:
    return store_location(root, PROVENANCE).name


def leave_lease(folder: Location, number: int) -> None:
    """Write a lease and its staging folder as a killed process of this machine leaves them."""
    holder = replace(LeaseRecord.for_this_process(45.0), process=2**22 + 1, token="f" * 12)
    folder.root.write(f"{folder.key}/{number:08d}.json", holder.json())
    folder.root.write(f"{folder.key}/{number:08d}-{holder.token}/x.partial", b"12345")


def delete_store(store: Location) -> None:
    for key, _ in list(store.root.sizes(store.key)):
        store.root.delete(key)
    store.root.remove_staging(store.key)  # the empty folders


def test_clean_root_has_no_garbage(root: str):
    with make(root) as store:
        store.write_shard(0, rows(0), whole())
        write_run(store, {})
        assert listed(root) == []
    assert listed(root) == []


def test_removes_staging_folder_of_an_ended_writer_and_keeps_its_rows(root: str):
    with make(root) as store:
        store.write_shard(0, rows(0), whole())
    leave_lease(leases_folder(store.location), 9)
    (found,) = [item for item in find_garbage(locate(root)) if item.is_folder]
    assert (found.size_bytes, found.reason) == (
        5,
        "staging folder of a writer that no longer holds the lease",
    )
    assert clean(root) == 2  # with the lease that it superseded
    assert listed(root) == []
    assert verify(open_store(store.location)).whole == 4


def test_keeps_staging_folder_of_a_running_writer(tmp_path: Path):
    with make(tmp_path):
        pass
    with make(tmp_path) as store:
        assert store.ticket is not None
        staging = store.ticket.staging
        staging.root.write(f"{staging.key}/x.partial", b"12345")
        leave_lease(leases_folder(store.location), 1)
        assert [key for key, _ in listed(tmp_path)] == [
            f"leases/dlinear/{identity(tmp_path)}/00000001{end}"
            for end in (".json", "-ffffffffffff")
        ]
        assert clean(tmp_path) == 2
        store.write_shard(0, rows(0), whole())
    assert open_store(store.location).status(0).tolist() == [1, 1, 1, 1]


def test_writer_on_another_machine_counts_as_running(tmp_path: Path):
    with make(tmp_path) as store:
        pass
    folder = leases_folder(store.location)
    holder = replace(
        LeaseRecord.for_this_process(45.0), machine="elsewhere", process=1, token="a" * 12
    )
    folder.root.write(f"{folder.key}/00000009.json", holder.json())
    folder.root.write(f"{folder.key}/00000009-{holder.token}/x.partial", b"1")
    # Another process is about to take the lease.
    folder.root.write(f"{folder.key}/00000010-bbbbbbbbbbbb/x.partial", b"1")
    assert listed(tmp_path) == [
        (
            f"leases/dlinear/{identity(tmp_path)}/00000001.json",
            "a lease that was superseded by another",
        )
    ]


def test_removes_interrupted_creation_with_its_lease(root: str):
    with make(root) as store:
        pass
    damage(store.location, "zarr.json", None)
    name = identity(root)
    assert [key for key, _ in listed(root)] == [f"dlinear/{name}", f"leases/dlinear/{name}"]
    with acquire(leases_folder(store.location)):
        assert listed(root) == []
    assert clean(root) == 2
    assert [key for key, _ in locate(root).root.sizes(locate(root).key)] == []


def test_store_with_rows_but_without_zarr_json_is_not_garbage(root: str):
    with make(root) as store:
        store.write_shard(0, rows(0), whole())
    damage(store.location, "zarr.json", None)
    assert listed(root) == []


def test_removes_leases_and_runs_without_a_store(root: str):
    with make(root) as store:
        write_run(store, {})
    delete_store(store.location)
    assert [reason for _, reason in listed(root)] == [
        "runs of a store that does not exist",
        "leases of a store that does not exist",
    ]
    assert clean(root) == 2
    assert listed(root) == []


def test_removes_only_shards_beyond_the_end(root: str):
    with make(root) as store:
        for shard, count in enumerate((4, 4, 2)):
            store.write_shard(shard, rows(shard, count), whole(count))
    store_root, key = store.location.root, store.location.key
    for name in ("embedding/c/3/0", "status/c/7", "record_id/c/1"):
        store_root.write(f"{key}/{name}", b"123")
    assert sorted(key for key, _ in listed(root)) == [
        f"dlinear/{identity(root)}/{name}"
        for name in ("embedding/c/3", "record_id/c/1", "status/c/7")
    ]
    assert [item.size_bytes for item in find_garbage(locate(root))] == [3, 3, 3]
    with acquire(leases_folder(store.location)):
        assert listed(root) == []
    assert clean(root) == 3
    assert verify(open_store(store.location)).whole == 10


def test_keeps_shards_of_a_store_that_grew_since_the_listing(root: str):
    with make(root) as store:
        pass
    # As if it had been listed before the store grew.
    store.location.root.write(f"{store.location.key}/embedding/c/3/0", b"123")
    found = find_garbage(locate(root))
    assert len(found) == 1
    damage(store.location, "embedding/c/3/0", None)
    with make(root, range(16)) as grown:
        grown.write_shard(3, rows(3), whole())
    assert list(remove_garbage(found)) == []
    np.testing.assert_array_equal(open_store(store.location).read(np.arange(12, 16)), rows(3))


def test_partial_file_with_a_numeric_name_does_not_affect_the_lease(tmp_path: Path):
    with make(tmp_path) as store:
        folder = leases_folder(store.location).path
        (folder / "12345678abcdef0123456789abcdef01.partial").write_bytes(b"")
        assert listed(tmp_path) == []
        store.write_shard(0, rows(0), whole())


def test_removes_staging_folder_that_the_next_holder_could_not_delete(tmp_path: Path):
    with make(tmp_path) as store:
        cleared = leases_folder(store.location).path / "0123456789abcdef.cleared"
        cleared.mkdir()
        (cleared / "x.partial").write_bytes(b"123")
        assert [item.size_bytes for item in find_garbage(locate(tmp_path))] == [3]
        assert clean(tmp_path) == 1
        assert not cleared.exists()
        store.write_shard(0, rows(0), whole())


def test_keeps_staging_folder_created_during_removal(root: str, monkeypatch: pytest.MonkeyPatch):
    with make(root) as store:
        write_run(store, {})
    delete_store(store.location)
    store_root, folder = store.location.root, leases_folder(store.location)
    found = find_garbage(locate(root))
    true_delete, begun = type(store_root).delete, []

    def begin_before_delete(self: object, key: str) -> None:
        if "/runs/" in key and not begun:
            begun.append(Ticket(folder, 3, "a" * 12))
            store_root.write(f"{begun[0].staging.key}/x.partial", b"1")
        true_delete(self, key)

    monkeypatch.setattr(type(store_root), "delete", begin_before_delete)
    with make(root, dtype="float32"):
        assert len(list(remove_garbage(found))) == 2
    assert begun
    assert [staging.name for staging in folder.folders()] == [begun[0].staging.name]
    with acquire(folder, heartbeat_seconds=0.1) as held:
        assert list(remove_garbage(found)) == []
        held.ticket.check()


def test_removes_partial_files_after_an_hour(tmp_path: Path):
    with make(tmp_path) as store:
        write_run(store, {})
    old, new = (store.location.path / name / "0123.partial" for name in ("embedding", "status"))
    for path in (old, new):
        path.write_bytes(b"1")
    os.utime(old, (time.time() - 7200,) * 2)
    assert [key for key, _ in listed(tmp_path)] == [
        f"dlinear/{identity(tmp_path)}/embedding/0123.partial"
    ]
    assert clean(tmp_path) == 1
    assert (old.exists(), new.exists()) == (False, True)
    assert len(open_stores(tmp_path).stores) == 1
