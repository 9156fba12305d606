"""One writer at a time, on a directory and on S3; and who is taken for dead, when."""

import errno
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance.store_tests import make, rows, whole
from obstore.exceptions import GenericError
from processes import FORKS, PROVENANCE, SHARD_ROWS, compete, hold, nothing, start, truth

from stores import lease, local
from stores.errors import LeaseLost
from stores.layout import leases_folder, store_location
from stores.lease import Lease, LeaseHeld, acquire, read_holder
from stores.lease_record import LeaseRecord
from stores.local import LocalRoot
from stores.locate import locate
from stores.location import Location
from stores.opening import open_store


@pytest.fixture(autouse=True)
def quick_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.02)


@pytest.fixture(params=["disk", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "disk" else request.getfixturevalue("s3_root")


@pytest.fixture
def store(root: str) -> Location:
    return store_location(root, PROVENANCE)


@pytest.fixture
def folder(store: Location) -> Location:
    return leases_folder(store)


def take(folder: Location, **options: Any) -> Lease:
    return acquire(folder, **({"heartbeat_seconds": 0.1, "expire_seconds": 0.6} | options))


def numbers(folder: Location) -> list[int]:
    return [int(file.name.removesuffix(".json")) for file in folder.files()]


def rewrite(folder: Location, number: int, **change: Any) -> None:
    """What the object of a lease says, changed behind its holder's back."""
    here = folder / f"{number:08d}.json"
    here.root.write(here.key, json.dumps(json.loads(here.read() or b"") | change).encode())


@contextmanager
def holding(
    folder: Location, heartbeat_seconds: float = 0.1, expire_seconds: float = 0.6
) -> Iterator[tuple[ForkServerProcess, Connection]]:
    """A process that has the lease."""
    ours, theirs = FORKS.Pipe()
    process = start(hold, folder, heartbeat_seconds, expire_seconds, theirs)
    try:
        assert ours.poll(30)
        assert ours.recv() == 1
        yield process, ours
    finally:
        process.kill()
        process.join()


def test_one_of_many_threads_acquires_the_lease(folder: Location):
    together, tried = threading.Barrier(8), threading.Barrier(8)

    def attempt(_: int) -> str:
        together.wait()
        try:
            held = take(folder)
        except LeaseHeld:
            tried.wait()
            return "refused"
        tried.wait()
        held.release()
        return "won"

    for _ in range(2):
        with ThreadPoolExecutor(8) as threads:
            assert sorted(threads.map(attempt, range(8))) == ["refused"] * 7 + ["won"]


def test_one_of_many_processes_acquires_the_lease(folder: Location):
    together, tried = FORKS.Barrier(4), FORKS.Barrier(4)
    told = FORKS.Queue()
    processes = [start(compete, folder, together, tried, told) for _ in range(4)]
    answers = [told.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    told.close()
    assert answers.count("won") == 1
    (winner,) = {answer for answer in answers if answer != "won"}
    assert any(f"process {process.pid}, since" in winner for process in processes)


def test_refusal_names_the_holder_and_the_time(store: Location, folder: Location):
    with take(folder) as held:
        with pytest.raises(LeaseHeld) as refused:
            take(folder)
        assert str(refused.value).startswith(
            f"{store} is being written by {held.record.who}, since {held.record.since};"
        )
        assert f"process {os.getpid()}" in held.record.who
        seen = read_holder(store)
        assert seen is not None
        assert seen.token == held.record.token
    assert read_holder(store) is None


def test_waiting_process_acquires_the_lease_on_release(folder: Location):
    told: list[str] = []
    # It would not expire before: what ends the waiting is the release, which others in this
    # process know of before it is written.
    held = take(folder, expire_seconds=20)
    released = threading.Event()

    def let_go() -> None:
        released.set()
        held.release()

    def tell(sentence: str) -> None:
        # Not before: it is told whom it waits for while it waits.
        told.append(sentence)
        threading.Timer(0.3, let_go).start()

    with take(folder, wait_seconds=30, log=tell) as mine:
        assert released.is_set()
        assert mine.ticket.number == held.ticket.number + 1
    assert len(told) == 1
    assert held.record.who in told[0]


def test_raises_after_wait_seconds(folder: Location):
    with take(folder):
        began = time.monotonic()
        with pytest.raises(LeaseHeld):
            take(folder, wait_seconds=1)
        assert 1 <= time.monotonic() - began < 5


def test_takes_over_from_a_killed_local_process_without_waiting_for_expiry(folder: Location):
    with holding(folder, heartbeat_seconds=3600, expire_seconds=3600) as (process, _):
        process.kill()
        process.join()
        began = time.monotonic()
        with take(folder) as mine:
            assert mine.ticket.number == 2
        assert time.monotonic() - began < 1


def test_takes_over_from_another_machine_after_expiry(folder: Location):
    with holding(folder, heartbeat_seconds=3600, expire_seconds=1) as (process, _):
        process.kill()
        process.join()
        # This process cannot know that one of another machine is gone.
        rewrite(folder, 1, machine="elsewhere", process=1)
        began = time.monotonic()
        with take(folder) as mine:
            assert mine.ticket.number == 2
        assert 1 < time.monotonic() - began < 3


def test_default_expiry_is_below_60_seconds():
    assert lease.EXPIRE_SECONDS + lease.HEARTBEAT_SECONDS < 60


def test_holder_keeps_the_lease_through_failing_renewals(
    root: str, folder: Location, monkeypatch: pytest.MonkeyPatch
):
    place = type(folder.root)
    failed = []

    def cannot(*_: Any) -> Any:
        failed.append(threading.current_thread().name)
        if root.startswith("s3:"):
            raise GenericError("the connection is lost")
        raise OSError(errno.ENOSPC, "No space left on device")

    with take(folder) as held:
        for method in ("write", "children"):
            beat = held.record.beat
            with monkeypatch.context() as patch:
                patch.setattr(place, method, cannot)
                time.sleep(0.35)
            assert set(failed) == {"lease"}
            failed.clear()
            time.sleep(0.35)
            assert held.record.beat > beat
        held.ticket.check()
        with pytest.raises(LeaseHeld):
            take(folder)


def test_lease_numbers_only_increase(folder: Location):
    for number in range(1, 5):
        with take(folder) as held:
            assert held.ticket.number == number
            assert numbers(folder) == [number]


@pytest.mark.parametrize("stalls_before", ["create_staging", "create"])
def test_late_attempt_with_an_outdated_number_fails(
    folder: Location, monkeypatch: pytest.MonkeyPatch, stalls_before: str
):
    place = type(folder.root)
    true_method = getattr(place, stalls_before)
    stalled, go_on = threading.Event(), threading.Event()

    def stalling(self: Any, *arguments: Any) -> Any:
        if threading.current_thread().name.startswith("late"):
            stalled.set()
            assert go_on.wait(30)
        return true_method(self, *arguments)

    with take(folder):
        pass
    monkeypatch.setattr(place, stalls_before, stalling)
    with ThreadPoolExecutor(1, thread_name_prefix="late") as late:
        attempt = late.submit(take, folder)
        assert stalled.wait(30)
        for _ in range(2):  # the number it wanted, and the one that removes that
            with take(folder):
                pass
        with take(folder) as held:
            go_on.set()
            with pytest.raises(LeaseHeld, match="is being written by"):
                attempt.result(30)
            held.ticket.check()
            assert held.ticket.number == 4
    assert read_holder(_store_of(folder)) is None


def _store_of(folder: Location) -> Location:
    return folder.parent.parent.parent / folder.parent.name / folder.name


def test_suspended_holder_can_neither_write_nor_release_after_takeover(
    store: Location, folder: Location
):
    with holding(folder) as (process, told):
        told.send(2)
        assert told.recv() == "written"
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        began = time.monotonic()
        with take(folder) as mine:
            assert 0.6 < time.monotonic() - began < 3
            fuller = open_store(store, mine.ticket)
            ids = fuller.record_id
            fuller.write_shard(0, truth(ids), np.ones(SHARD_ROWS, np.uint8))
            os.kill(process.pid, signal.SIGCONT)
            for _ in range(2):
                told.send(3)
                assert told.recv() == "LeaseLost"
            told.send(None)
            assert told.recv() == "released"
            process.join(30)
            mine.ticket.check()
            fuller.write_shard(0, truth(ids), np.ones(SHARD_ROWS, np.uint8))
            with pytest.raises(LeaseHeld):
                take(folder)
    after = open_store(store)
    np.testing.assert_array_equal(after.read(np.arange(SHARD_ROWS)), truth(after.record_id))


def test_suspended_watcher_does_not_take_over_from_a_running_holder(
    folder: Location, monkeypatch: pytest.MonkeyPatch
):
    true_read_highest = lease._read_highest
    looks: list[Any] = []

    def stopped_after_looking(folder: Location) -> Any:
        seen = true_read_highest(folder)
        if threading.current_thread().name.startswith("watcher"):
            looks.append(seen)
            if looks.count(seen) == 2:  # it has seen this before, and now it is stopped
                time.sleep(1)
        return seen

    monkeypatch.setattr(lease, "_read_highest", stopped_after_looking)
    with take(folder) as held, ThreadPoolExecutor(1, thread_name_prefix="watcher") as watcher:
        with pytest.raises(LeaseHeld):
            watcher.submit(take, folder, wait_seconds=2).result(30)
        held.ticket.check()


def test_partial_file_does_not_count_as_a_lease(tmp_path: Path):
    folder = leases_folder(store_location(tmp_path, PROVENANCE))
    with take(folder) as held:
        (folder.path / "12345678abcdef0123456789abcdef01.partial").write_bytes(b"")
        held.ticket.check()
    with take(folder) as held:
        assert held.ticket.number == 2
        assert [file.name for file in folder.files()] == ["00000002.json"]


def test_raises_lease_held_if_the_winner_removed_the_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = leases_folder(store_location(tmp_path, PROVENANCE))
    true_link = os.link
    won: list[Lease] = []

    def overtaken(aside: Path, path: Path) -> None:
        monkeypatch.setattr(os, "link", true_link)
        won.append(take(folder))
        true_link(aside, path)

    monkeypatch.setattr(os, "link", overtaken)
    with pytest.raises(LeaseHeld, match="is being written by"):
        take(folder)
    won[0].ticket.check()
    won[0].release()


@pytest.mark.parametrize("reason", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_one_thread_acquires_the_lease_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int
):
    def no_links(*_: Any) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "link", no_links)
    test_one_of_many_threads_acquires_the_lease(leases_folder(locate(tmp_path) / "d" / "e" / "i"))


def test_ignores_unknown_keys_of_a_lease_document(folder: Location):
    with take(folder, heartbeat_seconds=3600, expire_seconds=3600) as held:
        stop = threading.Event()

        def beats() -> None:
            beat = 0
            while not stop.wait(0.05):
                beat += 1
                rewrite(folder, held.ticket.number, beat=beat, host="said by a later version")

        thread = threading.Thread(target=beats)
        thread.start()
        with pytest.raises(LeaseHeld):
            take(folder)
        stop.set()
        thread.join()
        held.ticket.check()


@pytest.mark.parametrize(
    "says", [b"", b'{"token": "a", "who": "x", "since": "y", "machine": "m", "process": "1"}']
)
def test_takes_over_an_unreadable_lease_after_expiry(folder: Location, says: bytes):
    here = folder / "00000007.json"
    here.root.write(here.key, says)
    began = time.monotonic()
    with take(folder) as held:
        assert held.ticket.number == 8
    assert 0.6 < time.monotonic() - began < 3


def test_takeover_fences_the_previous_holder_even_if_its_folder_cannot_be_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def cannot(*_: Any, **__: Any) -> None:
        """Another user's files, or some that NFS keeps for whoever has them open."""

    monkeypatch.setattr(local.shutil, "rmtree", cannot)
    folder = leases_folder(store_location(tmp_path, PROVENANCE))
    asleep = take(folder, heartbeat_seconds=3600)
    stale = folder.root.zarr_writer(asleep.ticket.staging.key)
    (asleep.ticket.staging.path / "left.partial").write_bytes(b"half")
    with take(folder), pytest.raises(LeaseLost):
        stale.put("a/b", b"late")  # type: ignore[attr-defined]
    assert LocalRoot(tmp_path).read("a/b") is None


def test_release_does_not_wait_for_a_lost_connection(
    folder: Location, monkeypatch: pytest.MonkeyPatch
):
    true_children = type(folder.root).children
    hanging, go_on = threading.Event(), threading.Event()

    def hangs(self: Any, key: str) -> Any:
        hanging.set()
        assert go_on.wait(30)
        return true_children(self, key)

    held = take(folder)
    monkeypatch.setattr(type(folder.root), "children", hangs)
    assert hanging.wait(30)
    began = time.monotonic()
    held.release()
    assert time.monotonic() - began < 1
    go_on.set()


def test_only_an_ended_local_process_is_known_inactive():
    here = LeaseRecord.for_this_process(1)
    assert not here.known_inactive
    ended = start(nothing)
    ended.join()
    assert ended.pid is not None
    assert LeaseRecord(**vars(here) | {"process": ended.pid}).known_inactive
    assert not LeaseRecord(
        **vars(here) | {"process": ended.pid, "machine": "elsewhere"}
    ).known_inactive


def test_rereads_a_file_that_another_machine_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    place, true_read, stale = LocalRoot(tmp_path), Path.read_bytes, [True, True]
    place.write("a", b"new")

    def nfs(path: Path) -> bytes:
        if stale:
            stale.pop()
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return true_read(path)

    monkeypatch.setattr(Path, "read_bytes", nfs)
    assert place.read("a") == b"new"


@pytest.mark.parametrize("call", ["open", "pread"])
def test_rereads_a_shard_that_another_machine_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
):
    with make(tmp_path) as store:
        store.write_shard(0, rows(0), whole())
    true_call, stale = getattr(os, call), [True]

    def nfs(*arguments: Any, **options: Any) -> Any:
        if stale and (call == "pread" or str(arguments[0]).endswith("/c/0/0")):
            stale.pop()
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return true_call(*arguments, **options)

    monkeypatch.setattr(os, call, nfs)
    np.testing.assert_array_equal(open_store(store.location).read(np.arange(4)), rows(0))
    assert not stale


@pytest.mark.parametrize("method", ["create", "children", "remove_staging"])
def test_failed_acquisition_does_not_block_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
):
    folder = leases_folder(store_location(tmp_path, PROVENANCE))
    with take(folder):
        pass
    (folder.path / "00000001-abcdefabcdef").mkdir()
    true_method, calls = getattr(LocalRoot, method), []
    before = set(threading.enumerate())

    def breaks(self: LocalRoot, *arguments: Any) -> Any:
        calls.append(arguments)
        # The second listing is that after the put.
        if len(calls) == (2 if method == "children" else 1):
            raise RuntimeError("broken")
        return true_method(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(LocalRoot, method, breaks)
        with pytest.raises(RuntimeError, match="broken"):
            take(folder)
    assert set(threading.enumerate()) <= before
    began = time.monotonic()
    with take(folder) as held:
        held.ticket.check()
    assert time.monotonic() - began < 0.5


def test_stale_staging_folder_on_nfs_raises_lease_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stale(self: Path, target: Path) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with take(leases_folder(store_location(tmp_path, PROVENANCE))) as held:
        writer = held.ticket.folder.root.zarr_writer(held.ticket.staging.key)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", stale)
            with pytest.raises(LeaseLost):
                writer.put("a", b"value")  # type: ignore[attr-defined]
