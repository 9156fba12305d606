"""What nobody uses may go; what somebody uses, or may use, stays."""

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
    """What may go, by its key below the data set, and why."""
    start = f"{(locate(root) / 'ludb' / '1.0.1').key}/"
    return [
        (one.location.key.removeprefix(start), one.reason) for one in find_garbage(locate(root))
    ]


def cleaned(root: str | Path) -> int:
    return len(list(remove_garbage(find_garbage(locate(root)))))


def identity(root: str | Path) -> str:
    return store_location(root, PROVENANCE).name


def left_by_the_dead(folder: Location, number: int, *, released: bool = False) -> None:
    """A lease and its staging folder, as a killed process of this machine leaves them."""
    holder = replace(
        LeaseRecord.for_this_process(45.0), process=2**22 + 1, released=released, token="f" * 12
    )
    folder.root.write(f"{folder.key}/{number:08d}.json", holder.json())
    folder.root.write(f"{folder.key}/{number:08d}-{holder.token}/x.partial", b"12345")


def test_clean_root_has_no_garbage(root: str):
    with make(root) as store:
        store.write_shard(0, rows(0), whole())
        write_run(store, {})
        assert listed(root) == []
    assert listed(root) == []


def test_removes_staging_folder_of_an_ended_writer_and_keeps_its_rows(root: str):
    with make(root) as store:
        store.write_shard(0, rows(0), whole())
    left_by_the_dead(leases_folder(store.location), 9)
    (found,) = [one for one in find_garbage(locate(root)) if one.is_folder]
    assert (found.size_bytes, found.reason) == (
        5,
        "staging folder of a writer that no longer has the lease",
    )
    assert cleaned(root) == 2  # and the lease before, which was followed by that of the dead
    assert listed(root) == []
    assert verify(open_store(store.location)).whole == 4


def test_keeps_staging_folder_of_a_running_writer(tmp_path: Path):
    with make(tmp_path):
        pass
    with make(tmp_path) as store:
        assert store.ticket is not None
        aside = store.ticket.staging
        aside.root.write(f"{aside.key}/x.partial", b"12345")
        left_by_the_dead(leases_folder(store.location), 1)
        assert [key for key, _ in listed(tmp_path)] == [
            f"leases/dlinear/{identity(tmp_path)}/00000001{end}"
            for end in (".json", "-ffffffffffff")
        ]
        assert cleaned(tmp_path) == 2
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
    # And one that is just about to take the lease.
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
    assert cleaned(root) == 2
    assert [key for key, _ in locate(root).root.sizes(locate(root).key)] == []


def test_store_with_rows_but_without_zarr_json_is_not_garbage(root: str):
    with make(root) as store:
        store.write_shard(0, rows(0), whole())
    damage(store.location, "zarr.json", None)
    assert listed(root) == []


def test_removes_leases_and_runs_without_a_store(root: str):
    with make(root) as store:
        write_run(store, {})
    place = locate(root).root
    for key, _ in list(place.sizes(store.location.key)):
        place.delete(key)
    place.remove_staging(store.location.key)
    assert [why for _, why in listed(root)] == [
        "runs of a store that does not exist",
        "leases of a store that does not exist",
    ]
    assert cleaned(root) == 2
    assert listed(root) == []


def test_removes_only_shards_beyond_the_end(root: str):
    with make(root) as store:
        for shard, count in enumerate((4, 4, 2)):
            store.write_shard(shard, rows(shard, count), whole(count))
    place, key = store.location.root, store.location.key
    for name in ("embedding/c/3/0", "status/c/7", "record_id/c/1"):
        place.write(f"{key}/{name}", b"123")
    assert sorted(key for key, _ in listed(root)) == [
        f"dlinear/{identity(root)}/{name}"
        for name in ("embedding/c/3", "record_id/c/1", "status/c/7")
    ]
    assert [one.size_bytes for one in find_garbage(locate(root))] == [3, 3, 3]
    with acquire(leases_folder(store.location)):
        assert listed(root) == []
    assert cleaned(root) == 3
    assert verify(open_store(store.location)).whole == 10


def test_keeps_shards_of_a_store_that_grew_since_the_listing(root: str):
    with make(root) as store:
        pass
    # As a listing sees it that was made before the store grew.
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
        (
            leases_folder(store.location).path / "12345678abcdef0123456789abcdef01.partial"
        ).write_bytes(b"")
        assert listed(tmp_path) == []
        store.write_shard(0, rows(0), whole())


def test_removes_staging_folder_that_the_next_holder_could_not_delete(tmp_path: Path):
    with make(tmp_path) as store:
        away = leases_folder(store.location).path / "0123456789abcdef.cleared"
        away.mkdir()
        (away / "x.partial").write_bytes(b"123")
        assert [one.size_bytes for one in find_garbage(locate(tmp_path))] == [3]
        assert cleaned(tmp_path) == 1
        assert not away.exists()
        store.write_shard(0, rows(0), whole())


def test_keeps_staging_folder_created_during_removal(root: str, monkeypatch: pytest.MonkeyPatch):
    with make(root) as store:
        write_run(store, {})
    place, folder = locate(root).root, leases_folder(store.location)
    for key, _ in list(place.sizes(store.location.key)):
        place.delete(key)
    place.remove_staging(store.location.key)
    found = find_garbage(locate(root))
    true_delete, begun = type(place).delete, []

    def overtaken(self: object, key: str) -> None:
        if "/runs/" in key and not begun:
            begun.append(Ticket(folder, 3, "a" * 12))
            place.write(f"{begun[0].staging.key}/x.partial", b"1")
        true_delete(self, key)

    monkeypatch.setattr(type(place), "delete", overtaken)
    with make(root, dtype="float32"):
        assert len(list(remove_garbage(found))) == 2
    assert begun
    assert [one.name for one in folder.folders()] == [begun[0].staging.name]
    with acquire(folder, heartbeat_seconds=0.1) as held:
        assert list(remove_garbage(found)) == []
        held.ticket.check()


def test_removes_partial_files_after_an_hour(tmp_path: Path):
    with make(tmp_path) as store:
        write_run(store, {})
    old, young = ("embedding", "status")
    paths = []
    for name in (old, young):
        path = store.location.path / name / "0123.partial"
        path.write_bytes(b"1")
        paths.append(path)
    os.utime(paths[0], (time.time() - 7200,) * 2)
    assert [key for key, _ in listed(tmp_path)] == [
        f"dlinear/{identity(tmp_path)}/embedding/0123.partial"
    ]
    assert cleaned(tmp_path) == 1
    assert [path.exists() for path in paths] == [False, True]
    assert len(open_stores(tmp_path).stores) == 1
