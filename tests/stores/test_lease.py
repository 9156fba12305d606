"""Leases on a directory and on S3: exclusion, waiting, expiry and takeover."""

import errno
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance.store_tests import random_rows, whole_status, writable_store
from obstore.exceptions import GenericError
from processes import (
    FORKSERVER,
    PROVENANCE,
    SHARD_ROWS,
    compete,
    do_nothing,
    expected_embedding,
    hold,
    start,
)

from stores import lease as lease_module
from stores import local
from stores.errors import LeaseLost
from stores.layout import leases_folder, store_beside, store_location
from stores.lease import Lease, LeaseHeld, acquire, read_holder
from stores.lease_record import LeaseRecord
from stores.local import LocalRoot
from stores.locate import locate
from stores.location import Location
from stores.opening import open_store
from stores.regular_files import read_open_file


@pytest.fixture(params=["disk", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "disk" else request.getfixturevalue("s3_root")


@pytest.fixture
def store(root: str) -> Location:
    return store_location(root, PROVENANCE)


@pytest.fixture
def folder(store: Location) -> Location:
    return leases_folder(store)


def acquire_lease(folder: Location, **options: Any) -> Lease:
    """Acquire a lease with frequent heartbeats that, by default, does not expire during a test."""
    return acquire(folder, **({"heartbeat_seconds": 0.1, "expire_seconds": 3600} | options))


def lease_numbers(folder: Location) -> list[int]:
    return [int(file.name.removesuffix(".json")) for file in folder.files()]


def update_document(folder: Location, number: int, **values: Any) -> None:
    """Update keys of a lease document without holding the lease."""
    document = folder / f"{number:08d}.json"
    changed = json.loads(document.read() or b"") | values
    document.root.write(document.key, json.dumps(changed).encode())


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.01)


@contextmanager
def holding(
    folder: Location, heartbeat_seconds: float = 0.1, expire_seconds: float = 0.6
) -> Iterator[tuple[ForkServerProcess, Connection]]:
    """Start a process that holds the lease; yield it and a pipe to it."""
    pipe, child_pipe = FORKSERVER.Pipe()
    process = start(hold, folder, heartbeat_seconds, expire_seconds, child_pipe)
    try:
        assert pipe.recv() == 1
        yield process, pipe
    finally:
        process.kill()
        process.join()


def test_one_of_many_threads_acquires_the_lease(folder: Location):
    started, tried = threading.Barrier(8), threading.Barrier(8)

    def attempt(_: int) -> str:
        started.wait()
        try:
            lease = acquire_lease(folder)
        except LeaseHeld:
            tried.wait()
            return "refused"
        tried.wait()
        lease.release()
        return "won"

    for _ in range(2):
        with ThreadPoolExecutor(8) as threads:
            assert sorted(threads.map(attempt, range(8))) == ["refused"] * 7 + ["won"]


def test_one_of_many_processes_acquires_the_lease(folder: Location):
    started, tried = FORKSERVER.Barrier(4), FORKSERVER.Barrier(4)
    queue = FORKSERVER.Queue()
    processes = [start(compete, folder, started, tried, queue) for _ in range(4)]
    results = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    queue.close()
    assert results.count("won") == 1
    (refusal,) = {result for result in results if result != "won"}
    assert any(f"process {process.pid}, since" in refusal for process in processes)


def test_lease_held_message_names_the_holder_and_the_time(store: Location, folder: Location):
    with acquire_lease(folder) as lease:
        with pytest.raises(LeaseHeld) as raised:
            acquire_lease(folder)
        assert str(raised.value).startswith(
            f"{store} is being written by {lease.record.who}, since {lease.record.since};"
        )
        assert f"process {os.getpid()}" in lease.record.who
        record = read_holder(store)
        assert record is not None
        assert record.token == lease.record.token
    assert read_holder(store) is None


def test_waiting_process_acquires_the_lease_on_release(folder: Location):
    messages: list[str] = []
    lease = acquire_lease(folder)
    released = threading.Event()

    def release() -> None:
        released.set()
        lease.release()

    def log(message: str) -> None:
        # Release only after the message, which is logged during the wait.
        messages.append(message)
        threading.Timer(0.3, release).start()

    with acquire_lease(folder, wait_seconds=3600, log=log) as second:
        assert released.is_set()
        assert second.ticket.number == lease.ticket.number + 1
    assert len(messages) == 1
    assert lease.record.who in messages[0]


def test_acquire_raises_after_wait_seconds(folder: Location):
    with acquire_lease(folder):
        start_time = time.monotonic()
        with pytest.raises(LeaseHeld):
            acquire_lease(folder, wait_seconds=0.5)
        assert time.monotonic() - start_time >= 0.5


def test_takes_over_from_a_killed_local_process_without_waiting_for_expiry(folder: Location):
    with holding(folder, heartbeat_seconds=3600, expire_seconds=3600) as (process, _):
        process.kill()
        process.join()
        # The lease itself does not expire during the test.
        with acquire_lease(folder) as second:
            assert second.ticket.number == 2


def test_takes_over_from_another_machine_after_expiry(folder: Location):
    with holding(folder, heartbeat_seconds=3600, expire_seconds=1) as (process, _):
        process.kill()
        process.join()
        # Whether a process on another machine has ended is unknown here.
        update_document(folder, 1, machine="elsewhere", process=1)
        start_time = time.monotonic()
        with acquire_lease(folder) as second:
            assert second.ticket.number == 2
        assert time.monotonic() - start_time > 1


def test_default_expiry_plus_heartbeat_is_below_60_seconds():
    assert lease_module.EXPIRE_SECONDS + lease_module.HEARTBEAT_SECONDS < 60


def test_holder_keeps_the_lease_through_failing_renewals(
    root: str, folder: Location, monkeypatch: pytest.MonkeyPatch
):
    root_type = type(folder.root)
    failed: list[str] = []

    def fail(*_: Any) -> Any:
        failed.append(threading.current_thread().name)
        if root.startswith("s3:"):
            raise GenericError("the connection is lost")
        raise OSError(errno.ENOSPC, "No space left on device")

    with acquire_lease(folder) as lease:
        for method in ("write", "names"):
            beat = lease.record.beat
            with monkeypatch.context() as patch:
                patch.setattr(root_type, method, fail)
                wait_until(lambda: len(failed) >= 3)
            assert set(failed) == {"lease"}
            failed.clear()
            wait_until(lambda beat=beat: lease.record.beat > beat)
        lease.ticket.check()
        with pytest.raises(LeaseHeld):
            acquire_lease(folder)


def test_lease_numbers_only_increase(folder: Location):
    for number in range(1, 5):
        with acquire_lease(folder) as lease:
            assert lease.ticket.number == number
            assert lease_numbers(folder) == [number]


@pytest.mark.parametrize("stalls_before", ["create_staging", "create"])
def test_suspended_attempt_with_an_outdated_number_fails(
    folder: Location, monkeypatch: pytest.MonkeyPatch, stalls_before: str
):
    root_type = type(folder.root)
    original_method = getattr(root_type, stalls_before)
    stalled, resume = threading.Event(), threading.Event()

    def stall(self: Any, *arguments: Any) -> Any:
        if threading.current_thread().name.startswith("late"):
            stalled.set()
            resume.wait()
        return original_method(self, *arguments)

    with acquire_lease(folder):
        pass
    monkeypatch.setattr(root_type, stalls_before, stall)
    with ThreadPoolExecutor(1, thread_name_prefix="late") as late:
        attempt = late.submit(acquire_lease, folder)
        stalled.wait()
        # The first lease takes the number of the suspended attempt; the second removes the first.
        for _ in range(2):
            with acquire_lease(folder):
                pass
        with acquire_lease(folder) as lease:
            resume.set()
            with pytest.raises(LeaseHeld, match="is being written by"):
                attempt.result()
            lease.ticket.check()
            assert lease.ticket.number == 4
    assert read_holder(store_beside(folder)) is None


def test_suspended_holder_can_neither_write_nor_release_after_takeover(
    store: Location, folder: Location
):
    with holding(folder) as (process, pipe):
        pipe.send(2)
        assert pipe.recv() == "written"
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        start_time = time.monotonic()
        with acquire_lease(folder) as second:
            assert time.monotonic() - start_time > 0.6
            writable = open_store(store, second.ticket)
            ids = writable.record_id
            writable.write_shard(0, expected_embedding(ids), np.ones(SHARD_ROWS, np.uint8))
            os.kill(process.pid, signal.SIGCONT)
            for _ in range(2):
                pipe.send(3)
                assert pipe.recv() == "LeaseLost"
            pipe.send(None)
            assert pipe.recv() == "released"
            process.join()
            second.ticket.check()
            writable.write_shard(0, expected_embedding(ids), np.ones(SHARD_ROWS, np.uint8))
            with pytest.raises(LeaseHeld):
                acquire_lease(folder)
    after = open_store(store)
    np.testing.assert_array_equal(
        after.read(np.arange(SHARD_ROWS)), expected_embedding(after.record_id)
    )


@pytest.mark.parametrize(
    "root", ["disk", pytest.param("s3", marks=pytest.mark.slow)], indirect=True
)
def test_process_suspended_while_waiting_does_not_take_over_from_a_running_holder(
    folder: Location, monkeypatch: pytest.MonkeyPatch
):
    original_read = lease_module._read_highest
    reads: list[Any] = []

    def suspend_after_read(folder: Location) -> Any:
        found = original_read(folder)
        if threading.current_thread().name.startswith("watcher"):
            reads.append(found)
            if reads.count(found) == 2:  # suspend after reading the same document again
                time.sleep(1.5)
        return found

    monkeypatch.setattr(lease_module, "_read_highest", suspend_after_read)
    with (
        acquire_lease(folder, expire_seconds=1) as lease,
        ThreadPoolExecutor(1, thread_name_prefix="watcher") as watcher,
    ):
        with pytest.raises(LeaseHeld):
            watcher.submit(acquire_lease, folder, wait_seconds=2).result()
        lease.ticket.check()


def test_partial_file_does_not_count_as_a_lease(tmp_path: Path):
    folder = leases_folder(store_location(tmp_path, PROVENANCE))
    with acquire_lease(folder) as lease:
        (folder.path / "12345678abcdef0123456789abcdef01.partial").write_bytes(b"")
        lease.ticket.check()
    with acquire_lease(folder) as lease:
        assert lease.ticket.number == 2
        assert [file.name for file in folder.files()] == ["00000002.json"]


def test_raises_lease_held_if_the_new_holder_removed_the_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = leases_folder(store_location(tmp_path, PROVENANCE))
    original_link = os.link
    won: list[Lease] = []

    def lose(partial: Path, path: Path) -> None:
        monkeypatch.setattr(os, "link", original_link)
        won.append(acquire_lease(folder))
        original_link(partial, path)

    monkeypatch.setattr(os, "link", lose)
    with pytest.raises(LeaseHeld, match="is being written by"):
        acquire_lease(folder)
    won[0].ticket.check()
    won[0].release()


@pytest.mark.parametrize("reason", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_one_of_many_threads_acquires_the_lease_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int
):
    def no_links(*_: Any) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "link", no_links)
    test_one_of_many_threads_acquires_the_lease(leases_folder(locate(tmp_path) / "d" / "e" / "i"))


def test_unknown_keys_of_a_lease_document_are_ignored(folder: Location):
    with acquire_lease(folder, heartbeat_seconds=3600, expire_seconds=3600) as lease:
        stop = threading.Event()

        def renew() -> None:
            beat = 0
            while not stop.wait(0.05):
                beat += 1
                update_document(
                    folder, lease.ticket.number, beat=beat, host="a key of a later version"
                )

        thread = threading.Thread(target=renew)
        thread.start()
        with pytest.raises(LeaseHeld):
            acquire_lease(folder)
        stop.set()
        thread.join()
        lease.ticket.check()


@pytest.mark.parametrize(
    "document", [b"", b'{"token": "a", "who": "x", "since": "y", "machine": "m", "process": "1"}']
)
def test_takes_over_an_unreadable_lease_after_expiry(folder: Location, document: bytes):
    folder.root.write(f"{folder.key}/00000007.json", document)
    start_time = time.monotonic()
    with acquire_lease(folder, expire_seconds=0.6) as lease:
        assert lease.ticket.number == 8
    assert time.monotonic() - start_time > 0.6


def test_previous_holder_cannot_write_even_if_its_staging_folder_cannot_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def remove_nothing(*_: Any, **__: Any) -> None:
        """Do not delete the files, as if they belonged to another user or were open on NFS."""

    monkeypatch.setattr(local.shutil, "rmtree", remove_nothing)
    folder = leases_folder(store_location(tmp_path, PROVENANCE))
    stale_lease = acquire_lease(folder, heartbeat_seconds=3600, expire_seconds=0.6)
    stale = folder.root.zarr_writer(stale_lease.ticket.staging.key)
    (stale_lease.ticket.staging.path / "left.partial").write_bytes(b"half")
    with acquire_lease(folder), pytest.raises(LeaseLost):
        stale.put("a/b", b"late")  # type: ignore[attr-defined]
    assert LocalRoot(tmp_path).read("a/b") is None


def test_release_does_not_wait_for_a_lost_connection(
    folder: Location, monkeypatch: pytest.MonkeyPatch
):
    original_names = type(folder.root).names
    hanging, resume = threading.Event(), threading.Event()

    def hang(self: Any, key: str) -> Any:
        hanging.set()
        resume.wait()
        return original_names(self, key)

    lease = acquire_lease(folder)
    monkeypatch.setattr(type(folder.root), "names", hang)
    hanging.wait()
    # Must return although the renewal cannot finish before `resume` is set.
    lease.release()
    resume.set()


def test_only_an_ended_local_process_is_known_inactive():
    running = LeaseRecord.for_this_process(1)
    assert not running.known_inactive
    ended = start(do_nothing)
    ended.join()
    assert ended.pid is not None
    assert replace(running, process=ended.pid).known_inactive
    assert not replace(running, process=ended.pid, machine="elsewhere").known_inactive


def test_rereads_a_file_that_another_machine_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root, stale = LocalRoot(tmp_path), [True, True]
    root.write("a", b"new")

    def fail_twice(descriptor: int, path: Path, limit: int) -> bytes:
        if stale:
            stale.pop()
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return read_open_file(descriptor, path, limit)

    monkeypatch.setattr("stores.local.read_open_file", fail_twice)
    assert root.read("a") == b"new"
    assert not stale


@pytest.mark.parametrize("call", ["open", "pread"])
def test_rereads_a_shard_that_another_machine_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
):
    with writable_store(tmp_path) as store:
        store.write_shard(0, random_rows(0), whole_status())
    original_call, stale = getattr(os, call), [True]

    def fail_once(*arguments: Any, **options: Any) -> Any:
        if stale and (call == "pread" or str(arguments[0]).endswith("/c/0/0")):
            stale.pop()
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return original_call(*arguments, **options)

    monkeypatch.setattr(os, call, fail_once)
    np.testing.assert_array_equal(open_store(store.location).read(np.arange(4)), random_rows(0))
    assert not stale


def test_lease_is_read_with_a_single_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = store_location(tmp_path, PROVENANCE)
    listings = []
    with acquire_lease(leases_folder(store)), monkeypatch.context() as patch:
        for name in ("listdir", "scandir"):
            original = getattr(os, name)

            def count(path: Any, original: Callable[[Any], Any] = original) -> Any:
                listings.append(path)
                return original(path)

            patch.setattr(os, name, count)
        assert read_holder(store) is not None
    assert len(listings) == 1


@pytest.mark.parametrize("method", ["create", "names", "children", "remove_staging"])
def test_failed_acquisition_does_not_block_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
):
    folder = leases_folder(store_location(tmp_path, PROVENANCE))
    with acquire_lease(folder):
        pass
    (folder.path / "00000001-abcdefabcdef").mkdir()
    original_method, calls = getattr(LocalRoot, method), []
    before = set(threading.enumerate())

    def fail(self: LocalRoot, *arguments: Any) -> Any:
        calls.append(arguments)
        # The second call of `names` follows the creation of the lease.
        if len(calls) == (2 if method == "names" else 1):
            raise RuntimeError("broken")
        return original_method(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(LocalRoot, method, fail)
        with pytest.raises(RuntimeError, match="broken"):
            acquire_lease(folder)
    assert set(threading.enumerate()) <= before
    # Must succeed although the failed attempt may have written a lease that does not expire soon.
    with acquire_lease(folder) as lease:
        lease.ticket.check()


def test_stale_staging_folder_on_nfs_raises_lease_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stale(self: Path, target: Path) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with acquire_lease(leases_folder(store_location(tmp_path, PROVENANCE))) as lease:
        writer = lease.ticket.folder.root.zarr_writer(lease.ticket.staging.key)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", stale)
            with pytest.raises(LeaseLost):
                writer.put("a", b"value")  # type: ignore[attr-defined]
