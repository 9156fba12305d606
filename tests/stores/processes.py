"""Child processes that hold leases and write to stores; the tests suspend or kill them.

A process that has used obstore cannot be forked, so the children are forked from a server that has
imported this module but has not used obstore.
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

from stores import creation
from stores import lease as lease_module
from stores.creation import create_or_grow
from stores.errors import StoreError
from stores.layout import leases_folder, store_beside, store_location
from stores.lease import LeaseHeld, Ticket, acquire
from stores.location import Location
from stores.opening import open_store
from stores.status import WHOLE

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["processes", "stores.objects", "boto3"])

FEATURES = 16
SHARD_ROWS = 8
ID_CHUNK_ROWS = 8
"""Rows per chunk of ids; small, so that growth writes several chunks."""
FAILED_DIVISOR = 13
"""The extraction of records whose id is a multiple of this number fails."""
FAILED_STATUS = 2
"""Status of records whose extraction failed."""
PROVENANCE = {"dataset": "truth/1", "expert": "known", "dtype": "float16"}


def start(target: Callable[..., None], *arguments: object) -> ForkServerProcess:
    """Run a function of this module in a new process."""
    path = os.environ.get("PYTHONPATH")
    # The server finds the modules to preload only through this variable.
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    forkserver.ensure_running()
    if path is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = path
    process = FORKSERVER.Process(target=_run, args=(dict(os.environ), target, arguments))
    process.start()
    return process


def _run(environment: dict[str, str], target: Callable[..., None], arguments: tuple) -> None:
    os.environ.update(environment)
    target(*arguments)


def do_nothing() -> None:
    """Return immediately."""


def write_by_ticket(location: Location, ticket: Ticket, shards: dict[int, np.ndarray]) -> None:
    """Write whole shards, like a worker process of an extraction."""
    store = open_store(location, ticket)
    for shard, rows in shards.items():
        store.write_shard(shard, rows, np.full(len(rows), WHOLE, np.uint8))


def expected_embedding(record_id: np.ndarray) -> np.ndarray:
    """Return the embedding of each record: integers that float16 represents exactly."""
    return ((record_id[:, None] * 31 + np.arange(FEATURES) * 7) % 997).astype(np.float16)


def expected_status(record_id: np.ndarray) -> np.ndarray:
    """Return the status of each record after a complete extraction."""
    return np.where(record_id % FAILED_DIVISOR == 0, FAILED_STATUS, WHOLE).astype(np.uint8)


def extract_known(
    root: str, record_id: np.ndarray, seed: int, pause: float, wait_seconds: float = 0.0
) -> int:
    """Extract the missing rows, a few at a time.

    Args:
        root: The store root.
        record_id: Ids of the records to extract.
        seed: Seed of the random batch sizes.
        pause: Simulated seconds to compute a row.
        wait_seconds: Maximum seconds to wait for the lease.

    Returns:
        The number of computed rows.
    """
    random = np.random.default_rng(seed)
    location = store_location(root, PROVENANCE)
    done = 0
    with acquire(leases_folder(location), wait_seconds=wait_seconds) as lease:
        store = create_or_grow(
            location,
            PROVENANCE,
            lease.ticket,
            record_id=record_id,
            features=FEATURES,
            dtype="float16",
            reasons=["missing_file"],
            shard_rows=SHARD_ROWS,
        )
        for shard in range(store.shards):
            ids = store.record_id[store.shard_slice(shard)]
            status, embedding = store.status(shard), store.read_shard(shard)
            missing = np.flatnonzero(status == 0)
            while len(missing):
                batch, missing = np.split(missing, [int(random.integers(1, SHARD_ROWS + 1))])
                time.sleep(pause * len(batch))
                status[batch] = expected_status(ids[batch])
                whole = batch[status[batch] == WHOLE]
                embedding[whole] = expected_embedding(ids[whole])
                store.write_shard(shard, embedding, status)
                done += len(batch)
    return done


def run_until_killed(commands: Connection) -> None:
    """Run the extractions that are requested through a pipe, one after the other."""
    creation.RECORD_ID_CHUNK_ROWS = ID_CHUNK_ROWS
    commands.send("ready")
    while True:
        root, record_id, seed, pause = commands.recv()
        commands.send(extract_known(root, record_id, seed, pause))


def hold(
    folder: Location, heartbeat_seconds: float, expire_seconds: float, pipe: Connection
) -> None:
    """Acquire a lease, and write to a shard on request.

    Each message is the number of leading rows of the shard to mark as whole; None releases the
    lease.
    """
    location = store_beside(folder)
    with acquire(
        folder, heartbeat_seconds=heartbeat_seconds, expire_seconds=expire_seconds
    ) as lease:
        ids = np.arange(1, SHARD_ROWS + 1)
        store = create_or_grow(
            location,
            PROVENANCE,
            lease.ticket,
            record_id=ids,
            features=FEATURES,
            dtype="float16",
            reasons=["missing_file"],
            shard_rows=SHARD_ROWS,
        )
        pipe.send(lease.ticket.number)
        while (rows := pipe.recv()) is not None:
            status = (np.arange(SHARD_ROWS) < rows).astype(np.uint8)
            try:
                store.write_shard(0, expected_embedding(ids), status)
                pipe.send("written")
            except StoreError as error:
                pipe.send(type(error).__name__)
    pipe.send("released")


def compete(folder: Location, start: Barrier, done: Barrier, results: "Queue[str]") -> None:
    """Try to acquire a lease at the same time as others, and hold it until all have tried."""
    lease_module.POLL_SECONDS = 0.05
    start.wait()
    try:
        lease = acquire(folder, heartbeat_seconds=0.2, expire_seconds=60)
    except LeaseHeld as error:
        results.put(str(error))
        done.wait()
    else:
        results.put("won")
        done.wait()
        lease.release()
