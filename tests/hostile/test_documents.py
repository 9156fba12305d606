"""Untrusted metadata, leases and run records."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance.store_tests import random_rows, whole_status, writable_store

from flows.cli import enecg
from flows.run_app import run_app
from stores.documents import MAX_DEPTH, MAX_DOCUMENT_BYTES, InvalidDocument, parse_document
from stores.embeddings import EmbeddingStore
from stores.errors import DamagedStore, StoreError
from stores.identity import compute_identity
from stores.layout import leases_folder, runs_folder, store_location
from stores.lease import acquire
from stores.lease_record import LeaseRecord
from stores.locate import locate
from stores.location import Location
from stores.opening import open_store, open_stores
from stores.runs import read_runs, write_run
from stores.shards import append_checksum

pytestmark = pytest.mark.hostile

DEEP = b"[" * 100_000 + b"]" * 100_000


def fill(root: str) -> str:
    with writable_store(root) as store:
        store.write_shard(0, random_rows(0), whole_status())
    return root


@pytest.fixture
def root(tmp_path: Path) -> str:
    return fill(str(tmp_path))


@pytest.fixture(params=["disk", "s3"])
def any_root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return fill(str(request.getfixturevalue("s3_root") if request.param == "s3" else tmp_path))


def change(location: Location, key: str, **changes: Any) -> None:
    """Change keys of a JSON document; ``a__b`` is the key b of the object a."""
    full = f"{location.key}/{key}"
    document = json.loads(location.root.read(full) or b"")
    for name, value in changes.items():
        *path, last = name.split("__")
        target = document
        for part in path:
            target = target[part]
        target[last] = value
    location.root.write(full, json.dumps(document).encode())


ARRAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "many rows": ("record_id/zarr.json", {"shape": [10**12]}),
    "rows without chunks": ("record_id/zarr.json", {"shape": [10**9]}),
    "many features": ("embedding/zarr.json", {"shape": [10, 10**9]}),
    "negative shape": ("status/zarr.json", {"shape": [-1]}),
    "no shape": ("status/zarr.json", {"shape": []}),
    "three dimensions": ("embedding/zarr.json", {"shape": [1, 1, 1]}),
    "text as shape": ("status/zarr.json", {"shape": ["x"]}),
    "chunk 0": ("status/zarr.json", {"chunk_grid__configuration__chunk_shape": [0]}),
    "huge chunk": ("status/zarr.json", {"chunk_grid__configuration__chunk_shape": [10**15]}),
    "huge shard": (
        "embedding/zarr.json",
        {"chunk_grid__configuration__chunk_shape": [10**9, 8]},
    ),
    "no chunk grid": ("embedding/zarr.json", {"chunk_grid": None}),
    "no codecs": ("embedding/zarr.json", {"codecs": []}),
    "codecs of another type": ("embedding/zarr.json", {"codecs": {"name": "x"}}),
    "unknown codec": ("embedding/zarr.json", {"codecs": [{"name": "evil"}]}),
    "unknown data type": ("embedding/zarr.json", {"data_type": "evil"}),
    "float64": ("embedding/zarr.json", {"data_type": "float64"}),
    "attributes as a list": ("status/zarr.json", {"attributes": []}),
    "no flag meanings": ("status/zarr.json", {"attributes": {}}),
    "flag meanings as a number": ("status/zarr.json", {"attributes": {"flag_meanings": 3}}),
    "no provenance": ("zarr.json", {"attributes": {"format": "enecg-embeddings/1"}}),
    "provenance as a list": ("zarr.json", {"attributes__provenance": []}),
    "provenance without data set": ("zarr.json", {"attributes__provenance": {"expert": "x"}}),
    "another format": ("zarr.json", {"attributes__format": {"x": 1}}),
    "group as array": ("zarr.json", {"node_type": "array"}),
    "many flags": ("status/zarr.json", {"attributes": {"flag_meanings": "x " * 300}}),
    "compressed record ids": (
        "record_id/zarr.json",
        {"codecs": [{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 1}}]},
    ),
    "compressed status": ("status/zarr.json", {"codecs": [{"name": "bytes"}, {"name": "gzip"}]}),
    "large chunks of record ids": (
        "record_id/zarr.json",
        {"chunk_grid__configuration__chunk_shape": [10**8]},
    ),
    "long fill value": ("record_id/zarr.json", {"fill_value": 10**6}),
    "zarr 2": ("zarr.json", {"zarr_format": 2}),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_invalid_metadata_is_an_error_of_its_store_only(name: str, root: str):
    key, changes = ARRAYS[name]
    (store,) = open_stores(root).stores
    change(store.location, key, **changes)
    assert_one_bad_store(root, store)


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"null", b"\xff", DEEP, b'{"a": NaN}', b"1"])
@pytest.mark.parametrize("key", ["zarr.json", "embedding/zarr.json", "record_id/zarr.json"])
def test_document_that_is_not_an_object_is_an_error_of_its_store_only(
    value: bytes, key: str, root: str
):
    (store,) = open_stores(root).stores
    store.location.root.write(f"{store.location.key}/{key}", value)
    assert_one_bad_store(root, store)


def test_large_document_is_not_read(any_root: str):
    root = any_root
    (store,) = open_stores(root).stores
    store.location.root.write(f"{store.location.key}/zarr.json", b" " * (MAX_DOCUMENT_BYTES + 1))
    with pytest.raises(StoreError, match="bytes, too many to read"):
        open_store(store.location)
    assert_one_bad_store(root, store)


@pytest.mark.parametrize("key", ["record_id/c/0", "status/c/0"])
def test_large_chunk_is_not_read(any_root: str, key: str, monkeypatch: pytest.MonkeyPatch):
    (store,) = open_stores(any_root).stores
    for module in ("local_zarr", "objects"):
        monkeypatch.setattr(f"stores.{module}.MAX_VALUE_BYTES", 600_000)
    store.location.root.write(f"{store.location.key}/{key}", b"\0" * 600_001)
    with pytest.raises(StoreError, match="600,001 bytes, too many"):
        read_ids_and_status(store.location)


def read_ids_and_status(location: Location) -> None:
    store = open_store(location)
    store.rows_by_id(store.record_id)
    store.status()


def assert_one_bad_store(root: str, store: EmbeddingStore) -> None:
    """Assert that a store is reported as an error, and that another one is still listed."""
    with writable_store(root, dataset="other/1") as other:
        other.write_shard(0, random_rows(0), whole_status())
    with pytest.raises(StoreError):
        open_store(store.location)
    found = open_stores(root)
    assert len(found.stores) == len(found.errors) == 1
    for command in ("ls", "show", "verify"):
        assert run_app(enecg(), ["store", command, root]) == 1
    assert run_app(enecg(), ["store", "gc", root]) == 0


@pytest.mark.parametrize("offset", [0, 7, 2**40, 2**63, 2**64 - 2])
@pytest.mark.parametrize("length", [0, 5, 2**40, 2**63])
def test_shard_with_a_wrong_index_is_reported_as_damaged(offset: int, length: int, root: str):
    (store,) = open_stores(root).stores
    key = store.shard_key("embedding", 0)
    with store.location.root.open(key) as reader:
        assert reader is not None
        shard = bytearray(reader.read(0, reader.size))
    layout = store.layout
    index = np.frombuffer(shard, "<u8", offset=len(shard) - layout.index_bytes, count=2).copy()
    index[:] = offset, length
    shard[-layout.index_bytes :] = append_checksum(index.view(np.uint8))
    store.location.root.write(key, bytes(shard))
    with pytest.raises(DamagedStore):
        open_store(store.location).read(np.arange(4))


LEASES: dict[str, Any] = {
    "NaN": {"expires": float("nan")},
    "infinite": {"expires": float("inf")},
    "1e300": {"expires": 1e300},
    "negative": {"expires": -5},
    "process": {"process": 10**30},
    "negative process": {"process": -1},
    "token": {"token": "../../x"},
    "text": {"who": "x" * 10**6},
    "beat": {"beat": 10**30},
    "wrong type": {"expires": "soon"},
}


@pytest.mark.parametrize("value", [*LEASES.values(), DEEP, b"[]", b"{}", b"", b"null"], ids=str)
def test_invalid_lease_expires(value: Any, root: str):
    (store,) = open_stores(root).stores
    folder = leases_folder(store.location)
    if isinstance(value, dict):
        record = json.loads(LeaseRecord.for_this_process(45.0).json()) | {"machine": "elsewhere"}
        value = json.dumps(record | value).encode()
    folder.root.write(f"{folder.key}/00000050.json", value)
    with acquire(folder, expire_seconds=0.2) as lease:
        assert lease.ticket.number == 51


def test_lease_with_a_number_of_many_digits_is_ignored(any_root: str):
    (store,) = open_stores(any_root).stores
    folder = leases_folder(store.location)
    folder.root.write(f"{folder.key}/{'9' * 200}.json", b"{}")
    with acquire(folder) as lease:
        assert lease.ticket.number < 100


@pytest.mark.parametrize("number", [10**18 - 1, 10**18 - 2])
def test_highest_number_of_a_lease_does_not_lock_the_store(number: int, any_root: str):
    (store,) = open_stores(any_root).stores
    folder = leases_folder(store.location)
    folder.root.write(f"{folder.key}/{number}.json", b"{}")
    for _ in range(3):
        with acquire(folder, expire_seconds=0.2) as lease:
            lease.ticket.check()


@pytest.mark.parametrize(
    "value",
    [
        b"[]",
        DEEP,
        b"",
        b'"x"',
        b'{"started": {"a": []}}',
        b"\xff",
        b'{"embedded": "5", "embedding_seconds": "3"}',
        b'{"rows_failed": "7"}',
        b'{"embedding_seconds": 1, "embedded": 1' + b"0" * 400 + b"}",
    ],
)
def test_invalid_run_record_is_skipped_or_shown(value: bytes, root: str):
    (store,) = open_stores(root).stores
    folder = runs_folder(store.location)
    folder.root.write(f"{folder.key}/20260101T000000Z-00000000.json", value)
    assert len(read_runs(store)) <= 1
    assert run_app(enecg(), ["store", "show", root]) == 0


def test_text_of_a_run_record_cannot_forge_other_lines(
    root: str, capsys: pytest.CaptureFixture[str]
):
    (store,) = open_stores(root).stores
    write_run(store, {"started": "now\n  writer    none", "by": "x\ny"})
    assert run_app(enecg(), ["store", "show", root]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("  writer") for line in lines) == 1
    assert "y: 0 embedded, 0 failed on unknown device" not in lines


@pytest.mark.parametrize("position", [0, 3, 7])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_row_that_is_not_finite_is_rejected_on_write_and_on_read(
    position: int, value: float, tmp_path: Path
):
    rows = random_rows(1)
    rows[2, position] = value
    with writable_store(tmp_path) as store:
        with pytest.raises(ValueError, match="a whole row is not finite"):
            store.write_shard(1, rows, whole_status())
        store.put_data(1, rows)
        store.put_status(1, whole_status())
    (store,) = open_stores(tmp_path).stores
    with pytest.raises(DamagedStore, match=r"NaN or infinity in 1 rows .* such as record 6; run"):
        store.read(np.arange(4, 8))


@pytest.mark.parametrize(
    "dataset",
    [
        "../escaped/x",
        "..",
        "a",
        "a/b/c",
        "/etc/x",
        "a/..",
        "./x",
        "a//b",
        "a/b\n",
        "",
        "a/ ",
        "~/x",
    ],
)
def test_name_of_a_data_set_cannot_leave_the_root(dataset: str, tmp_path: Path):
    with pytest.raises(StoreError, match="not a valid name of a data set"):
        store_location(tmp_path, {"dataset": dataset, "expert": "x"})


@pytest.mark.parametrize("expert", ["..", "a/b", "", "leases", "runs", "a\n", "."])
def test_name_of_an_expert_cannot_leave_the_data_set(expert: str, tmp_path: Path):
    with pytest.raises(StoreError, match="not a valid name of an expert"):
        store_location(tmp_path, {"dataset": "a/b", "expert": expert})


def test_nesting_is_limited():
    deepest = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert parse_document(deepest) is not None
    with pytest.raises(InvalidDocument, match="nested more than"):
        parse_document(b"[" + deepest + b"]")


def test_location_outside_a_local_root_is_rejected(tmp_path: Path):
    root = locate(tmp_path / "root").root
    for key in ("../x", "a/../../x", "/x", "a//x"):
        for method in (root.read, root.children, root.delete):
            with pytest.raises(StoreError, match="not a valid location"):
                method(key)


@pytest.mark.parametrize(
    "changes", [{"dataset": "../escaped/x"}, {"dataset": "other/1"}, {"expert": "moment"}], ids=str
)
def test_store_cannot_claim_another_data_set_or_expert(
    changes: dict[str, str], root: str, tmp_path_factory: pytest.TempPathFactory
):
    (store,) = open_stores(root).stores
    provenance = store.provenance | changes
    path = Path(str(store.location))
    change(store.location, "zarr.json", attributes__provenance=provenance)
    path.rename(path.with_name(compute_identity(provenance)))
    with writable_store(root, dataset="zzz/1") as other:
        other.write_shard(0, random_rows(0), whole_status())
    target = tmp_path_factory.mktemp("target")
    assert run_app(enecg(), ["store", "copy", root, str(target)]) == 1
    assert [folder.name for folder in target.iterdir()] == ["zzz"]
    assert len(open_stores(root).errors) == 1


@pytest.mark.parametrize("kind", ["FIFO", "link", "large"])
def test_irregular_run_record_does_not_stop_a_copy(
    kind: str, root: str, tmp_path_factory: pytest.TempPathFactory
):
    (store,) = open_stores(root).stores
    runs = Path(str(runs_folder(store.location)))
    if kind == "link":
        runs.parent.parent.mkdir(exist_ok=True)
        runs.parent.parent.rename(runs.parent.parent.with_name("moved"))
        runs.parent.parent.symlink_to("/etc")
    else:
        runs.mkdir(parents=True, exist_ok=True)
        path = runs / "20260101T000000Z-00000000.json"
        os.mkfifo(path) if kind == "FIFO" else path.write_bytes(b" " * (MAX_DOCUMENT_BYTES + 1))
    target = tmp_path_factory.mktemp("target")
    # A link is reported as an error, so the exit code is 1.
    assert run_app(enecg(), ["store", "copy", root, str(target)]) == (kind == "link")
    assert (open_stores(target).stores[0].status(0) == 1).all()
