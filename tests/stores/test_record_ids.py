"""Record ids: types, storage, and operations on stores with text ids."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conformance.store_tests import integer_ids, random_rows, text_ids, whole_status, writable_store

from stores.copying import copy_store
from stores.errors import StoreError
from stores.locate import locate
from stores.opening import count_rows, open_store
from stores.reading import iter_batches, read_aligned
from stores.record_ids import as_ids, is_text
from stores.verify import verify

EMBEDDINGS = np.concatenate([random_rows(0), random_rows(1), random_rows(2, 2)])


def fill(root: str | Path, order: list[int]) -> Path:
    """Create a store with text ids; the embedding of record n is row n of `EMBEDDINGS`."""
    with writable_store(root, text_ids(order)) as store:
        for shard in range(store.shards):
            span = store.shard_slice(shard)
            store.write_shard(shard, EMBEDDINGS[order[span]], whole_status(span.stop - span.start))
        return Path(store.location.path)


@pytest.mark.parametrize(
    "values",
    [
        ["a", "bcd"],
        np.array(["a", "bcd"]),
        np.array(["a", "bcd"], object),
        np.array(["a", "bcd"], np.dtypes.StringDType()),
        pd.Series(["a", "bcd"]),
        pd.Series(["a", "bcd"], dtype="string"),
        pd.Index(["a", "bcd"]),
    ],
)
def test_text_ids_from_any_source_have_one_dtype(values: object):
    ids = as_ids(values)
    assert is_text(ids)
    assert ids.tolist() == ["a", "bcd"]


def test_as_ids_accepts_only_integers_and_text():
    assert as_ids([3, 4]).dtype == as_ids([]).dtype == as_ids(pd.Series([3])).dtype == np.int64
    assert is_text(as_ids(np.array([], np.dtypes.StringDType())))
    for wrong in ([1.5], pd.Series(["a", None]), [None, "a"]):
        with pytest.raises(TypeError, match="integers or text"):
            as_ids(wrong)


def test_unsigned_ids_are_stored_exactly_or_are_an_error(tmp_path: Path):
    ids = np.array([2**53 + 1, 2**63 - 1], np.uint64)
    with writable_store(tmp_path / "a", ids) as store:
        assert store.record_id.tolist() == ids.tolist()
    # Readers of run folders convert a `ValueError` to an error that names the file.
    for error in (StoreError, ValueError):
        with pytest.raises(error, match=f"The id {2**63} is 2\\*\\*63 or larger"):
            as_ids(np.array([5, 2**63], np.uint64))
    with (
        pytest.raises(StoreError, match=r"is 2.* or larger"),
        writable_store(tmp_path / "b", ids + np.uint64(1)),
    ):
        pass


def test_ids_are_stored_as_little_endian_int64_or_zarr_strings(tmp_path: Path):
    for data_type, ids in (("int64", integer_ids(range(3))), ("string", text_ids(range(3)))):
        with writable_store(tmp_path / data_type, ids) as store:
            where = Path(store.location.path) / "record_id"
        document = json.loads((where / "zarr.json").read_text())
        assert document["data_type"] == data_type
        if data_type == "int64":
            assert document["fill_value"] == -1
            stored = (where / "c/0").read_bytes()
            assert stored[:-4] == np.array([0, 1, 2] + [-1] * 65_533, "<i8").tobytes()
        else:
            # An unused row takes 4 bytes, independently of the longest id.
            assert (where / "c/0").stat().st_size < 4 * 65_536 + 200


def test_stores_with_text_ids_are_read_aligned(tmp_path: Path):
    order = [3, 9, 0, 1, 8, 2, 4, 5, 7, 6]
    stores = [
        open_store(fill(tmp_path / str(n), rows)) for n, rows in enumerate([order, order[::-1]])
    ]
    requested = text_ids([7, 0, 9])
    for found in read_aligned(stores, requested):
        np.testing.assert_array_equal(found, EMBEDDINGS[[7, 0, 9]])
    seen = []
    for ids, (first, second) in iter_batches(stores, text_ids(range(10)), 4, seed=0):
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first, EMBEDDINGS[[int(record[7:9]) for record in ids]])
        seen += ids.tolist()
    assert sorted(seen) == text_ids(range(10)).tolist()
    with pytest.raises(StoreError, match="no row for 1 of 2 records, such as Zürich/77"):
        read_aligned(stores, text_ids([3, 77]))


def test_store_with_text_ids_is_copied_and_verified(tmp_path: Path):
    source = open_store(fill(tmp_path / "one", list(range(10))))
    with writable_store(tmp_path / "two", text_ids([9, 12])):
        pass
    assert copy_store(source, locate(tmp_path / "two"), reference="leads").whole == 10
    target = open_store(tmp_path / "two" / "ludb/1.0.1/dlinear" / source.identity)
    assert target.record_id.tolist() == text_ids([9, 12, *range(9)]).tolist()
    copied = target.read(target.rows_by_id(text_ids(range(10))))
    np.testing.assert_array_equal(copied, EMBEDDINGS)
    assert (count_rows(target).whole, count_rows(target).missing) == (10, 1)
    assert verify(target).intact
    assert verify(target).whole == 10


def test_damaged_text_id_is_detected(tmp_path: Path):
    where = fill(tmp_path, list(range(10))) / "record_id/c/0"
    stored = bytearray(where.read_bytes())
    stored[9] ^= 1
    where.write_bytes(bytes(stored))
    assert not verify(open_store(where.parents[2])).intact
    with pytest.raises(StoreError, match="record_id does not match its checksum; remove its"):
        open_store(where.parents[2]).rows_by_id(text_ids([0]))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.array([1, -1]), "1 of . records have the id -1, which is reserved"),
        (np.array(["a", ""]), "have the id '', which is reserved"),
        (np.array([1, 2, 1]), "1 of . record ids occur more than once, such as 1;"),
        (np.array(["b", "a", "b"]), "occur more than once, such as b;"),
    ],
)
def test_reserved_and_duplicate_ids_are_rejected(tmp_path: Path, ids: np.ndarray, message: str):
    first = np.array([7]) if ids.dtype.kind == "i" else np.array(["seven"])
    for known in ([], first):
        root = tmp_path / str(len(known))
        if len(known):
            with writable_store(root, known):
                pass
        with (
            pytest.raises(StoreError, match=message),
            writable_store(root, np.concatenate([known, ids]).astype(ids.dtype)),
        ):
            pass
    with writable_store(root, first) as store:
        assert store.record_id.tolist() == first.tolist()
