"""Speed of writing and reading stores, as ratios to numpy and plain Zarr in the same run.

    python benchmarks/store.py --folder /tmp/bench            # 800,035 x 768 float16, 5 GB of disk
    python benchmarks/store.py --folder /tmp/bench --rows 100000

A ratio is the other method's time divided by EnECG's time; at 0.5, EnECG takes twice as long. For
S3, the other method is EnECG on a local disk. Times of writing and reading rows are medians over
`--repeats` repetitions. Each repetition runs all compared methods, so that changes of the machine's
load affect all of them. Epochs and S3 are measured once, and planning three times. "Cold" means
that the files were dropped from the page cache (posix_fadvise) before each method.
"""

import argparse
import logging
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr

from benchmarks._memory import peak_bytes
from benchmarks._ratios import report_ratio
from stores.creation import open_for_writing
from stores.embeddings import EmbeddingStore
from stores.opening import open_store, open_stores
from stores.reading import iter_batches

FEATURES = 768
SCATTERED = 10_000
BATCH = 64
PROVENANCE = {"dataset": "benchmark/1", "expert": "noise", "dtype": "float16"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="folder for temporary files")
    parser.add_argument("--rows", type=int, default=800_035, help="rows to write and read")
    parser.add_argument("--repeats", type=int, default=3, help="number of repetitions")
    parser.add_argument(
        "--s3-rows", type=int, default=20_480, help="rows to write to S3; 0 skips it"
    )
    options = parser.parse_args()
    folder: Path = options.folder / "enecg-benchmark"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        machine = f"{os.cpu_count()} cores, zarr {zarr.__version__}"
        print(f"{options.rows:,} x {FEATURES} float16, {machine}\n")
        print(
            "| operation | EnECG, s | other method | other, s | ratio |\n|---|--:|---|--:|--:|",
            flush=True,
        )
        measure(folder, options.rows, options.repeats)
        if options.s3_rows:
            measure_s3(folder, options.s3_rows)
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, rows: int, repeats: int) -> None:
    """Print the times of the operations, and the ratio of other methods' times to EnECG's."""
    data = np.random.default_rng(0).normal(size=(rows, FEATURES)).astype(np.float16)
    flat, plain = folder / "flat.bin", folder / "plain"
    times: dict[str, list[float]] = {}

    def timed(name: str, function: Callable[[], object]) -> None:
        began = time.perf_counter()
        function()
        times.setdefault(name, []).append(time.perf_counter() - began)

    for repetition in range(repeats):
        timed("tofile", lambda: to_file(data, flat, durable=False))
        timed("tofile, fsync", lambda: to_file(data, flat, durable=True))
        shutil.rmtree(folder / "lab", ignore_errors=True)
        timed("write", lambda: write(folder / "lab", data))
        if repetition == 0:
            timed("zarr write", lambda: zarr.create_array(plain, data=data))
    ours = open_store(open_stores(folder / "lab").stores[0].location)
    report("write in whole shards, durably", times, "write", "tofile, fsync", "tofile")
    del data

    everything = np.arange(rows)
    some = np.sort(np.random.default_rng(1).choice(rows, min(SCATTERED, rows), replace=False))
    out = np.empty((rows, FEATURES), np.float16)
    defaults = zarr.open_array(plain, mode="r")
    native = ours.array("embedding")

    def mapped() -> np.ndarray:
        # Map the file again for each use, because posix_fadvise does not drop mapped pages.
        return np.memmap(flat, np.float16, "r", shape=(rows, FEATURES))

    readers: dict[str, Callable[[], object]] = {
        "read": lambda: ours.read(everything, out=out),
        "fromfile": lambda: np.fromfile(flat, np.float16),
        "readinto": lambda: flat.open("rb", buffering=0).readinto(out.data.cast("B")),
        "zarr, defaults": lambda: defaults[:],
        "zarr, the same store": lambda: native[:],
    }
    scattered: dict[str, Callable[[], object]] = {
        "rows": lambda: ours.read(some),
        "memmap rows": lambda: np.array(mapped()[some]),
        "zarr rows, defaults": lambda: defaults.oindex[some],
    }
    for _ in range(repeats):
        for name, reader in (readers | scattered).items():
            drop_pages(folder)
            timed(f"{name}, cold", reader)
            timed(f"{name}, warm", reader)
    for state in ("cold", "warm"):
        others = [f"{name}, {state}" for name in readers if name != "read"]
        report(f"read everything, {state}", times, f"read, {state}", *others)
        report(
            f"{len(some):,} scattered rows, {state}",
            times,
            f"rows, {state}",
            f"read, {state}",
            f"memmap rows, {state}",
            f"zarr rows, defaults, {state}",
        )
    del out
    measure_epochs(ours, mapped, times, timed, everything)
    measure_planning(folder / "lab", rows)


def measure_epochs(
    ours: EmbeddingStore,
    mapped: Callable[[], np.ndarray],
    times: dict[str, list[float]],
    timed: Callable[[str, Callable[[], object]], None],
    everything: np.ndarray,
) -> None:
    """Measure a shuffled epoch from an array in memory, from blocks, and from a memmap."""
    ids = ours.record_id

    def from_memory() -> None:
        rows = ours.read(everything)
        order = np.random.default_rng(0).permutation(len(rows))
        for first in range(0, len(order), BATCH):
            rows[order[first : first + BATCH]]

    def from_memmap() -> None:
        rows = mapped()
        order = np.random.default_rng(0).permutation(len(rows))
        for first in range(0, len(order), BATCH):
            np.array(rows[order[first : first + BATCH]])

    def from_blocks() -> None:
        for _ in iter_batches([ours], ids, BATCH, seed=0):
            pass

    for name, epoch in (
        ("epoch, memory", from_memory),
        ("epoch, blocks", from_blocks),
        ("epoch, memmap", from_memmap),
    ):
        drop_pages(ours.location.path.parents[3])
        timed(f"{name}, cold", epoch)
        timed(f"{name}, warm", epoch)
    for state in ("cold", "warm"):
        for name in ("memory", "blocks"):
            title = f"shuffled epoch, batches of {BATCH}, from {name}, {state}"
            report(title, times, f"epoch, {name}, {state}", f"epoch, memmap, {state}")


PLANNING = """
import sys, time
from stores.opening import open_stores
from stores.status import pending_rows
began = time.perf_counter()
store = open_stores(sys.argv[1]).stores[0]
rows = store.rows_by_id(store.record_id)
missing = pending_rows(store.status(), retry_failed=False)[rows].sum()
passed = time.perf_counter() - began
# Do not use getrusage, whose peak is at least that of the parent process.
status = open("/proc/self/status").read()
print(passed, status.split("VmHWM:")[1].split()[0])
"""


def measure_planning(root: Path, rows: int) -> None:
    """Measure opening a store and finding missing rows, in new processes."""
    found = [
        subprocess.run(
            [sys.executable, "-c", PLANNING, str(root)], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(3)
    ]
    seconds = statistics.median(float(seconds) for seconds, _ in found)
    memory = statistics.median(int(kilobytes) for _, kilobytes in found) / 1024
    print(
        f"| open and find missing of {rows:,} rows, peak memory {memory:.0f} MiB "
        f"| {seconds:.3f} | | | |",
        flush=True,
    )


def measure_s3(folder: Path, rows: int) -> None:
    """Measure a store on S3. The server is moto in this Python process, which is slow."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    boto3.client("s3").create_bucket(Bucket="bench")
    data = np.random.default_rng(0).normal(size=(rows, FEATURES)).astype(np.float16)
    times: dict[str, list[float]] = {}
    for name, root in (("s3", "s3://bench/lab"), ("disk", folder / "small")):
        began = time.perf_counter()
        write(root, data)
        times[f"write {name}"] = [time.perf_counter() - began]
        store = open_stores(root).stores[0]
        began = time.perf_counter()
        store.read(np.arange(rows))
        times[f"read {name}"] = [time.perf_counter() - began]
    report(f"write {rows:,} rows to S3 on loopback", times, "write s3", "write disk")
    report(f"read {rows:,} rows from S3 on loopback", times, "read s3", "read disk")
    server.stop()


def write(root: Path | str, data: np.ndarray) -> None:
    """Write embeddings to a new store."""
    layout = {"features": FEATURES, "dtype": "float16", "reasons": []}
    with open_for_writing(root, PROVENANCE, record_id=np.arange(len(data)), **layout) as store:
        for shard in range(store.shards):
            rows = data[store.shard_slice(shard)]
            store.write_shard(shard, rows, np.ones(len(rows), np.uint8))


def to_file(data: np.ndarray, path: Path, *, durable: bool) -> None:
    """Write an array to a plain file, optionally with fsync."""
    with path.open("wb") as file:
        data.tofile(file)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def drop_pages(folder: Path) -> None:
    """Drop all files below a folder from the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def report(title: str, times: dict[str, list[float]], ours: str, *others: str) -> None:
    """Print a table row for each of the other methods, with medians over the repetitions."""
    our_time = statistics.median(times[ours])
    for other in others:
        other_time = statistics.median(times[other])
        print(
            f"| {title if other == others[0] else ''} | {our_time:.3f} | {other} "
            f"| {other_time:.3f} | {other_time / our_time:.2f} |",
            flush=True,
        )
        report_ratio(title, other_time / our_time, "speed", other)


if __name__ == "__main__":
    main()
    print(f"\nPeak memory {peak_bytes() / 1e9:.1f} GB.")
