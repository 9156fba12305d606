"""Extractions into a store root that is full or read-only."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from test_extract import ConstantDataset, MeanExpert, plan, run, store_of

from stores.embeddings import EmbeddingStore
from stores.errors import StoreError
from stores.opening import open_store, open_stores
from stores.status import WHOLE

Remount = Callable[[str], None]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, Remount]]:
    """A file system that is too small for an extraction's stores, and a function to remount it."""
    mount_point = tmp_path / "disk"
    mount_point.mkdir()

    def mount(options: str) -> None:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", mount_point],
            check=True,
            capture_output=True,
        )

    try:
        mount("size=1250k")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small file system cannot be mounted here ({error})")
    try:
        yield mount_point, lambda options: mount(f"remount,{options}")
    finally:
        subprocess.run(["umount", "-l", mount_point], check=True)


def complete_rows(store: EmbeddingStore) -> dict[int, np.ndarray]:
    """Return the embeddings of the complete rows by record id."""
    rows = np.flatnonzero(store.status() == WHOLE)
    return dict(zip(store.record_id[rows].tolist(), store.read(rows), strict=True))


def test_extraction_fails_on_a_full_disk_and_resumes_with_more_space(
    small_disk: tuple[Path, Remount], tmp_path: Path
):
    disk, remount = small_disk
    dataset = ConstantDataset(range(100, 164))
    planned = plan(dataset, disk, MeanExpert())
    with pytest.raises(StoreError, match=r"No space left on device.*free some space") as failure:
        run(planned)
    assert "\n" not in str(failure.value)
    stores = [open_store(store.store.location) for store in planned.stores]
    written = [complete_rows(store) for store in stores]
    assert 0 < len(written[0]) < 64
    assert all((row == record).all() for record, row in written[0].items())
    # A rerun on the full disk fails again and loses no row.
    with pytest.raises(StoreError, match="No space left on device"):
        run(plan(dataset, disk, MeanExpert()))
    for store, before in zip(stores, written, strict=True):
        assert before.keys() <= complete_rows(open_store(store.location)).keys()
    remount("size=4m")
    kept = len(complete_rows(open_store(stores[0].location)))
    expert = MeanExpert()
    run(plan(dataset, disk, expert))
    assert expert.embedded == 64 - kept
    reference = plan(dataset, tmp_path / "reference", MeanExpert())
    run(reference)
    for store, expected in zip(stores, reference.stores, strict=True):
        resumed = open_store(store.location)
        np.testing.assert_array_equal(resumed.status(), expected.store.status())
        np.testing.assert_array_equal(resumed.to_dask(), expected.store.to_dask())
    assert not list(disk.rglob("*.partial"))


def test_failed_creation_on_a_full_disk_leaves_no_store(small_disk: tuple[Path, Remount]):
    disk, _ = small_disk
    (disk / "filler").write_bytes(bytes(800_000))
    with pytest.raises(StoreError, match=r"No space left on device.*free some space"):
        plan(ConstantDataset(range(8)), disk, MeanExpert())
    assert open_stores(disk).stores == open_stores(disk).errors == ()
    (disk / "filler").unlink()
    assert run(plan(ConstantDataset(range(8)), disk, MeanExpert())).computed == 16


def test_read_only_root_can_be_read_but_not_extracted_to(small_disk: tuple[Path, Remount]):
    disk, remount = small_disk
    planned = plan(ConstantDataset(range(8)), disk, MeanExpert())
    run(planned)
    remount("ro")
    assert len(complete_rows(store_of(planned))) == 8
    with pytest.raises(StoreError, match=r"Read-only file system.*get read and write permission"):
        plan(ConstantDataset(range(20)), disk, MeanExpert())


def test_extraction_fails_on_a_root_that_becomes_read_only(small_disk: tuple[Path, Remount]):
    disk, remount = small_disk
    planned = plan(ConstantDataset(range(16)), disk, MeanExpert(), batch_size=4)
    (first,) = planned.ranges(1)
    assert first.last == 2

    def progress(done: int, total: int) -> None:
        if done == 8:
            remount("ro")

    with pytest.raises(StoreError, match="Read-only file system"):
        run(planned, progress)
    remount("rw")
    expert = MeanExpert()
    run(plan(ConstantDataset(range(16)), disk, expert))
    assert len(complete_rows(store_of(planned))) == 16
