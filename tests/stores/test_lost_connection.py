"""A store in S3 whose connection is cut for a while or for good, or whose answers are lost."""

import threading
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import obstore
import pytest
from conformance.store_tests import PROVENANCE, make, rows, whole
from obstore.exceptions import GenericError
from tcp_proxy import TcpProxy

from stores import objects
from stores.errors import StoreError
from stores.layout import leases_folder, store_location
from stores.lease import acquire
from stores.opening import open_store


@pytest.fixture
def proxy(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TcpProxy]:
    with TcpProxy(s3_server) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", between.address)
        yield between


@pytest.fixture
def root(proxy: TcpProxy) -> str:
    return f"s3://lab/{uuid.uuid4().hex}"


def restore_later(proxy: TcpProxy, seconds: float) -> None:
    """Once what was asked of the proxy has happened, let everything through again."""

    def later() -> None:
        assert proxy.robbed.wait(30)
        time.sleep(seconds)
        proxy.restore()

    threading.Thread(target=later).start()


@pytest.mark.parametrize("what", ["embedding/c/1", "status/c/1", "leases"])
def test_write_survives_a_temporary_connection_loss(root: str, proxy: TcpProxy, what: str):
    with make(root) as store:
        store.write_shard(0, rows(0), whole())
        proxy.cut_within(what.encode())
        restore_later(proxy, 0.5)
        store.write_shard(1, rows(1), whole())
        assert proxy.robbed.is_set()
        assert proxy.refused > 0
    after = open_store(store.location)
    np.testing.assert_array_equal(after.read(np.arange(8)), np.concatenate([rows(0), rows(1)]))


@pytest.mark.parametrize("what", ["embedding/c/1", "status/c/1"])
def test_permanent_connection_loss_raises_store_error_and_keeps_rows(
    root: str, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch, what: str
):
    monkeypatch.setattr(objects, "RETRY_TIMEOUT", timedelta(seconds=1))
    with make(root) as store:
        store.write_shard(0, rows(0), whole())
        proxy.cut_within(what.encode())
        began = time.monotonic()
        with pytest.raises(StoreError, match="is unreachable") as told:
            store.write_shard(1, rows(1), whole())
        assert 1 <= time.monotonic() - began < 8
        assert "completed rows are kept" in str(told.value)
        assert "\n" not in str(told.value)
    proxy.restore()
    again = open_store(store.location)
    assert again.status().tolist() == [1] * 4 + [0] * 6
    np.testing.assert_array_equal(again.read(np.arange(4)), rows(0))


@pytest.mark.slow
def test_retries_for_the_whole_timeout_if_connections_are_refused(
    root: str, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(objects, "RETRY_TIMEOUT", timedelta(seconds=4))
    place = objects.ObjectRoot.connect(root)
    proxy.cut()
    began = time.monotonic()
    with pytest.raises(Exception, match="after"):
        place.read("a")
    assert 4 <= time.monotonic() - began < 11


@pytest.mark.parametrize("what", ["embedding/c/0", "status/c/0"])
def test_write_succeeds_if_the_response_is_lost(root: str, proxy: TcpProxy, what: str):
    with make(root) as store:
        proxy.rob(what.encode())
        store.write_shard(0, rows(0), np.array([1, 0, 1, 2], np.uint8))
        assert proxy.robbed.is_set()
        # And it goes on from there.
        proxy.rob(what.encode())
        store.write_shard(0, rows(0), np.array([1, 1, 1, 2], np.uint8))
        assert proxy.robbed.is_set()
    after = open_store(store.location)
    assert after.status(0).tolist() == [1, 1, 1, 2]
    np.testing.assert_array_equal(after.read(np.arange(3)), rows(0)[:3])


@pytest.mark.parametrize("what", ["zarr.json", "record_id/c/0", "embedding/zarr.json"])
def test_creation_and_growth_succeed_if_responses_are_lost(root: str, proxy: TcpProxy, what: str):
    for count in (10, 12):
        proxy.rob(f"PUT /lab/{root.rpartition('/')[2]}/ludb/1.0.1/dlinear".encode())
        with make(root, range(count)) as store:
            assert proxy.robbed.is_set()
        assert open_store(store.location).record_id.tolist() == list(range(count))
    proxy.rob(what.encode())
    with make(root, range(15), dtype="float32") as other:
        assert proxy.robbed.is_set()
    assert other.record_id.tolist() == list(range(15))
    proxy.rob(what.encode())
    with make(root, range(20), dtype="float32") as other:
        assert proxy.robbed.is_set()
    assert open_store(other.location).record_id.tolist() == list(range(20))


def test_lease_is_acquired_if_the_response_is_lost(root: str, proxy: TcpProxy):
    folder = leases_folder(store_location(root, PROVENANCE))
    for number in (1, 2):
        proxy.rob(f"{number:08d}.json".encode())
        with acquire(folder) as held:
            assert proxy.robbed.is_set()
            held.ticket.check()
            assert held.ticket.number == number


def test_locations_with_equal_url_and_key_are_equal(root: str):
    one, other = (store_location(root, PROVENANCE) for _ in range(2))
    assert len({one, other, one.parent}) == 2


def test_unreachable_bucket_raises_after_the_connect_timeout(
    root: str, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
):
    assert timedelta(seconds=10) >= objects.CONNECT_TIMEOUT
    monkeypatch.setattr(objects, "CONNECT_TIMEOUT", timedelta(seconds=1))
    proxy.cut()
    began = time.monotonic()
    with pytest.raises(StoreError, match="is unreachable"):
        store_location(root, PROVENANCE)
    assert time.monotonic() - began < 8


def test_unsent_request_is_retried(root: str, monkeypatch: pytest.MonkeyPatch):
    place = objects.ObjectRoot.connect(root)
    real, asked = obstore.put, []

    def unlucky(*arguments: object, **options: object) -> object:
        asked.append(arguments[1])
        if len(asked) == 1:
            raise GenericError("error sending request ... connection was not ready")
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(obstore, "put", unlucky)
    assert place.create("here", b"once")
    assert asked == ["here", "here"]
    assert place.read("here") == b"once"
