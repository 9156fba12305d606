"""Processes that hold, write and are killed: what they do, and how they start quickly.

They are forked from a server that has imported this module and has used nothing of it, for a
process that has talked to S3 by obstore cannot be forked.
"""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

import numpy as np

from stores import creation, lease
from stores.creation import create_or_grow
from stores.errors import StoreError
from stores.layout import leases_folder, store_location
from stores.lease import LeaseHeld, acquire
from stores.location import Location
from stores.status import WHOLE

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["processes", "stores.objects", "boto3"])

FEATURES = 16
SHARD_ROWS = 8
ID_CHUNK = 8
"""So that growing takes more than one chunk of ids."""
BAD = 13
"""Every record whose id this divides cannot be had."""
REASON = 2
PROVENANCE = {"dataset": "truth/1", "expert": "known", "dtype": "float16"}


def start(target: Callable[..., None], *arguments: object) -> ForkServerProcess:
    """Run a function of this module in a process of its own."""
    path = os.environ.get("PYTHONPATH")
    # The server knows no other way to find what it is to import.
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    forkserver.ensure_running()
    if path is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = path
    process = FORKS.Process(target=_run, args=(dict(os.environ), target, arguments))
    process.start()
    return process


def _run(environment: dict[str, str], target: Callable[..., None], arguments: tuple) -> None:
    os.environ.update(environment)
    target(*arguments)


def nothing() -> None:
    """End at once."""


def truth(record_id: np.ndarray) -> np.ndarray:
    """The one right embedding of each record; whole numbers that a float16 holds."""
    return ((record_id[:, None] * 31 + np.arange(FEATURES) * 7) % 997).astype(np.float16)


def right_status(record_id: np.ndarray) -> np.ndarray:
    """The status of each record once everything is done."""
    return np.where(record_id % BAD == 0, REASON, WHOLE).astype(np.uint8)


def extract_known(
    root: str, record_id: np.ndarray, seed: int, pause: float, wait_seconds: float = 0.0
) -> int:
    """An extraction in small: what the store lacks, a few rows at a time; gives the rows done."""
    chance = np.random.default_rng(seed)
    location = store_location(root, PROVENANCE)
    done = 0
    with acquire(leases_folder(location), wait_seconds=wait_seconds) as held:
        store = create_or_grow(
            location,
            PROVENANCE,
            held.ticket,
            record_id=record_id,
            features=FEATURES,
            dtype="float16",
            reasons=["cannot_be_had"],
            shard_rows=SHARD_ROWS,
        )
        for shard in range(store.shards):
            ids = store.record_id[store.shard_slice(shard)]
            status, embedding = store.status(shard), store.read_shard(shard)
            lacking = np.flatnonzero(status == 0)
            while len(lacking):
                now, lacking = np.split(lacking, [int(chance.integers(1, SHARD_ROWS + 1))])
                time.sleep(pause * len(now))
                status[now] = right_status(ids[now])
                good = now[status[now] == WHOLE]
                embedding[good] = truth(ids[good])
                store.write_shard(shard, embedding, status)
                done += len(now)
    return done


def run_until_killed(commands: Connection) -> None:
    """Extractions as told by a pipe, one after the other, in a process that is ready to be hit."""
    creation.RECORD_ID_CHUNK_ROWS = ID_CHUNK
    commands.send("ready")
    while True:
        root, record_id, seed, pause = commands.recv()
        commands.send(extract_known(root, record_id, seed, pause))


def hold(
    folder: Location, heartbeat_seconds: float, expire_seconds: float, pipe: Connection
) -> None:
    """Take a lease, write as told, and release it at last."""
    root = folder.parent.parent.parent / folder.parent.name / folder.name
    with acquire(
        folder, heartbeat_seconds=heartbeat_seconds, expire_seconds=expire_seconds
    ) as held:
        ids = np.arange(1, SHARD_ROWS + 1)
        store = create_or_grow(
            root,
            PROVENANCE,
            held.ticket,
            record_id=ids,
            features=FEATURES,
            dtype="float16",
            reasons=["cannot_be_had"],
            shard_rows=SHARD_ROWS,
        )
        pipe.send(held.ticket.number)
        while (rows := pipe.recv()) is not None:
            status = (np.arange(SHARD_ROWS) < rows).astype(np.uint8)
            try:
                store.write_shard(0, truth(ids), status)
                pipe.send("written")
            except StoreError as error:
                pipe.send(type(error).__name__)
    pipe.send("released")


def compete(folder: Location, start: Barrier, done: Barrier, told: "Queue[str]") -> None:
    """Try for a lease at the same time as others; who has it keeps it till all have tried."""
    lease.POLL_SECONDS = 0.05
    start.wait()
    try:
        held = acquire(folder, heartbeat_seconds=0.2, expire_seconds=60)
    except LeaseHeld as refused:
        told.put(str(refused))
        done.wait()
    else:
        told.put("won")
        done.wait()
        held.release()
