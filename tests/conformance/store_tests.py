"""Conformance tests of store roots."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import xarray
import zarr

from stores.creation import create_or_grow, open_for_writing
from stores.embeddings import EmbeddingStore
from stores.errors import LeaseLost, StoreError
from stores.layout import leases_folder, store_location
from stores.lease import Ticket, acquire
from stores.locate import locate
from stores.location import Location
from stores.opening import open_store, open_stores
from stores.runs import read_runs, write_run

PROVENANCE = {"dataset": "ludb/1.0.1", "expert": "dlinear", "dtype": "float16"}
LAYOUT: dict[str, Any] = {
    "features": 8,
    "dtype": "float16",
    "reasons": ["missing_file", "flat_lead"],
    "shard_rows": 4,
}

Ids = Callable[[Iterable[int]], np.ndarray]


def integer_ids(numbers: Iterable[int]) -> np.ndarray:
    return np.array(list(numbers), np.int64)


def text_ids(numbers: Iterable[int]) -> np.ndarray:
    """Return ids of different lengths with a non-ASCII letter, which sort like the numbers."""
    return np.array([f"Zürich/{number:02d}{'-late' * (number % 3)}" for number in numbers])


def writable_store(
    root: str | Path, record_id: Iterable[int] | np.ndarray = range(10), **provenance: Any
) -> Any:
    """Return a context manager that creates or grows a store and opens it for writing.

    Args:
        root: The store root.
        record_id: Ids of the records that must have a row.
        **provenance: Values that replace those of `PROVENANCE`.
    """
    return open_for_writing(
        root, PROVENANCE | provenance, record_id=np.asarray(record_id), **LAYOUT
    )


def random_rows(shard: int, count: int = 4) -> np.ndarray:
    """Return random embeddings for the rows of a shard; the shard number is the seed."""
    return np.random.default_rng(shard).normal(size=(count, 8)).astype(np.float16)


def whole_status(count: int = 4) -> np.ndarray:
    """Return the status of a shard whose rows are all whole."""
    return np.ones(count, np.uint8)


def damage(location: Location, key: str, value: bytes | None) -> None:
    """Write a value below a store without its lease; None deletes the key."""
    if value is None:
        location.root.delete(f"{location.key}/{key}")
    else:
        location.root.write(f"{location.key}/{key}", value)


class StoreTests:
    """Conformance tests of a store root.

    Subclasses define a fixture `root` that returns the URL of an empty root.
    """

    @pytest.fixture(params=[integer_ids, text_ids])
    def ids(self, request: pytest.FixtureRequest) -> Ids:
        """Return a function that converts numbers to record ids."""
        function: Ids = request.param
        return function

    def test_written_rows_are_read_back(self, root: str, ids: Ids):
        with writable_store(root, ids(range(10))) as store:
            for shard, count in enumerate((4, 4, 2)):
                store.write_shard(shard, random_rows(shard, count), whole_status(count))
        everything = np.concatenate([random_rows(0), random_rows(1), random_rows(2, 2)])
        scattered = np.array([9, 0, 5, 5, 3])
        again = open_store(store.location)
        np.testing.assert_array_equal(again.read(scattered), everything[scattered])
        np.testing.assert_array_equal(again.to_dask().compute(), everything)
        assert again.record_id.tolist() == ids(range(10)).tolist()

    def test_rows_are_found_by_ids_in_any_order(self, root: str, ids: Ids):
        with writable_store(root, ids([4, 2, 9])) as store:
            for order, rows in (
                ([4, 2, 9], [0, 1, 2]),
                ([4, 2], [0, 1]),
                ([], []),
                ([9, 4], [2, 0]),
                ([4, 2, 9, 7], [0, 1, 2, -1]),
            ):
                assert store.rows_by_id(ids(order)).tolist() == rows

    def test_text_ids_can_have_any_length_and_never_match_integers(self, root: str):
        with writable_store(root, text_ids(range(3))):
            pass
        longer = np.array(["b" * 500, "0"])
        with writable_store(root, longer) as grown:
            assert grown.record_id.tolist() == [*text_ids(range(3)), *longer]
            assert grown.rows_by_id(longer).tolist() == [3, 4]
            # Ids are neither truncated to the width of others, nor converted to integers.
            assert grown.rows_by_id(np.array(["b" * 499, "b" * 501])).tolist() == [-1, -1]
            assert grown.rows_by_id(np.array([0])).tolist() == [-1]
        with writable_store(root, [0], dtype="float32") as by_number:
            assert by_number.rows_by_id(np.array(["0", "x"])).tolist() == [-1, -1]
        with (
            pytest.raises(StoreError, match="ids are text, but the data set's are integers"),
            writable_store(root, [0]),
        ):
            pass

    def test_unwritten_rows_are_absent_and_nan(self, root: str):
        with writable_store(root) as store:
            store.write_shard(1, random_rows(1), np.array([1, 1, 3, 1], np.uint8))
        assert store.status().tolist() == [0, 0, 0, 0, 1, 1, 3, 1, 0, 0]
        assert store.status(1).tolist() == [1, 1, 3, 1]
        assert store.flags[3] == "flat_lead"
        assert np.isnan(store.read_shard(0)).all()

    def test_reading_a_whole_row_of_a_missing_shard_raises(self, root: str):
        with writable_store(root) as store:
            store.write_shard(0, random_rows(0), whole_status())
        damage(store.location, "embedding/c/0/0", None)
        with pytest.raises(StoreError, match=r"NaN or infinity in . rows with status whole"):
            store.read(np.array([2]))

    def test_store_open_for_reading_cannot_be_written(self, root: str):
        with writable_store(root) as store:
            pass
        with pytest.raises(ValueError, match="reading only"):
            open_store(store.location).write_shard(0, random_rows(0), whole_status())

    def test_growth_appends_new_records_and_keeps_rows(self, root: str, ids: Ids):
        with writable_store(root, ids(range(10))) as store:
            store.write_shard(2, random_rows(2, 2), whole_status(2))
        with writable_store(root, ids([11, 3, 12, 9])) as grown:
            pass
        assert grown.record_id.tolist() == ids([*range(10), 11, 12]).tolist()
        assert grown.status().tolist() == [0] * 8 + [1, 1, 0, 0]
        np.testing.assert_array_equal(grown.read(np.array([8, 9])), random_rows(2, 2))
        assert grown.rows_by_id(ids([12, 0, 77])).tolist() == [11, 0, -1]

    def test_growth_reuses_rows_without_ids(self, root: str, ids: Ids):
        with writable_store(root, ids(range(10))) as store:
            for name in ("embedding", "status", "record_id"):
                store.writer.track_version(f"{store.location.key}/{name}/zarr.json")
                array = store.array(name)
                array.resize((13, *array.shape[1:]))
        assert len(open_store(store.location).record_id) == 10
        with writable_store(root, ids([20])) as grown:
            assert grown.record_id.tolist() == ids([*range(10), 20]).tolist()

    def test_growth_raises_if_rows_with_embeddings_have_no_id(self, root: str, ids: Ids):
        with writable_store(root, ids(range(10))) as store:
            store.write_shard(0, random_rows(0), whole_status())
        damage(store.location, "record_id/c/0", None)
        with (
            pytest.raises(StoreError, match="rows that contain embeddings have no record id"),
            writable_store(root, ids(range(10))),
        ):
            pass

    def test_missing_group_metadata_is_restored_and_rows_keep_their_ids(self, root: str, ids: Ids):
        with writable_store(root, ids(range(10))) as store:
            store.write_shard(0, random_rows(0), whole_status())
        damage(store.location, "zarr.json", None)
        with writable_store(root, ids([12, *range(9, -1, -1)])) as again:
            assert again.record_id.tolist() == ids([*range(10), 12]).tolist()
        np.testing.assert_array_equal(again.read(np.arange(4)), random_rows(0))

    def test_incomplete_store_is_ignored_until_its_creation_is_resumed(self, root: str):
        with writable_store(root) as store:
            pass
        for key in ("zarr.json", "status/zarr.json"):
            damage(store.location, key, None)
        found = open_stores(root, "ludb/1.0.1")
        assert (found.stores, found.errors) == ((), ())
        with writable_store(root) as again:
            again.write_shard(0, random_rows(0), whole_status())
        assert open_store(again.location).record_id.tolist() == list(range(10))

    def test_zarr_xarray_and_dask_open_the_store(self, root: str, ids: Ids):
        with writable_store(root, ids(range(10))) as store:
            store.write_shard(0, random_rows(0), whole_status())
        zarr_store = store.location.root.zarr_reader()
        dataset = xarray.open_zarr(zarr_store, group=store.location.key, consolidated=False)
        assert dataset["embedding"].dims == ("record", "feature")
        assert dataset["status"].dims == dataset["record_id"].dims == ("record",)
        assert dataset.attrs["provenance"] == PROVENANCE
        meanings = dataset["status"].attrs["flag_meanings"].split()
        assert (
            dict(zip(dataset["status"].attrs["flag_values"], meanings, strict=True))[1] == "whole"
        )
        np.testing.assert_array_equal(dataset["embedding"][:4].values, random_rows(0))
        assert dataset["record_id"].values.tolist() == ids(range(10)).tolist()
        array = zarr.open_array(zarr_store, path=f"{store.location.key}/record_id")
        assert dask.array.from_zarr(array).compute().tolist() == ids(range(10)).tolist()
        np.testing.assert_array_equal(store.to_xarray()["embedding"][:4].values, random_rows(0))

    def test_writing_a_non_finite_row_as_whole_raises(self, root: str):
        broken = random_rows(0)
        broken[1, 3] = np.nan
        with writable_store(root) as store:
            with pytest.raises(ValueError, match="not finite"):
                store.write_shard(0, broken, whole_status())
            store.write_shard(0, broken, np.array([1, 2, 1, 1], np.uint8))

    def test_stores_with_different_provenance_have_different_locations(self, root: str):
        with writable_store(root) as first, writable_store(root, dtype="float32") as other:
            assert first.location.key != other.location.key
        found = {str(store.location) for store in open_stores(root, "ludb/1.0.1").stores}
        assert found == {str(first.location), str(other.location)}
        assert found == {str(store.location) for store in open_stores(root).stores}
        assert str(first.location) == str(store_location(root, PROVENANCE))

    def test_reading_a_damaged_chunk_raises(self, root: str):
        with writable_store(root) as store:
            store.write_shard(0, random_rows(0), whole_status())
        shard = bytearray((store.location / "embedding/c/0/0").read() or b"")
        shard[5] ^= 1
        damage(store.location, "embedding/c/0/0", bytes(shard))
        for read in (lambda: store.read_shard(0), lambda: store.read(np.array([1]))):
            with pytest.raises(StoreError, match="does not match its checksum"):
                read()

    def test_opening_a_missing_foreign_newer_or_renamed_store_raises(self, root: str):
        with pytest.raises(StoreError, match="There is no store"):
            open_store(locate(root) / "nothing")
        with writable_store(root) as store:
            pass
        document = (store.location / "zarr.json").read() or b""
        foreign = locate(root) / "foreign"
        damage(foreign, "zarr.json", b'{"zarr_format": 3, "node_type": "group", "attributes": {}}')
        with pytest.raises(StoreError, match="format None"):
            open_store(foreign)
        newer = document.replace(b"enecg-embeddings/1", b"enecg-embeddings/2")
        damage(store.location, "zarr.json", newer)
        with pytest.raises(StoreError, match="'enecg-embeddings/2'"):
            open_store(store.location)
        damage(store.location, "zarr.json", document.replace(b"float16", b"float32"))
        with pytest.raises(StoreError, match="was renamed"):
            open_store(store.location)

    @pytest.mark.parametrize("file", ["zarr.json", "embedding/zarr.json"])
    def test_damaged_metadata_raises_and_is_not_overwritten(self, root: str, file: str):
        with writable_store(root) as store, writable_store(root, dtype="float32") as neighbor:
            pass
        damage(store.location, file, b"{ garbage")
        with (
            pytest.raises(StoreError, match=r"is damaged: .*zarr.json is"),
            writable_store(root),
        ):
            pass
        found = open_stores(root, "ludb/1.0.1")
        assert [store.location for store in found.stores] == [neighbor.location]
        assert len(found.errors) == 1
        assert (store.location / file).read() == b"{ garbage"

    def test_run_records_are_kept_beside_the_store_and_never_overwritten(self, root: str):
        with writable_store(root) as store:
            written = {str(write_run(store, {"rows": number})) for number in range(3)}
        assert len(written) == 3
        assert sorted(run["rows"] for run in read_runs(store)) == [0, 1, 2]
        assert len(open_stores(root, "ludb/1.0.1").stores) == 1

    def test_worker_processes_write_with_the_ticket(self, root: str):
        # Imported here because `tests/stores` is in `sys.path` only if its tests are collected.
        from processes import start, write_by_ticket

        everything = [random_rows(shard) for shard in range(8)]
        with writable_store(root, range(32)) as store:
            workers = [
                start(
                    write_by_ticket,
                    store.location,
                    store.ticket,
                    {shard: everything[shard] for shard in range(first, 8, 2)},
                )
                for first in range(2)
            ]
            for worker in workers:
                worker.join()
        np.testing.assert_array_equal(store.read(np.arange(32)), np.concatenate(everything))

    def test_stale_holder_cannot_write(self, root: str):
        location = store_location(root, PROVENANCE)
        stale_lease = acquire(leases_folder(location), heartbeat_seconds=3600, expire_seconds=0.1)
        options = {"record_id": np.arange(10), **LAYOUT}
        stale = create_or_grow(location, PROVENANCE, stale_lease.ticket, **options)
        stale.write_shard(0, random_rows(0), np.array([1, 0, 0, 0], np.uint8))
        with acquire(leases_folder(location)) as new_lease:
            current = open_store(location, new_lease.ticket)
            current.write_shard(0, random_rows(0), whole_status())
            with pytest.raises(LeaseLost, match=r"was taken over by .*process"):
                stale.write_shard(0, random_rows(0), np.array([1, 1, 0, 0], np.uint8))
        assert open_store(location).status(0).tolist() == [1, 1, 1, 1]

    def test_rows_of_the_new_holder_are_kept_if_a_stale_holder_writes_after_its_lease_check(
        self, root: str, monkeypatch: pytest.MonkeyPatch
    ):
        location = store_location(root, PROVENANCE)
        stale_lease = acquire(leases_folder(location), heartbeat_seconds=3600, expire_seconds=0.1)
        options = {"record_id": np.arange(10), **LAYOUT}
        stale = create_or_grow(location, PROVENANCE, stale_lease.ticket, **options)
        stale.write_shard(0, random_rows(0), np.array([1, 0, 0, 0], np.uint8))
        monkeypatch.setattr(Ticket, "check", lambda ticket: None)
        with acquire(leases_folder(location)) as new_lease:
            current = open_store(location, new_lease.ticket)
            more = np.array([1, 1, 1, 0], np.uint8)
            current.write_shard(0, np.where(more[:, None], random_rows(0), np.float16("nan")), more)
            try:
                stale.write_shard(0, random_rows(0), np.array([1, 0, 0, 1], np.uint8))
            except LeaseLost:
                kept = [0, 1, 2]  # the write of the stale holder was rejected
            else:
                kept = [0, 1, 2, 3]  # the row of the stale holder was merged
        after = open_store(location)
        assert np.flatnonzero(after.status(0)).tolist() == kept
        np.testing.assert_array_equal(after.read(np.array(kept)), random_rows(0)[kept])
        assert isinstance(after.array("embedding"), zarr.Array)

    @pytest.mark.parametrize(
        ("ids", "action", "moment"),
        [
            (integer_ids, "create", "before the check"),
            (text_ids, "create", "after the check"),
            (text_ids, "grow", "before the check"),
            (integer_ids, "grow", "after the check"),
            pytest.param(text_ids, "create", "before the check", marks=pytest.mark.slow),
            pytest.param(integer_ids, "create", "after the check", marks=pytest.mark.slow),
            pytest.param(integer_ids, "grow", "before the check", marks=pytest.mark.slow),
            pytest.param(text_ids, "grow", "after the check", marks=pytest.mark.slow),
        ],
    )
    def test_creation_or_growth_by_a_stale_holder_raises_and_keeps_ids(
        self, root: str, ids: Ids, action: str, moment: str, monkeypatch: pytest.MonkeyPatch
    ):
        location = store_location(root, PROVENANCE)
        if action == "grow":
            with writable_store(root, ids(range(4))):
                pass
        stale_lease = acquire(leases_folder(location), heartbeat_seconds=3600, expire_seconds=0.1)
        owner, method = {
            ("create", "before the check"): (Location, "read"),
            ("grow", "before the check"): (EmbeddingStore, "rows_by_id"),
        }.get((action, moment), (Ticket, "check"))
        original_method = getattr(owner, method)

        def call_then_lose_lease(self: Any, *arguments: Any) -> Any:
            result = original_method(self, *arguments)
            if method != "read" or self == location / "zarr.json":
                monkeypatch.setattr(owner, method, original_method)
                with writable_store(root, ids([*range(4), 20, 21])) as current:
                    current.write_shard(0, random_rows(0), whole_status())
                    current.write_shard(1, random_rows(1, 2), whole_status(2))
            return result

        monkeypatch.setattr(owner, method, call_then_lose_lease)
        with pytest.raises(StoreError):
            create_or_grow(
                location, PROVENANCE, stale_lease.ticket, record_id=ids([30, 31, 2]), **LAYOUT
            )
        after = open_store(location)
        assert after.record_id.tolist() == ids([0, 1, 2, 3, 20, 21]).tolist()
        assert after.status().tolist() == [1] * 6
        np.testing.assert_array_equal(after.read(np.array([4, 5])), random_rows(1, 2))
