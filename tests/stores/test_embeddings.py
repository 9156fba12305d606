"""Conformance of stores on a directory and on S3, and further tests of embedding stores."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from conformance.store_tests import (
    Ids,
    StoreTests,
    damage,
    integer_ids,
    random_rows,
    text_ids,
    whole_status,
    writable_store,
)

from stores import creation
from stores.errors import StoreError
from stores.local_zarr import FencedLocalStore
from stores.locate import locate
from stores.opening import open_store, open_stores, resolve
from stores.url import check_url


class TestOnDisk(StoreTests):
    @pytest.fixture
    def root(self, tmp_path: Path) -> str:
        return str(tmp_path)


class TestOnS3(StoreTests):
    @pytest.fixture(params=[integer_ids, pytest.param(text_ids, marks=pytest.mark.slow)])
    def ids(self, request: pytest.FixtureRequest) -> Ids:
        function: Ids = request.param
        return function

    @pytest.fixture
    def root(self, s3_root: str) -> str:
        return s3_root


def test_writes_status_after_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with writable_store(tmp_path) as store:
        written: list[str] = []
        original_put = FencedLocalStore.put

        def record_put(self: FencedLocalStore, key: str, value: Any) -> None:
            written.append(key.removeprefix(store.location.key).split("/")[1])
            original_put(self, key, value)

        monkeypatch.setattr(FencedLocalStore, "put", record_put)
        store.write_shard(0, random_rows(0), whole_status())
    assert written == ["embedding", "status"]


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        (errno.ENOSPC, r"cannot be accessed \(No space left on device\).*free some space"),
        (errno.ETIMEDOUT, r"cannot be accessed \(Connection timed out\).*its connection"),
        (errno.EIO, r"cannot be accessed \(Input/output error\).*check the disk or its connection"),
    ],
)
def test_disk_error_raises_store_error_and_rows_stay_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int, message: str
):
    def fail(self: FencedLocalStore, key: str, value: Any) -> None:
        raise OSError(reason, os.strerror(reason))

    with writable_store(tmp_path) as store:
        with monkeypatch.context() as patch:
            patch.setattr(FencedLocalStore, "put", fail)
            with pytest.raises(StoreError, match=message):
                store.write_shard(0, random_rows(0), whole_status())
        assert open_store(store.location).status(0).tolist() == [0, 0, 0, 0]


def test_open_stores_reports_a_store_without_group_metadata(tmp_path: Path):
    with writable_store(tmp_path) as store:
        store.write_shard(0, random_rows(0), whole_status())
    damage(store.location, "zarr.json", None)
    (error,) = open_stores(tmp_path, "ludb/1.0.1").errors
    assert "its zarr.json is missing" in str(error)


@pytest.fixture
def near_root() -> Iterator[Path]:
    """A folder two levels below `/`."""
    with TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


def test_group_too_close_to_the_root_or_bucket_is_not_a_store(near_root: Path, s3_server: str):
    for url in (str(near_root), f"file://{near_root}", f"s3://lab/{near_root.name}"):
        folder = locate(url)
        folder.root.write("zarr.json", b"{}")
        with pytest.raises(StoreError, match=f"^{folder} contains a zarr.json but is not a store"):
            resolve(url)


def test_store_can_be_four_levels_below_the_root_of_the_file_system(near_root: Path):
    folder = near_root / "dlinear" / "0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "zarr.json").write_text("garbage")
    resolved = resolve(folder)
    assert str(resolved.root) == "/"
    (error,) = resolved.found.errors
    assert str(error).startswith(f"{folder} is damaged")


def test_root_that_is_a_file_raises_store_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match=r"cannot be accessed \(Not a directory\)"),
        writable_store(tmp_path / "file"),
    ):
        pass


def test_growth_fills_a_gap_in_the_record_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(creation, "RECORD_ID_CHUNK_ROWS", 4)
    with writable_store(tmp_path, range(10)) as store:
        pass
    damage(store.location, "record_id/c/1", None)
    interrupted = open_store(store.location)
    assert len(interrupted.record_id) == len(interrupted.to_dask()) == 4
    assert interrupted.to_xarray().sizes["record"] == 4
    with writable_store(tmp_path, range(10)) as store:
        assert store.record_id.tolist() == list(range(10))


def test_locate_accepts_local_file_urls_and_rejects_unknown_schemes(tmp_path: Path):
    assert str(locate(f"file://{tmp_path}/a%20b")) == f"{tmp_path}/a b"
    with pytest.raises(StoreError, match="file://data/x: not a valid store URL"):
        locate("file://data/x")
    with pytest.raises(StoreError, match="gopher://x: not a valid store URL"):
        locate("gopher://x")
    assert check_url(tmp_path / "a@b?") == ""


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:secret@lab/x",
        "s3://key:sec/ret@lab/x",
        "s3://lab/x?secret=1",
        "s3://lab/x#secret",
        "https://key:secret@lab/x",
        "s3+x://key:secret@lab",
        "file://key:secret@lab/x",
        "s3://key:1234@lab/sec",
        "s3://key:12/34@lab/sec",
        "s3://key:123456/sec",
    ],
)
def test_error_for_a_url_with_credentials_does_not_contain_them(url: str):
    with pytest.raises(StoreError, match="contains credentials") as raised:
        locate(url)
    assert "sec" not in str(raised.value)


@pytest.mark.parametrize("url", ["s3://minio.lab:9000/ecg", "http://minio.lab:9000/lab/ecg"])
def test_error_for_a_url_with_a_port_names_aws_endpoint_url(url: str):
    with pytest.raises(StoreError, match=f"{url}: remove the port .* AWS_ENDPOINT_URL"):
        locate(url)


@pytest.mark.parametrize(
    ("environ", "config", "reason"),
    [
        ({"AWS_PROFILE": "nobody"}, "", "boto3 .*: The config profile .nobody. could not be found"),
        ({"AWS_ACCESS_KEY_ID": "lab"}, "", "boto3 .*: Partial credentials found in env"),
        ({}, "[default", "boto3 .*: Unable to parse config file"),
        ({}, "[default]\ncredential_process=/nowhere/key", "boto3 .*: .*No such file or directory"),
        (
            {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": "lab:80"},
            "",
            "AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL is not the URL of an S3 server",
        ),
    ],
)
def test_invalid_configuration_of_s3_is_reported(
    environ: dict[str, str],
    config: str,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text(config)
    settings = {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in (settings | environ).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match=f"^s3://lab/stores: {reason}.*; "):
        locate("s3://lab/stores")


def test_store_opened_during_growth_has_ids_and_status_of_equal_length(tmp_path: Path):
    with writable_store(tmp_path) as store:
        early = open_store(store.location)
        assert early.features == 8  # Reading this property opens the arrays.
    with writable_store(tmp_path, [20, 21]) as grown:
        pass
    # Simulate ids that were opened after the growth, and other arrays that were opened before it.
    early._arrays["record_id"] = grown.array("record_id")
    assert len(early.record_id) == len(early.status()) == 10
