from pathlib import Path

import numpy as np
import pytest
import zarr
from conformance.store_tests import PROVENANCE

from stores import creation
from stores.creation import open_for_writing
from stores.embeddings import EmbeddingStore
from stores.errors import StoreError
from stores.opening import open_store
from stores.reading import iter_batches, read_aligned
from stores.shards import ShardLayout

CHUNK_ROWS = 256
IDS = np.random.default_rng(0).permutation(1000)
WHOLE_IN_BOTH = IDS[10:-10]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(creation, "CHUNK_ROWS", CHUNK_ROWS)


def expected_embedding(record_id: np.ndarray, features: int) -> np.ndarray:
    return (record_id[:, None] / 1000 + np.arange(features)).astype(np.float16)


def fill(root: Path, ids: np.ndarray, features: int) -> EmbeddingStore:
    """Create a store with embeddings that depend on the record id; the last ten rows are absent."""
    provenance = PROVENANCE | {"expert": f"of-{features}"}
    layout = {"features": features, "dtype": "float16", "reasons": [], "shard_rows": 512}
    with open_for_writing(root, provenance, record_id=ids, **layout) as store:
        for shard in range(store.shards):
            rows = np.arange(store.shard_slice(shard).start, store.shard_slice(shard).stop)
            status = (rows < len(ids) - 10).astype(np.uint8)
            values = np.where(
                status[:, None], expected_embedding(ids[rows], features), np.float16("nan")
            )
            store.write_shard(shard, values, status)
    return open_store(store.location)


def fill_with_failure(root: Path) -> EmbeddingStore:
    """Create a store of two records, of which the second failed."""
    layout = {"features": 2, "dtype": "float16", "reasons": ["cut_file"], "shard_rows": 512}
    provenance = PROVENANCE | {"expert": "failing"}
    with open_for_writing(root, provenance, record_id=IDS[:2], **layout) as store:
        values = np.array([[1, 1], [np.nan, np.nan]], np.float16)
        store.write_shard(0, values, np.array([1, 2], np.uint8))
    return open_store(store.location)


@pytest.fixture
def stores(tmp_path: Path) -> list[EmbeddingStore]:
    return [fill(tmp_path, IDS, 3), fill(tmp_path, IDS[::-1].copy(), 5)]


def test_reads_stores_with_different_row_orders_aligned_by_record_id(stores: list[EmbeddingStore]):
    picked = np.random.default_rng(1).permutation(WHOLE_IN_BOTH)[:100]
    first, second = read_aligned(stores, picked)
    np.testing.assert_array_equal(first, expected_embedding(picked, 3))
    np.testing.assert_array_equal(second, expected_embedding(picked, 5))


def test_epoch_yields_every_record_once_with_its_own_rows(stores: list[EmbeddingStore]):
    seen = []
    epoch = iter_batches(stores, WHOLE_IN_BOTH, 64, seed=0, block_rows=300)
    for record_id, (first, second) in epoch:
        np.testing.assert_array_equal(first, expected_embedding(record_id, 3))
        np.testing.assert_array_equal(second, expected_embedding(record_id, 5))
        seen.append(record_id)
    assert [len(batch) for batch in seen[:4]] == [64] * 4
    assert sorted(np.concatenate(seen)) == sorted(WHOLE_IN_BOTH)


def test_seed_determines_the_order_of_an_epoch(stores: list[EmbeddingStore]):
    def order(seed: int) -> list[int]:
        epoch = iter_batches(stores, WHOLE_IN_BOTH, 64, seed=seed, block_rows=300)
        return np.concatenate([record_id for record_id, _ in epoch]).tolist()

    assert order(0) == order(0) != order(1)
    # The seed also determines which chunks are in the first block.
    first_chunks = {
        stores[0].rows_by_id(np.array(order(seed)[:250])).min() // CHUNK_ROWS for seed in range(8)
    }
    assert len(first_chunks) > 1


def test_missing_or_failed_record_raises_store_error_with_its_id(
    stores: list[EmbeddingStore], tmp_path: Path
):
    with pytest.raises(StoreError, match="has no row for 1 of 2 records, such as 5000"):
        read_aligned(stores, np.array([3, 5000]))
    for read in (read_aligned, lambda *arguments: next(iter_batches(*arguments, 64, seed=0))):
        with pytest.raises(
            StoreError, match=r"has no embeddings yet for 3 of 5 records, such as \d+; extract"
        ):
            read(stores[:1], IDS[[-3, -2, -1, 0, 1]])
        with pytest.raises(
            StoreError, match=r"no embeddings for 1 of 2 records, such as .* extraction failed"
        ):
            read([fill_with_failure(tmp_path)], IDS[:2])


def test_reads_into_another_dtype_or_an_existing_array(stores: list[EmbeddingStore]):
    rows = np.array([700, 3, 3, 512])
    expected = expected_embedding(IDS[rows], 3)
    assert stores[0].read(rows, "float32").dtype == np.float32
    out = np.zeros((4, 3), np.float64)
    assert stores[0].read(rows, out=out) is out
    np.testing.assert_array_equal(out, expected)


def test_reading_zero_rows_returns_an_empty_result(stores: list[EmbeddingStore]):
    nothing = np.array([], np.int64)
    assert stores[0].read(nothing).shape == (0, 3)
    assert list(iter_batches(stores, nothing, 64, seed=0)) == []


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("count", [1, 8, 13, 32])
def test_encoded_shard_equals_zarr_output_and_is_readable_by_zarr(
    tmp_path: Path, dtype: str, count: int
):
    values = np.random.default_rng(0).normal(size=(count, 7)).astype(dtype)
    array = zarr.create_array(
        tmp_path / "zarr",
        shape=(count, 7),
        dtype=dtype,
        chunks=(8, 7),
        shards=(32, 7),
        compressors=[zarr.codecs.Crc32cCodec()],
        fill_value=np.nan,
        config={"write_empty_chunks": True},
    )
    file = tmp_path / "zarr" / "c" / "0" / "0"
    layout = ShardLayout(32, 8, 7, np.dtype(dtype))
    array[:] = values
    if count == 32:
        assert layout.encode(values) == file.read_bytes()
    file.write_bytes(layout.encode(values))
    np.testing.assert_array_equal(array[:], values)


def test_reads_shards_written_by_zarr_without_empty_chunks(tmp_path: Path):
    store = fill(tmp_path, IDS, 3)
    with open_for_writing(
        tmp_path, store.provenance, record_id=IDS, features=3, dtype="float16", reasons=[]
    ) as again:
        values = store.read_shard(1)
        values[CHUNK_ROWS:] = np.nan
        path = again.location.path / "embedding" / "c" / "1" / "0"
        before = path.stat().st_size
        again.writer.track_version(f"{again.location.key}/embedding/c/1/0")
        again.array("embedding")[512:1000] = values
        assert path.stat().st_size < before
    np.testing.assert_array_equal(store.read_shard(1), values)
    np.testing.assert_array_equal(store.read(np.array([600])), values[88:89])
