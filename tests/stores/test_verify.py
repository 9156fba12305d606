"""Verification reports damage, and repair removes only damaged rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance.store_tests import PROVENANCE, damage, random_rows, whole_status, writable_store

from stores import creation
from stores import verify as verify_module
from stores.creation import open_for_writing
from stores.embeddings import EmbeddingStore
from stores.errors import StoreError
from stores.layout import leases_folder
from stores.lease import LeaseHeld, acquire
from stores.opening import open_store
from stores.verify import repair_store, verify

Change = Callable[[bytes], bytes]

DAMAGES: dict[str, Change] = {
    "a flipped bit": lambda value: bytes([value[0] ^ 1]) + value[1:],
    "a flipped bit at the end": lambda value: value[:-1] + bytes([value[-1] ^ 1]),
    "cut in half": lambda value: value[: len(value) // 2],
    "empty": lambda value: b"",
    "zeros": lambda value: bytes(len(value)),
    "longer": lambda value: value + b"xx",
}


def damages(*shards: int) -> list[Any]:
    """Return test parameters: root, shard and kind of damage.

    On S3, all kinds except one are marked as slow, because damage is detected after the bytes are
    read, independently of the root.
    """
    return [
        pytest.param(
            root,
            shard,
            kind,
            marks=[] if root == "disk" or kind == "cut in half" else pytest.mark.slow,
        )
        for root in ("disk", "s3")
        for shard in shards
        for kind in DAMAGES
    ]


@pytest.fixture(params=["disk", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.getfixturevalue("s3_root")) if request.param == "s3" else str(tmp_path)


def fill(root: str) -> EmbeddingStore:
    """Create a store with ten rows in shards of 4, 4 and 2; row 5 failed, the others are whole."""
    with writable_store(root) as store:
        for shard, count in enumerate((4, 4, 2)):
            status = whole_status(count)
            status[1] = 3 if shard == 1 else 1
            data = np.where((status == 1)[:, None], random_rows(shard, count), np.float16("nan"))
            store.write_shard(shard, data, status)
    return open_store(store.location)


def change(store: EmbeddingStore, key: str, function: Change) -> None:
    value = (store.location / key).read()
    assert value is not None
    damage(store.location, key, function(value))


def messages(store: EmbeddingStore) -> list[str]:
    return [str(finding) for finding in verify(open_store(store.location)).findings]


def test_intact_store_has_no_findings(root: str):
    steps: list[tuple[int, int]] = []
    found = verify(fill(root), progress=lambda done, total: steps.append((done, total)))
    assert (found.intact, found.findings) == (True, ())
    assert (found.rows, found.shards, found.whole) == (10, 3, 9)
    assert steps == [(4, 10), (8, 10), (10, 10)]


@pytest.mark.parametrize(("root", "shard", "kind"), damages(0, 2), indirect=["root"])
def test_repair_sets_damaged_rows_to_absent_so_that_they_can_be_rewritten(
    root: str, shard: int, kind: str
):
    store = fill(root)
    lost = range(4) if shard == 0 else range(8, 10)
    change(store, f"embedding/c/{shard}/0", DAMAGES[kind])
    found = verify(open_store(store.location))
    assert not found.intact
    assert [(finding.shard, finding.rows) for finding in found.findings] == [(shard, len(lost))]
    assert repair_store(store.location).intact
    again = open_store(store.location)
    assert verify(again).findings == ()
    expected = np.array([1, 1, 1, 1, 1, 3, 1, 1, 1, 1], np.uint8)
    expected[list(lost)] = 0
    assert again.status().tolist() == expected.tolist()
    assert np.isnan(again.read_shard(shard)).all()
    with writable_store(root) as writable:
        writable.track_shard(shard)
        writable.write_shard(shard, random_rows(shard, len(lost)), whole_status(len(lost)))
    np.testing.assert_array_equal(
        open_store(store.location).read(np.array(lost)), random_rows(shard, len(lost))
    )


def test_repair_sets_rows_of_a_missing_shard_to_absent(root: str):
    store = fill(root)
    damage(store.location, "embedding/c/1/0", None)
    assert messages(store) == ["shard 1: the file of 3 rows with status whole is missing"]
    assert repair_store(store.location).intact
    assert open_store(store.location).status(1).tolist() == [0, 3, 0, 0]


@pytest.mark.parametrize(("root", "shard", "kind"), damages(1), indirect=["root"])
def test_repair_restores_damaged_status_from_data(root: str, shard: int, kind: str):
    store = fill(root)
    change(store, f"status/c/{shard}", DAMAGES[kind])
    assert messages(store) == [f"shard {shard}: status does not match its checksum"]
    assert repair_store(store.location).intact
    again = open_store(store.location)
    assert again.status().tolist() == [1, 1, 1, 1, 1, 0, 1, 1, 1, 1]
    np.testing.assert_array_equal(again.read(np.array([4])), random_rows(1)[:1])


def test_repair_keeps_intact_chunks_of_a_damaged_shard(root: str):
    provenance = PROVENANCE | {"dtype": "float32"}
    ids, data = np.arange(1000), np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    options = {"features": 3, "dtype": "float32", "reasons": [], "shard_rows": 1024}
    with open_for_writing(root, provenance, record_id=ids, **options) as store:
        store.write_shard(0, data, whole_status(1000))
    second_chunk = 512 * 3 * 4 + 4
    change(store, "embedding/c/0/0", lambda value: flip_bit(value, second_chunk + 17))
    assert messages(store) == ["shard 0: 488 rows in chunks that do not match their checksum"]
    assert repair_store(store.location).whole == 512
    again = open_store(store.location)
    kept = np.arange(512)
    assert np.flatnonzero(again.status()).tolist() == kept.tolist()
    np.testing.assert_array_equal(again.read(kept), data[kept])


def flip_bit(value: bytes, position: int) -> bytes:
    return value[:position] + bytes([value[position] ^ 1]) + value[position + 1 :]


def overwrite(store: EmbeddingStore, name: str, rows: slice, value: object) -> None:
    """Overwrite rows of an array through zarr, with a valid checksum."""
    with acquire(leases_folder(store.location)) as lease:
        writable = open_store(store.location, lease.ticket)
        chunk = "c/0/0" if name == "embedding" else "c/0"
        writable.writer.track_version(f"{store.location.key}/{name}/{chunk}")
        writable.array(name)[rows] = value


def test_row_with_infinite_values_is_reported_and_set_to_absent_by_repair(root: str):
    store = fill(root)
    overwrite(store, "embedding", slice(2, 3), np.inf)
    assert messages(store) == ["shard 0: 1 row with status whole but with NaN or infinity"]
    assert repair_store(store.location).intact
    assert open_store(store.location).status(0).tolist() == [1, 1, 0, 1]


def test_undefined_status_is_reported_and_restored_by_repair(root: str):
    store = fill(root)
    overwrite(store, "status", slice(2, 3), 77)
    assert messages(store) == ["shard 0: 1 row with an undefined status"]
    assert repair_store(store.location).intact
    assert open_store(store.location).status(0).tolist() == [1, 1, 1, 1]


def test_partial_data_of_a_row_that_is_not_whole_is_reported_and_removed_by_repair(root: str):
    store = fill(root)
    partial = np.full((1, 8), np.nan, np.float16)
    partial[0, 0] = 1
    overwrite(store, "embedding", slice(2, 3), partial)
    overwrite(store, "status", slice(2, 3), 2)
    assert messages(store) == ["shard 0: 1 row with partial data whose status is not whole"]
    assert repair_store(store.location).intact
    assert open_store(store.location).status(0).tolist() == [1, 1, 2, 1]
    assert np.isnan(open_store(store.location).read_shard(0)[2]).all()


def test_data_without_status_is_harmless_and_marked_whole_by_repair(root: str):
    store = fill(root)
    overwrite(store, "status", slice(2, 3), 0)
    found = verify(open_store(store.location))
    assert found.intact
    assert [finding.harmless for finding in found.findings] == [True]
    repair_store(store.location)
    assert open_store(store.location).status(0).tolist() == [1, 1, 1, 1]


def test_damaged_record_ids_are_reported_but_not_repaired(root: str):
    store = fill(root)
    overwrite(store, "record_id", slice(2, 3), 7)
    assert messages(store)[0].startswith("1 record ids are duplicates")
    overwrite(store, "record_id", slice(2, 3), -1)
    assert messages(store)[0].startswith("record_id has a gap at row 2")
    change(store, "record_id/c/0", DAMAGES["a flipped bit"])
    assert messages(store)[0].startswith("record_id does not match its checksum")
    assert not repair_store(store.location).intact
    damage(store.location, "record_id/c/0", None)
    assert messages(store)[0].startswith("10 rows contain embeddings but have no record id")


def test_ids_after_a_gap_of_an_interrupted_growth_are_harmless(
    root: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(creation, "RECORD_ID_CHUNK_ROWS", 4)
    store = fill(root)
    with writable_store(root, range(20)):
        pass
    damage(store.location, "record_id/c/3", None)
    found = verify(open_store(store.location))
    assert (found.intact, found.rows) == (True, 12)
    assert messages(store) == ["adding 8 rows is incomplete; the next extraction completes it"]
    with writable_store(root, range(20)) as grown:
        grown.write_shard(4, random_rows(4), whole_status())
    assert messages(store) == []
    damage(store.location, "record_id/c/3", None)
    assert messages(store)[0].startswith("record_id has a gap at row 12, followed by more ids")


def test_store_opened_during_growth_is_intact(root: str):
    store = fill(root)
    early = open_store(store.location)
    arrays = {"embedding": early.group["embedding"]}
    with writable_store(root, range(20)) as grown:
        grown.write_shard(4, random_rows(4), whole_status())
    # Simulate a reader that opens one array before the growth and the others after it.
    arrays |= {name: early.group[name] for name in ("status", "record_id")}
    early.__dict__["_arrays"] = arrays
    assert len(early.record_id) == 10
    found = verify(early)
    assert (found.intact, found.findings, found.whole) == (True, (), 13)


def test_repair_succeeds_despite_a_stale_writer(s3_root: str, monkeypatch: pytest.MonkeyPatch):
    store = fill(s3_root)
    change(store, "embedding/c/0/0", DAMAGES["a flipped bit"])
    stale_lease = acquire(leases_folder(store.location), heartbeat_seconds=3600, expire_seconds=0.1)
    stale = open_store(store.location, stale_lease.ticket)
    stale.track_shard(0)
    original_repair, writes = verify_module._repair_shard, []

    def repair_after_stale_write(*arguments: Any) -> Any:
        if not writes:
            writes.append(stale.put_data(0, random_rows(0)))
        return original_repair(*arguments)

    monkeypatch.setattr(verify_module, "_repair_shard", repair_after_stale_write)
    assert repair_store(store.location).intact
    assert open_store(store.location).status(0).tolist() == [1, 1, 1, 1]


def test_repair_raises_if_another_process_holds_the_lease(root: str):
    store = fill(root)
    change(store, "embedding/c/0/0", DAMAGES["zeros"])
    with (
        acquire(leases_folder(store.location), heartbeat_seconds=0.2),
        pytest.raises(LeaseHeld, match="being written by"),
    ):
        repair_store(store.location)
    assert open_store(store.location).status(0).tolist() == [1, 1, 1, 1]


def test_verification_does_not_modify_the_store(root: str):
    store = fill(root)
    change(store, "embedding/c/0/0", DAMAGES["zeros"])
    with pytest.raises(ValueError, match="reading only"):
        verify(store, repair=True)
    before = contents(store)
    verify(open_store(store.location))
    assert contents(store) == before


def contents(store: EmbeddingStore) -> dict[str, bytes | None]:
    root = store.location.root
    return {key: root.read(key) for key, _ in root.sizes(store.location.key)}


def test_repair_writes_status_before_data(root: str, monkeypatch: pytest.MonkeyPatch):
    store = fill(root)
    change(store, "embedding/c/0/0", DAMAGES["a flipped bit"])
    writer = type(open_store(store.location).location.root.zarr_writer("aside"))
    original_put = writer.put

    def interrupt(self: object, key: str, value: object) -> None:
        if "/embedding/" in key:
            raise KeyboardInterrupt
        original_put(self, key, value)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "put", interrupt)
        with pytest.raises(KeyboardInterrupt):
            repair_store(store.location)
    assert open_store(store.location).status(0).tolist() == [0, 0, 0, 0]
    assert repair_store(store.location).intact
    with pytest.raises(StoreError, match="has NaN or infinity in"):
        open_store(store.location).read(np.array([0]))
