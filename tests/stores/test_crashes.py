"""Writers that are killed at random times neither lose nor damage whole rows."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from processes import (
    FORKSERVER,
    PROVENANCE,
    SHARD_ROWS,
    expected_embedding,
    expected_status,
    extract_known,
    run_until_killed,
    start,
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
"""Records added after every other kill and after each finished extraction, so that writers are also
killed during growth and always have rows to compute."""
PAUSE = 0.002
"""Simulated seconds to compute a row."""


@pytest.fixture(params=["disk", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "disk" else request.getfixturevalue("s3_root")


def count_wrong_rows(store: EmbeddingStore) -> int:
    """Return the number of whole rows with a wrong embedding."""
    rows = np.flatnonzero(store.status() == WHOLE)
    return int((store.read(rows) != expected_embedding(store.record_id[rows])).any(1).sum())


class Reader(threading.Thread):
    """A thread that opens and reads a store repeatedly and collects problems."""

    def __init__(self, root: str) -> None:
        super().__init__(name="reader")
        self.location = store_location(root, PROVENANCE)
        self.reads = 0
        self.problems: list[str] = []
        self.done = threading.Event()

    def run(self) -> None:
        whole: set[int] = set()
        while not self.done.is_set():
            try:
                store = open_store(self.location)
                status = store.status()
                ids = store.record_id
                if wrong := count_wrong_rows(store):
                    self.problems.append(f"{wrong} rows are wrong")
            except StoreError as error:
                if "There is no store" not in str(error) or whole:
                    self.problems.append(str(error))
            except Exception as error:
                self.problems.append(repr(error))
            else:
                now = set(ids[status == WHOLE].tolist())
                if lost := whole - now:
                    self.problems.append(f"{len(lost)} rows were lost")
                whole = now
                self.reads += 1


@contextmanager
def background_reader(root: str) -> Iterator[Reader]:
    reader = Reader(root)
    reader.start()
    try:
        yield reader
    finally:
        reader.done.set()
        reader.join()


def kill_and_resume(root: str, kills: int) -> None:
    """Kill extractions at random times, check the store after each, and let the last one finish."""
    random = np.random.default_rng(0)
    location = store_location(root, PROVENANCE)
    every_id = 100 + random.permutation(RECORDS + kills * MORE_RECORDS)
    known, whole, killed_while_running = RECORDS, set[int](), 0
    with background_reader(root) as reader:
        for kill in range(kills):
            pipe, child_pipe = FORKSERVER.Pipe()
            process = start(run_until_killed, child_pipe)
            assert pipe.recv() == "ready"
            # Wait for at most slightly longer than the extraction takes.
            missing = known - len(whole)
            pipe.send((root, every_id[:known], kill, PAUSE))
            time.sleep(random.uniform(0, min(0.4, 0.03 + missing * PAUSE)))
            killed_while_running += not pipe.poll()
            process.kill()
            process.join()
            pipe.close()
            if not (location / "zarr.json").read():
                assert not whole
                continue
            store = open_store(location)
            assert count_wrong_rows(store) == 0
            assert open_stores(root).errors == ()
            assert verify(store).intact
            now = set(store.record_id[store.status() == WHOLE].tolist())
            assert whole <= now
            whole = now
            if kill % 2 or len(whole) == (expected_status(every_id[:known]) == WHOLE).sum():
                known += MORE_RECORDS
        done = extract_known(root, every_id[:known], seed=0, pause=0)
    store = open_store(location)
    ids = store.record_id
    # Whole and failed rows are not recomputed; the number of rows that had failed is not tracked.
    assert known - len(whole) - (expected_status(ids) != WHOLE).sum() <= done <= known - len(whole)
    assert sorted(ids.tolist()) == sorted(every_id[:known].tolist())
    np.testing.assert_array_equal(ids[:RECORDS], every_id[:RECORDS])
    np.testing.assert_array_equal(store.status(), expected_status(ids))
    assert count_wrong_rows(store) == 0
    good = expected_status(ids) == WHOLE
    assert np.isnan(store.to_dask().compute()[: len(ids)][~good]).all()
    assert extract_known(root, every_id[:known], seed=0, pause=0) == 0
    assert reader.problems == []
    assert reader.reads > kills / 10
    assert killed_while_running > kills / 2
    if not root.startswith("s3:"):
        # The staging folders of killed processes have been removed.
        assert len(list(leases_folder(location).path.iterdir())) == 1
        assert not list(location.path.rglob("*.partial"))


def test_killed_writers_keep_whole_rows_and_readers_see_only_correct_rows(root: str):
    kill_and_resume(root, KILLS["s3" if root.startswith("s3:") else "disk"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whole_rows_are_kept_after_many_kills(root: str):
    kill_and_resume(root, MANY_KILLS["s3" if root.startswith("s3:") else "disk"])
