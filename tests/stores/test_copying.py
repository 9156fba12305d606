"""Copies join rows by record id, resume, and include leads and run records."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance.store_tests import (
    LAYOUT,
    PROVENANCE,
    damage,
    random_rows,
    whole_status,
    writable_store,
)

from stores.copying import CopyResult, copy_stores, select_stores
from stores.creation import open_for_writing
from stores.embeddings import EmbeddingStore
from stores.errors import StoreError
from stores.layout import leases_folder, store_location
from stores.lease import LeaseHeld, acquire
from stores.locate import locate
from stores.opening import open_store, open_stores, resolve
from stores.runs import read_runs, write_run


@pytest.fixture(params=["disk to disk", "disk to s3", "s3 to disk"])
def roots(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    source, _, target = request.param.split()
    names = {"disk": lambda name: str(tmp_path / name)}
    names["s3"] = lambda name: f"{request.getfixturevalue('s3_root')}/{name}"
    return names[source]("source"), names[target]("target")


def fill(root: str, record_id: Any = range(10), **provenance: Any) -> EmbeddingStore:
    """Create a store with embeddings that depend on the record id.

    Record 5 has failed, and record 9 is absent.
    """
    with writable_store(root, record_id, **provenance) as store:
        for shard in range(store.shards):
            ids = store.record_id[store.shard_slice(shard)]
            status = np.ones(len(ids), np.uint8)
            status[ids == 5] = 3
            status[ids == 9] = 0
            store.write_shard(shard, embeddings(ids, status), status)
    return open_store(store.location)


def embeddings(ids: np.ndarray, status: np.ndarray | None = None) -> np.ndarray:
    values = np.stack([np.random.default_rng(record).normal(size=8) for record in ids.tolist()])
    is_whole = np.ones(len(ids), bool) if status is None else status == 1
    return np.where(is_whole[:, None], values, np.nan).astype(np.float16)


def run_copy(source: str, target: str, **selection: Any) -> list[CopyResult]:
    stores = select_stores(resolve(source), reference="leads", **selection)
    return list(copy_stores(stores, locate(target), reference="leads"))


def test_copies_rows_status_provenance_and_run_records(roots: tuple[str, str]):
    source = fill(roots[0])
    write_run(source, {"device": "cpu"})
    (done,) = run_copy(*roots)
    assert (done.whole, done.failed, done.already_present) == (8, 1, 0)
    (target,) = open_stores(roots[1]).stores
    assert target.provenance == source.provenance
    assert target.record_id.tolist() == source.record_id.tolist()
    assert target.status().tolist() == source.status().tolist()
    for shard in range(source.shards):
        np.testing.assert_array_equal(target.read_shard(shard), source.read_shard(shard))
    assert read_runs(target) == [{"device": "cpu"}]
    (again,) = run_copy(*roots)
    assert (again.whole, again.failed, again.already_present) == (0, 0, 9)
    assert len(read_runs(target)) == 1


def test_joins_rows_by_record_id(roots: tuple[str, str]):
    fill(roots[0])
    with writable_store(roots[1], [12, 3, 9, 5, 0, 11]) as target:
        target.write_shard(0, random_rows(0), np.array([1, 0, 1, 0], np.uint8))
    (done,) = run_copy(*roots)
    after = open_store(target.location)
    assert (done.whole, done.failed) == (8, 1)
    assert after.record_id.tolist() == [12, 3, 9, 5, 0, 11, 1, 2, 4, 6, 7, 8]
    assert after.status().tolist() == [1, 1, 1, 3, 1, 0, 1, 1, 1, 1, 1, 1]
    copied = np.array([1, 4, 6, 7, 8, 9, 10, 11])
    np.testing.assert_array_equal(after.read(copied), embeddings(after.record_id[copied]))
    # The target keeps its own rows.
    np.testing.assert_array_equal(after.read(np.array([0, 2])), random_rows(0)[[0, 2]])


def test_interrupted_copy_resumes(roots: tuple[str, str], monkeypatch: pytest.MonkeyPatch):
    fill(roots[0])
    original_write, written = EmbeddingStore.write_shard, []

    def interrupt(self: EmbeddingStore, shard: int, *arguments: Any) -> None:
        if shard == 1:
            raise KeyboardInterrupt
        original_write(self, shard, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingStore, "write_shard", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_copy(*roots)

    def record_shard(self: EmbeddingStore, shard: int, *arguments: Any) -> None:
        written.append(shard)
        original_write(self, shard, *arguments)

    monkeypatch.setattr(EmbeddingStore, "write_shard", record_shard)
    (done,) = run_copy(*roots)
    assert written == [1, 2]
    assert (done.whole, done.already_present) == (4, 4)


def test_also_copies_leads_and_uses_the_row_order_of_the_target_leads(
    roots: tuple[str, str],
):
    shuffled = [7, 3, 0, 1, 2, 4, 5, 6, 8, 9]
    fill(roots[0], expert="leads")
    fill(roots[0])
    fill(roots[0], expert="tempo")
    # The target's leads have another row order, and one more record.
    fill(roots[1], [*shuffled, 77], expert="leads")
    done = run_copy(*roots, experts=["dlinear"])
    assert [result.location.parent.name for result in done] == ["leads", "dlinear"]
    target = {store.location.parent.name: store for store in open_stores(roots[1]).stores}
    assert sorted(target) == ["dlinear", "leads"]
    assert target["dlinear"].record_id.tolist() == [*shuffled, 77]
    np.testing.assert_array_equal(
        target["dlinear"].read(np.arange(3)), embeddings(np.array([7, 3, 0]))
    )


def test_prefers_the_row_order_of_leads_with_the_same_dtype(tmp_path: Path):
    fill(str(tmp_path / "a"))
    fill(str(tmp_path / "b"), [9, 8], expert="leads", dtype="float32")
    fill(str(tmp_path / "b"), [5, 6, 7], expert="leads")
    fill(str(tmp_path / "b"), [3, 2], expert="leads", dtype="bfloat16")
    run_copy(str(tmp_path / "a"), str(tmp_path / "b"))
    (copied,) = [
        store for store in open_stores(tmp_path / "b").stores if "/dlinear/" in str(store.location)
    ]
    assert copied.record_id.tolist() == [5, 6, 7, 0, 1, 2, 3, 4, 8, 9]


def test_copying_one_store_by_url_also_copies_its_leads(roots: tuple[str, str]):
    fill(roots[0], expert="leads")
    fill(roots[0], expert="tempo")
    only = fill(roots[0])
    done = run_copy(str(only.location), roots[1])
    assert [result.location.parent.name for result in done] == ["leads", "dlinear"]


def test_unknown_selection_or_root_and_identical_roots_raise_store_error(tmp_path: Path):
    fill(str(tmp_path / "a"))
    with pytest.raises(StoreError, match=r"available are ludb/1\.0\.1 dlinear"):
        run_copy(str(tmp_path / "a"), str(tmp_path / "b"), experts=["moment"])
    with pytest.raises(StoreError, match=r"available are ludb/1\.0\.1 dlinear"):
        run_copy(str(tmp_path / "a"), str(tmp_path / "b"), datasets=["ludb/2"])
    with pytest.raises(StoreError, match="There are no stores below"):
        run_copy(str(tmp_path / "nowhere"), str(tmp_path / "b"))
    with pytest.raises(StoreError, match="both source and target"):
        run_copy(str(tmp_path / "a"), str(tmp_path / "a"))
    assert not (tmp_path / "b").exists()


def test_skips_and_reports_damaged_rows(roots: tuple[str, str]):
    source = fill(roots[0])
    shard = bytearray((source.location / "embedding/c/0/0").read() or b"")
    shard[5] ^= 1
    damage(source.location, "embedding/c/0/0", bytes(shard))
    (done,) = run_copy(*roots)
    assert (done.whole, done.failed) == (4, 1)
    assert "does not match its checksum" in done.damaged[0]
    (target,) = open_stores(roots[1]).stores
    assert target.status().tolist() == [0, 0, 0, 0, 1, 3, 1, 1, 1, 0]


@pytest.mark.parametrize("key", ["embedding/c/1/0", "status/c/1"])
def test_skips_a_damaged_shard_of_the_target_and_counts_the_copied_rows(tmp_path: Path, key: str):
    fill(str(tmp_path / "a"))
    with writable_store(tmp_path / "b") as target:
        target.write_shard(1, random_rows(1), np.array([1, 0, 0, 0], np.uint8))
    damage(target.location, key, b"x")
    (done,) = run_copy(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (done.whole, done.failed) == (5, 0)
    (message,) = done.damaged
    assert f"{target.location} is damaged" in message
    after = open_store(target.location)
    assert [after.status(shard).tolist() for shard in (0, 2)] == [[1, 1, 1, 1], [1, 0]]


def test_matches_failure_reasons_by_name(roots: tuple[str, str]):
    fill(roots[0])
    options = {**LAYOUT, "reasons": ["unreadable", "too_short", "flat_lead"]}
    with open_for_writing(roots[1], PROVENANCE, record_id=np.arange(10), **options):
        pass
    run_copy(*roots)
    (target,) = open_stores(roots[1]).stores
    assert target.flags[int(target.status()[5])] == "flat_lead"


def test_shard_that_differs_when_read_back_raises_store_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fill(str(tmp_path / "a"))
    original_read = EmbeddingStore.read_shard

    def read_doubled(self: EmbeddingStore, shard: int) -> np.ndarray:
        return original_read(self, shard) * np.float16(2)

    monkeypatch.setattr(EmbeddingStore, "read_shard", read_doubled)
    with pytest.raises(StoreError, match="differs from what was written"):
        run_copy(str(tmp_path / "a"), str(tmp_path / "b"))


def test_does_not_write_to_a_target_whose_lease_is_held(tmp_path: Path):
    fill(str(tmp_path / "a"))
    location = store_location(tmp_path / "b", PROVENANCE)
    with (
        acquire(leases_folder(location), heartbeat_seconds=0.2),
        pytest.raises(LeaseHeld, match="being written by"),
    ):
        run_copy(str(tmp_path / "a"), str(tmp_path / "b"))
    assert open_stores(tmp_path / "b").stores == ()


def test_progress_counts_rows_of_all_stores(tmp_path: Path):
    fill(str(tmp_path / "a"), expert="leads")
    fill(str(tmp_path / "a"))
    steps: list[tuple[int, int]] = []
    stores = select_stores(resolve(tmp_path / "a"), reference="leads")
    target = locate(tmp_path / "b")
    list(
        copy_stores(
            stores,
            target,
            reference="leads",
            progress=lambda done, total: steps.append((done, total)),
        )
    )
    assert steps == [(4, 18), (8, 18), (9, 18), (13, 18), (17, 18), (18, 18)]


def test_failed_source_row_does_not_replace_a_whole_target_row(tmp_path: Path):
    fill(str(tmp_path / "a"))
    with writable_store(tmp_path / "b") as target:
        target.write_shard(1, random_rows(1), whole_status())
    run_copy(str(tmp_path / "a"), str(tmp_path / "b"))
    assert open_store(target.location).status(1).tolist() == [1, 1, 1, 1]
