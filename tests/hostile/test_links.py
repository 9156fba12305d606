"""Links to data sets are followed; other links in a store root are reported and not followed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conformance.store_tests import random_rows, whole_status, writable_store

from flows.cli import enecg
from flows.run_app import run_app
from stores.errors import StoreError
from stores.garbage import find_garbage, remove_garbage
from stores.layout import leases_folder
from stores.lease import acquire
from stores.links import find_links
from stores.locate import locate
from stores.location import Location
from stores.opening import open_store, open_stores
from stores.verify import verify

pytestmark = pytest.mark.hostile

DATASET = "ludb/1.0.1"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder outside the root, with old files named like garbage of a store."""
    folder = tmp_path / "outside"
    for name in ("precious.txt", "x.partial", "c/9/0", "00000001.json", "c/0"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("precious")
        os.utime(path, (0, 0))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    with writable_store(root) as store:
        store.write_shard(0, random_rows(0), whole_status())
    return root


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def identity(root: Path) -> str:
    (store,) = open_stores(root).stores
    return store.identity


LINKS = {
    "an expert": lambda root: "other",
    "a store": lambda root: "dlinear/0123456789abcdef",
    "a new store of an expert": lambda root: "moment/0123456789abcdef",
    "an array": lambda root: f"dlinear/{identity(root)}/old",
    "a chunk folder": lambda root: f"dlinear/{identity(root)}/embedding/c/9",
    "a chunk": lambda root: f"dlinear/{identity(root)}/embedding/c/7/0",
    "a folder of leases": lambda root: "leases/other/0123456789abcdef",
    "a lease": lambda root: f"leases/dlinear/{identity(root)}/00000000-ffffffffffff",
    "a folder of runs": lambda root: "runs/other/0123456789abcdef",
    "all leases": lambda root: "leases",
    "all runs": lambda root: "runs",
}


@pytest.mark.parametrize("location", LINKS)
def test_garbage_behind_links_is_kept_and_the_target_is_named(
    location: str, root: Path, outside: Path, capsys: pytest.CaptureFixture[str]
):
    link = root / DATASET / LINKS[location](root)
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.exists():
        link.rename(outside / "moved")
    link.symlink_to(outside)
    with writable_store(root, dataset="other/1") as other:
        other.write_shard(0, random_rows(0), whole_status())
    (stale := Path(str(other.location)) / "x.partial").touch()
    os.utime(stale, (0, 0))
    before = contents(outside)
    assert run_app(enecg(), ["store", "gc", str(root)]) == 0
    assert f"{link} is a link to {outside}" in capsys.readouterr().err
    assert [str(link) for link, _ in find_links(locate(root))] == [str(link)]
    assert run_app(enecg(), ["store", "gc", str(root), "--remove"]) == 0
    list(remove_garbage(find_garbage(locate(root))))
    assert contents(outside) == before
    # A link in a folder that is garbage is removed with it, but not its target.
    assert link.is_symlink() or location == "a chunk"
    assert not stale.exists()


@pytest.mark.parametrize("location", ["leases", "runs", "leases/dlinear", "runs/dlinear"])
def test_stores_beside_linked_leases_and_runs_are_listed(
    location: str, root: Path, outside: Path, capsys: pytest.CaptureFixture[str]
):
    link = root / DATASET / location
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.exists():
        link.rename(outside / "moved")
    link.symlink_to(outside)
    before = contents(outside)
    for command in (["ls"], ["show"], ["verify"]):
        # The link is reported as an error, so the exit code is 1, but the store is listed too.
        assert run_app(enecg(), ["store", *command, str(root)]) == 1
        printed = capsys.readouterr()
        assert identity(root)[:8] in printed.out, command
        assert f"{link} is a link to" in printed.err + printed.out, command
    assert contents(outside) == before


@pytest.mark.parametrize("part", ["", "embedding", "embedding/c", "embedding/c/1", "status/c"])
def test_nothing_is_written_through_a_link(part: str, root: Path, outside: Path):
    store = Path(str(open_stores(root).stores[0].location)) / part
    moved = outside / "moved"
    if store.exists():
        store.rename(moved)
    else:
        moved.mkdir()
    store.parent.mkdir(parents=True, exist_ok=True)
    store.symlink_to(moved)
    before = contents(outside)
    with pytest.raises(StoreError, match="is a link to"), writable_store(root) as opened:
        opened.write_shard(1, random_rows(1), whole_status())
    assert contents(outside) == before


def test_linked_store_is_listed_as_an_error_and_others_are_listed(root: Path, outside: Path):
    (root / DATASET / "dlinear" / "0123456789abcdef").symlink_to(outside)
    (root / DATASET / "linked").symlink_to(outside)
    found = open_stores(root)
    assert len(found.stores) == 1
    assert len(found.errors) == 2
    assert all("is a link to" in str(error) for error in found.errors)


def test_links_to_data_sets_are_followed(root: Path, tmp_path: Path):
    elsewhere = tmp_path / "other-disk"
    (root / "ludb").rename(elsewhere)
    (root / "ludb").symlink_to(elsewhere)
    (store,) = open_stores(root).stores
    assert verify(store).intact
    with writable_store(root) as opened:
        opened.write_shard(1, random_rows(1), whole_status())
    assert (open_store(store.location).status()[:8] == 1).all()


IRREGULAR_FILES: dict[str, Callable[[Path, Path], None]] = {
    "symlink": lambda path, other: path.symlink_to(other),
    "FIFO": lambda path, other: os.mkfifo(path),
    "device": lambda path, other: path.symlink_to("/dev/zero"),
    "folder": lambda path, other: path.mkdir(),
}


def read_all(location: Location) -> None:
    store = open_store(location)
    assert (store.status(0) == 1).all()
    store.read(store.rows_by_id(store.record_id[:4]))


@pytest.mark.parametrize("kind", IRREGULAR_FILES)
@pytest.mark.parametrize(
    "part",
    ["zarr.json", "embedding/zarr.json", "embedding/c/0/0", "status/c/0", "record_id/c/0"],
)
def test_irregular_files_are_reported_and_not_read(kind: str, part: str, root: Path, outside: Path):
    (store,) = open_stores(root).stores
    path = Path(str(store.location)) / part
    path.unlink()
    if kind == "folder" and part in ("status/c/0", "record_id/c/0"):
        pytest.skip("a folder in place of a chunk means that the chunk is missing")
    IRREGULAR_FILES[kind](path, outside / "precious.txt")
    with writable_store(root, dataset="other/1") as other:
        other.write_shard(0, random_rows(0), whole_status())
    found = open_stores(root)
    assert found.stores[-1].location.key.startswith("other/1/")
    with pytest.raises(StoreError):
        read_all(store.location)


@pytest.mark.parametrize("kind", IRREGULAR_FILES)
def test_irregular_lease_does_not_lock_the_store(kind: str, root: Path, outside: Path):
    (store,) = open_stores(root).stores
    folder = Path(str(leases_folder(store.location)))
    for file in folder.iterdir():
        file.unlink()
    IRREGULAR_FILES[kind](folder / "00000005.json", outside / "precious.txt")
    before = contents(outside)
    acquire(leases_folder(store.location), expire_seconds=0.1).release()
    with writable_store(root) as opened:
        opened.write_shard(1, random_rows(1), whole_status())
    assert contents(outside) == before


@pytest.mark.parametrize("link", [None, "evil", "evil/1"])
def test_folders_that_are_not_stores_are_never_garbage(link: str | None, tmp_path: Path):
    """A root may be mistyped, and the folder of a data set may be a link to anything."""
    home = tmp_path / "home"
    for name in ("a/b/c/d/e", "a/b/c/leases/0123456789abcdef0/x", "a/b/c/0123456789abcdef/x"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("precious")
    root = home
    if link is not None:
        root = tmp_path / "root"
        (root / link).parent.mkdir(parents=True, exist_ok=True)
        (root / link).symlink_to(home if link == "evil" else home / "a")
    before = contents(home)
    assert find_garbage(locate(root)) == []
    assert run_app(enecg(), ["store", "gc", str(root), "--remove"]) == 0
    assert contents(home) == before


@pytest.mark.parametrize("kind", ["folder", "symlink", "FIFO"])
def test_obstacle_in_place_of_the_next_lease_does_not_block(kind: str, root: Path, outside: Path):
    (store,) = open_stores(root).stores
    folder = leases_folder(store.location)
    IRREGULAR_FILES[kind](Path(str(folder)) / "00000002.json", outside / "precious.txt")
    before = contents(outside)
    with acquire(folder, expire_seconds=0.2) as lease:
        assert lease.ticket.number == 3
    assert contents(outside) == before
