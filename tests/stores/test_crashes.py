"""Writers that are killed at any instant, while readers read: what is whole stays whole."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from processes import (
    FORKS,
    PROVENANCE,
    SHARD_ROWS,
    extract_known,
    right_status,
    run_until_killed,
    start,
    truth,
)

from stores.embeddings import EmbeddingStore
from stores.errors import StoreError
from stores.layout import leases_folder, store_location
from stores.opening import open_store, open_stores
from stores.status import WHOLE
from stores.verify import verify

KILLS = {"disk": 8, "s3": 4}
MANY_KILLS = {"disk": 100, "s3": 30}
RECORDS = 12 * SHARD_ROWS
MORE_RECORDS = 21
"""How many join the data set at every other kill, and where one came to its end: so that stores are
killed while they grow, and every process has work to be killed at."""
PAUSE = 0.002
"""Seconds that a row takes to compute."""


@pytest.fixture(params=["disk", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "disk" else request.getfixturevalue("s3_root")


def wrong_rows(store: EmbeddingStore) -> int:
    """Rows that the store says are whole, and that hold anything but the truth."""
    rows = np.flatnonzero(store.status() == WHOLE)
    return int((store.read(rows) != truth(store.record_id[rows])).any(1).sum())


class Reader(threading.Thread):
    """Opens and reads a store again and again, and keeps whatever should not have been."""

    def __init__(self, root: str) -> None:
        super().__init__(name="reader")
        self.location = store_location(root, PROVENANCE)
        self.reads = 0
        self.slowest = 0.0
        self.seen: list[str] = []
        self.done = threading.Event()

    def run(self) -> None:
        whole: set[int] = set()
        while not self.done.is_set():
            began = time.monotonic()
            try:
                store = open_store(self.location)
                status = store.status()
                ids = store.record_id
                if wrong := wrong_rows(store):
                    self.seen.append(f"{wrong} rows were wrong")
            except StoreError as error:
                if "There is no store" not in str(error) or whole:
                    self.seen.append(str(error))
            except Exception as error:
                self.seen.append(repr(error))
            else:
                now = set(ids[status == WHOLE].tolist())
                if gone := whole - now:
                    self.seen.append(f"{len(gone)} rows were there before")
                whole = now
                self.reads += 1
                self.slowest = max(self.slowest, time.monotonic() - began)


@contextmanager
def reading(root: str) -> Iterator[Reader]:
    reader = Reader(root)
    reader.start()
    try:
        yield reader
    finally:
        reader.done.set()
        reader.join()


def kill_and_go_on(root: str, kills: int) -> None:
    """Kill extractions at random instants, and judge what each leaves; then let one finish."""
    chance = np.random.default_rng(0)
    location = store_location(root, PROVENANCE)
    every_id = 100 + chance.permutation(RECORDS + kills * MORE_RECORDS)
    known, whole, killed_at_work = RECORDS, set[int](), 0
    with reading(root) as reader:
        for kill in range(kills):
            ours, theirs = FORKS.Pipe()
            process = start(run_until_killed, theirs)
            assert ours.recv() == "ready"
            # From the lease's taking to the last shard, and a little beyond.
            left = known - len(whole)
            ours.send((root, every_id[:known], kill, PAUSE))
            time.sleep(chance.uniform(0, min(0.4, 0.03 + left * PAUSE)))
            killed_at_work += not ours.poll()
            process.kill()
            process.join()
            ours.close()
            if not (location / "zarr.json").read():
                assert not whole
                continue
            store = open_store(location)
            assert wrong_rows(store) == 0
            assert open_stores(root).errors == ()
            assert verify(store).intact
            now = set(store.record_id[store.status() == WHOLE].tolist())
            assert whole <= now
            whole = now
            # One that came to its end leaves nothing to be killed at.
            if kill % 2 or len(whole) == (right_status(every_id[:known]) == WHOLE).sum():
                known += MORE_RECORDS
        done = extract_known(root, every_id[:known], seed=0, pause=0)
    store = open_store(location)
    ids = store.record_id
    # Nothing was done again that was whole; the records that cannot be had may have been done.
    assert known - len(whole) - (right_status(ids) != WHOLE).sum() <= done <= known - len(whole)
    assert sorted(ids.tolist()) == sorted(every_id[:known].tolist())
    np.testing.assert_array_equal(ids[:RECORDS], every_id[:RECORDS])
    np.testing.assert_array_equal(store.status(), right_status(ids))
    assert wrong_rows(store) == 0
    good = right_status(ids) == WHOLE
    assert np.isnan(store.to_dask().compute()[: len(ids)][~good]).all()
    assert extract_known(root, every_id[:known], seed=0, pause=0) == 0
    assert reader.seen == []
    assert reader.reads > kills / 10
    assert killed_at_work > kills / 2
    if not root.startswith("s3:"):
        # Nothing is left over of what the killed had set aside.
        assert len(list(leases_folder(location).path.iterdir())) == 1
        assert not list(location.path.rglob("*.partial"))


def test_killed_writers_lose_no_whole_row_and_readers_see_no_wrong_row(root: str):
    kill_and_go_on(root, KILLS["s3" if root.startswith("s3:") else "disk"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_writers_killed_very_often_lose_no_whole_row(root: str):
    kill_and_go_on(root, MANY_KILLS["s3" if root.startswith("s3:") else "disk"])
