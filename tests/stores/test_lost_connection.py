"""Stores on S3 with temporary or permanent connection losses, and with lost responses."""

import threading
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import obstore
import pytest
from conformance.store_tests import PROVENANCE, random_rows, whole_status, writable_store
from obstore.exceptions import GenericError
from obstore.store import MemoryStore
from tcp_proxy import TcpProxy

from stores import objects
from stores.errors import StoreError
from stores.layout import leases_folder, store_location
from stores.lease import acquire
from stores.opening import open_store


@pytest.fixture
def proxy(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TcpProxy]:
    with TcpProxy(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        yield proxy


@pytest.fixture
def root(proxy: TcpProxy) -> str:
    return f"s3://lab/{uuid.uuid4().hex}"


def restore_later(proxy: TcpProxy, seconds: float) -> None:
    """Restore the connection in a background thread, `seconds` after it is cut."""

    def restore_after_delay() -> None:
        assert proxy.triggered.wait(30)
        time.sleep(seconds)
        proxy.restore()

    threading.Thread(target=restore_after_delay).start()


@pytest.mark.parametrize(
    "key",
    ["embedding/c/1", pytest.param("status/c/1", marks=pytest.mark.slow), "leases"],
)
def test_write_succeeds_after_a_temporary_connection_loss(root: str, proxy: TcpProxy, key: str):
    with writable_store(root) as store:
        store.write_shard(0, random_rows(0), whole_status())
        proxy.cut_within(key.encode())
        restore_later(proxy, 0.5)
        store.write_shard(1, random_rows(1), whole_status())
        assert proxy.triggered.is_set()
        assert proxy.refused > 0
    after = open_store(store.location)
    np.testing.assert_array_equal(
        after.read(np.arange(8)), np.concatenate([random_rows(0), random_rows(1)])
    )


@pytest.mark.parametrize(
    "key", ["embedding/c/1", pytest.param("status/c/1", marks=pytest.mark.slow)]
)
def test_permanent_connection_loss_raises_store_error_and_keeps_rows(
    root: str, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch, key: str
):
    monkeypatch.setattr(objects, "RETRY_TIMEOUT", timedelta(seconds=1))
    with writable_store(root) as store:
        store.write_shard(0, random_rows(0), whole_status())
        proxy.cut_within(key.encode())
        start_time = time.monotonic()
        with pytest.raises(StoreError, match="is unreachable") as raised:
            store.write_shard(1, random_rows(1), whole_status())
        assert time.monotonic() - start_time >= 1
        assert "Completed rows are kept" in str(raised.value)
        assert "\n" not in str(raised.value)
    proxy.restore()
    again = open_store(store.location)
    assert again.status().tolist() == [1] * 4 + [0] * 6
    np.testing.assert_array_equal(again.read(np.arange(4)), random_rows(0))


@pytest.mark.slow
def test_retries_for_the_whole_timeout_if_connections_are_refused(
    root: str, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(objects, "RETRY_TIMEOUT", timedelta(seconds=4))
    connected = objects.ObjectRoot.connect(root)
    proxy.cut()
    start_time = time.monotonic()
    with pytest.raises(GenericError, match="after"):
        connected.read("a")
    assert time.monotonic() - start_time >= 4


@pytest.mark.parametrize("key", ["embedding/c/0", "status/c/0"])
def test_write_succeeds_if_the_response_is_lost(root: str, proxy: TcpProxy, key: str):
    with writable_store(root) as store:
        proxy.withhold_response(key.encode())
        store.write_shard(0, random_rows(0), np.array([1, 0, 1, 2], np.uint8))
        assert proxy.triggered.is_set()
        # The second write must replace the version that the first one created.
        proxy.withhold_response(key.encode())
        store.write_shard(0, random_rows(0), np.array([1, 1, 1, 2], np.uint8))
        assert proxy.triggered.is_set()
    after = open_store(store.location)
    assert after.status(0).tolist() == [1, 1, 1, 2]
    np.testing.assert_array_equal(after.read(np.arange(3)), random_rows(0)[:3])


@pytest.mark.parametrize(
    "key",
    ["zarr.json", "record_id/c/0", pytest.param("embedding/zarr.json", marks=pytest.mark.slow)],
)
def test_creation_and_growth_succeed_if_responses_are_lost(root: str, proxy: TcpProxy, key: str):
    for count in (10, 12):
        proxy.withhold_response(f"PUT /lab/{root.rpartition('/')[2]}/ludb/1.0.1/dlinear".encode())
        with writable_store(root, range(count)) as store:
            assert proxy.triggered.is_set()
        assert open_store(store.location).record_id.tolist() == list(range(count))
    proxy.withhold_response(key.encode())
    with writable_store(root, range(15), dtype="float32") as other:
        assert proxy.triggered.is_set()
    assert other.record_id.tolist() == list(range(15))
    proxy.withhold_response(key.encode())
    with writable_store(root, range(20), dtype="float32") as other:
        assert proxy.triggered.is_set()
    assert open_store(other.location).record_id.tolist() == list(range(20))


def test_lease_is_acquired_if_the_response_is_lost(root: str, proxy: TcpProxy):
    folder = leases_folder(store_location(root, PROVENANCE))
    for number in (1, 2):
        proxy.withhold_response(f"{number:08d}.json".encode())
        with acquire(folder) as lease:
            assert proxy.triggered.is_set()
            lease.ticket.check()
            assert lease.ticket.number == number


def test_locations_with_equal_url_and_key_are_equal(root: str):
    first, second = (store_location(root, PROVENANCE) for _ in range(2))
    assert len({first, second, first.parent}) == 2


def test_unreachable_bucket_raises_and_the_connect_timeout_is_at_most_10_seconds(
    root: str, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
):
    assert timedelta(seconds=10) >= objects.CONNECT_TIMEOUT
    monkeypatch.setattr(objects, "CONNECT_TIMEOUT", timedelta(seconds=1))
    proxy.cut()
    with pytest.raises(StoreError, match="is unreachable"):
        store_location(root, PROVENANCE)


def test_unsent_request_is_retried(root: str, monkeypatch: pytest.MonkeyPatch):
    connected = objects.ObjectRoot.connect(root)
    original_put, requests = obstore.put, []

    def fail_once(*arguments: object, **options: object) -> object:
        requests.append(arguments[1])
        if len(requests) == 1:
            raise GenericError("error sending request ... connection was not ready")
        return original_put(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(obstore, "put", fail_once)
    assert connected.create("here", b"once")
    assert requests == ["here", "here"]
    assert connected.read("here") == b"once"


def test_objects_without_entity_tags_are_read():
    client = MemoryStore()
    obstore.put(client, "key", b"12345")
    assert objects.ObjectReader(client, "key", 5, None).read(1, 3) == b"23"
