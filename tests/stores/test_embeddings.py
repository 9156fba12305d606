import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
import zarr

from stores.embeddings import EmbeddingStore
from stores.errors import StoreError
from stores.location import DurableLocalStore, local_root
from stores.opening import create, find_stores, open_store, store_path
from stores.runs import read_runs, write_run

PROVENANCE = {"dataset": "ludb/1.0.1", "expert": "dlinear", "dtype": "float16"}


def make(root: Path, record_id: list[int] | range = range(10), **change: Any) -> EmbeddingStore:
    return create(
        root,
        PROVENANCE | change,
        record_id=np.array(record_id),
        features=8,
        dtype="float16",
        reasons=["missing_file", "flat_lead"],
        shard_rows=4,
    )


def rows(shard: int, count: int = 4) -> np.ndarray:
    return np.random.default_rng(shard).normal(size=(count, 8)).astype(np.float16)


def whole(count: int = 4) -> np.ndarray:
    return np.ones(count, np.uint8)


def test_what_is_written_is_read_back_by_row(tmp_path: Path):
    store = make(tmp_path)
    for shard, count in enumerate((4, 4, 2)):
        store.write_shard(shard, rows(shard, count), whole(count))
    everything = np.concatenate([rows(0), rows(1), rows(2, 2)])
    scattered = np.array([9, 0, 5, 5, 3])
    np.testing.assert_array_equal(open_store(store.path).read(scattered), everything[scattered])
    np.testing.assert_array_equal(store.to_dask().compute(), everything)


def test_rows_that_are_not_there_are_nan_and_absent(tmp_path: Path):
    store = make(tmp_path)
    store.write_shard(1, rows(1), np.array([1, 1, 3, 1], np.uint8))
    assert store.status().tolist() == [0, 0, 0, 0, 1, 1, 3, 1, 0, 0]
    assert store.status(1).tolist() == [1, 1, 3, 1]
    assert store.flags[3] == "flat_lead"
    assert np.isnan(store.read_shard(0)).all()


def test_a_whole_row_whose_shard_is_gone_is_never_returned_as_data(tmp_path: Path):
    store = make(tmp_path)
    store.write_shard(0, rows(0), whole())
    (store.path / "embedding" / "c" / "0" / "0").unlink()
    with pytest.raises(StoreError, match="shard 0 lacks rows that should be whole"):
        store.read(np.array([2]))


def test_two_writers_of_a_shard_lose_nothing_of_each_other(tmp_path: Path):
    store = make(tmp_path)
    store.write_shard(0, rows(0), np.array([1, 1, 0, 2], np.uint8))
    later = rows(7)
    store.write_shard(0, later, np.array([0, 0, 1, 0], np.uint8))
    assert store.status(0).tolist() == [1, 1, 1, 0]
    expected = np.concatenate([rows(0)[:2], later[2:3]])
    np.testing.assert_array_equal(store.read(np.array([0, 1, 2])), expected)


def test_ids_that_a_kill_left_a_hole_in_are_written_again(tmp_path: Path):
    many = range(150_000)
    store = make(tmp_path, many)
    (store.path / "record_id" / "c" / "1").unlink()
    assert len(open_store(store.path).record_id) == 65_536
    assert make(tmp_path, many).record_id.tolist() == list(many)


def test_somebody_who_never_heard_of_this_project_can_open_it(tmp_path: Path):
    store = make(tmp_path)
    store.write_shard(0, rows(0), whole())
    seen = xarray.open_zarr(store.path, consolidated=False)
    assert seen["embedding"].dims == ("record", "feature")
    assert seen["status"].dims == seen["record_id"].dims == ("record",)
    assert seen.attrs["provenance"] == PROVENANCE
    meanings = seen["status"].attrs["flag_meanings"].split()
    assert dict(zip(seen["status"].attrs["flag_values"], meanings, strict=True))[1] == "whole"
    np.testing.assert_array_equal(seen["embedding"][:4].values, rows(0))


def test_new_records_are_appended_and_nothing_is_lost(tmp_path: Path):
    store = make(tmp_path)
    store.write_shard(2, rows(2, 2), whole(2))
    grown = make(tmp_path, [11, 3, 12, 9])
    assert grown.record_id.tolist() == [*range(10), 11, 12]
    assert grown.status().tolist() == [0] * 8 + [1, 1, 0, 0]
    np.testing.assert_array_equal(grown.read(np.array([8, 9])), rows(2, 2))
    assert grown.rows_by_id(np.array([12, 0, 77])).tolist() == [11, 0, -1]


def test_rows_whose_ids_a_killed_process_did_not_write_are_claimed_again(tmp_path: Path):
    store = make(tmp_path)
    for name in ("embedding", "status", "record_id"):
        array = store.group[name]
        assert isinstance(array, zarr.Array)
        array.resize((13, *array.shape[1:]))
    assert len(open_store(store.path).record_id) == 10
    assert make(tmp_path, [20]).record_id.tolist() == [*range(10), 20]


def test_the_status_is_written_after_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = make(tmp_path)
    written: list[str] = []
    true_set = DurableLocalStore.set

    async def watched(self: DurableLocalStore, key: str, value: Any) -> None:
        written.append(key.split("/")[0])
        await true_set(self, key, value)

    monkeypatch.setattr(DurableLocalStore, "set", watched)
    store.write_shard(0, rows(0), whole())
    assert written == ["embedding", "status"]


def test_a_full_disk_is_told_in_a_sentence_and_claims_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = make(tmp_path)

    async def full(self: DurableLocalStore, key: str, value: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(DurableLocalStore, "set", full)
        with pytest.raises(StoreError, match=r"cannot be written \(No space left on device\)"):
            store.write_shard(0, rows(0), whole())
    assert open_store(store.path).status(0).tolist() == [0, 0, 0, 0]


def test_a_row_that_is_not_finite_is_never_called_whole(tmp_path: Path):
    store = make(tmp_path)
    broken = rows(0)
    broken[1, 3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        store.write_shard(0, broken, whole())
    store.write_shard(0, broken, np.array([1, 2, 1, 1], np.uint8))


def test_the_same_provenance_is_the_same_store_and_another_is_another(tmp_path: Path):
    first, again, other = make(tmp_path), make(tmp_path), make(tmp_path, dtype="float32")
    assert first.path == again.path != other.path
    assert {store.path for store in find_stores(tmp_path, "ludb/1.0.1")} == {
        first.path,
        other.path,
    }
    assert first.path == store_path(tmp_path, "ludb/1.0.1", "dlinear", first.identity)


def test_a_damaged_chunk_is_found_by_its_checksum(tmp_path: Path):
    store = make(tmp_path)
    store.write_shard(0, rows(0), whole())
    shard = store.path / "embedding" / "c" / "0" / "0"
    damaged = bytearray(shard.read_bytes())
    damaged[5] ^= 1
    shard.write_bytes(damaged)
    with pytest.raises(StoreError, match="shard 0 does not match its checksum; extract again"):
        store.read_shard(0)
    with pytest.raises(StoreError, match="shard 0 does not match"):
        store.read(np.array([1]))


def test_what_is_no_store_of_ours_is_refused_in_a_sentence(tmp_path: Path):
    with pytest.raises(StoreError, match="There is no store"):
        open_store(tmp_path / "nothing")
    zarr.create_group(tmp_path / "foreign", zarr_format=3)
    with pytest.raises(StoreError, match="format None"):
        open_store(tmp_path / "foreign")
    store = make(tmp_path)
    store.path.rename(store.path.with_name("renamed"))
    with pytest.raises(StoreError, match="was renamed"):
        open_store(store.path.with_name("renamed"))


@pytest.mark.parametrize("file", ["zarr.json", "embedding/zarr.json"])
def test_a_damaged_store_is_told_and_not_written_over(tmp_path: Path, file: str):
    store = make(tmp_path)
    (store.path / file).write_text("{ garbage")
    for attempt in (lambda: make(tmp_path), lambda: find_stores(tmp_path, "ludb/1.0.1")):
        with pytest.raises(StoreError, match=r"damaged store: a zarr.json in it cannot be read"):
            attempt()
    assert (store.path / file).read_text() == "{ garbage"


def test_a_store_that_lost_its_group_file_is_not_left_out_without_a_word(tmp_path: Path):
    store = make(tmp_path)
    (store.path / "zarr.json").unlink()
    with pytest.raises(StoreError, match=r"damaged store: its zarr.json is not there"):
        find_stores(tmp_path, "ludb/1.0.1")


def test_a_store_root_that_is_a_file_is_told_in_a_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be written .*; make it a folder"):
        make(tmp_path / "file")


def test_a_newer_format_is_refused(tmp_path: Path):
    store = make(tmp_path)
    file = store.path / "zarr.json"
    document = json.loads(file.read_text())
    document["attributes"]["format"] = "enecg-embeddings/2"
    file.write_text(json.dumps(document))
    with pytest.raises(StoreError, match="'enecg-embeddings/2'"):
        make(tmp_path)


def test_a_place_that_is_no_directory_is_refused(tmp_path: Path):
    assert local_root(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    with pytest.raises(StoreError, match="gopher://x is no place"):
        local_root("gopher://x")


def test_run_objects_lie_beside_the_stores_and_are_never_written_over(tmp_path: Path):
    store = make(tmp_path)
    paths = {write_run(store, {"rows": number}) for number in range(3)}
    assert len(paths) == 3
    assert sorted(run["rows"] for run in read_runs(store)) == [0, 1, 2]
    assert [one.path for one in find_stores(tmp_path, "ludb/1.0.1")] == [store.path]


def test_rows_that_hold_embeddings_never_get_other_ids(tmp_path: Path):
    store = make(tmp_path)
    store.write_shard(0, rows(0), whole())
    (store.path / "record_id" / "c" / "0").unlink()
    with pytest.raises(StoreError, match="the ids of rows that hold embeddings are not there"):
        make(tmp_path)
