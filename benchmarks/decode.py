"""Decoding rate in records per second, relative to numpy and wfdb in the same run.

    python benchmarks/decode.py                          # about 300 synthetic records
    python benchmarks/decode.py --folder data/ludb       # LUDB, or MIMIC-IV-ECG

All methods read the same files from the page cache. In each of `--repeats` rounds, every method
runs for at least `--seconds`. The median over the rounds is reported, because timings on a shared
machine vary. Rates are per second of CPU time and per second of wall-clock time; several threads
can improve only the wall-clock rate. For decoding in processes, only the CPU time of the
process that receives the records is measured.
"""

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import wfdb

from benchmarks._ratios import report_ratio
from pipeline.synthetic.synthesize import synthesize
from pipeline.waveforms import lead_signals
from pipeline.waveforms.decode import read_wfdb
from pipeline.waveforms.directory_files import DirectoryFiles
from pipeline.waveforms.errors import UnreadableRecord
from pipeline.waveforms.wfdb_samples import decode_with_wfdb

BATCH = 64
"""Number of records that each thread or process decodes between two checks of the elapsed time."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--folder", type=Path, help="folder of LUDB or MIMIC-IV-ECG; default: synthetic records"
    )
    parser.add_argument("--records", type=int, default=300, help="maximum number of records")
    parser.add_argument("--repeats", type=int, default=7, help="number of rounds")
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="minimum duration of each method in a round"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = arguments.folder or Path(temporary) / "synthetic"
        if arguments.folder is None:
            patients = max(2, arguments.records // 2)
            synthesize(folder, patients=patients, seed=0, spoiled_fraction=0)
        files = DirectoryFiles(folder)
        records = [*islice(readable_records(folder, files), arguments.records)]
        versions = f"numpy {np.__version__}, wfdb {wfdb.__version__}, pandas {pd.__version__}"
        print(f"{len(records)} records, {os.cpu_count()} cores, {versions}\n")
        rates = measure(records, files, arguments.repeats, arguments.seconds)
    report(rates)


def readable_records(folder: Path, files: DirectoryFiles) -> Iterator[str]:
    """Yield the names of the records that can be decoded."""
    for header in sorted(folder.rglob("*.hea")):
        name = str(header.relative_to(folder).with_suffix(""))
        try:
            read_wfdb(name, files)
        except UnreadableRecord:
            continue
        yield name


@dataclass(frozen=True)
class Rate:
    """Records per second of CPU time and of wall-clock time."""

    cpu: float
    wall: float


def measure(
    records: list[str], files: DirectoryFiles, repeats: int, seconds: float
) -> dict[str, list[Rate]]:
    """Run all methods in turn, and return the rates of each method, one per round."""

    def read(record: str) -> object:
        return read_wfdb(record, files)

    methods: dict[str, Callable[[], Rate]] = {
        "`numpy.fromfile`": lambda: measure_rate(
            partial(read_samples, files.root), records, seconds
        ),
        "`numpy.fromfile`, `astype(float32)`": lambda: measure_rate(
            lambda record: read_samples(files.root, record).astype(np.float32), records, seconds
        ),
        "`wfdb.rdrecord`": lambda: measure_rate(
            lambda record: wfdb.rdrecord(f"{files.root}/{record}"), records, seconds
        ),
        "`read_wfdb` through wfdb": lambda: measure_with_wfdb(read, records, seconds),
        "`read_wfdb`": lambda: measure_rate(read, records, seconds),
        "`read_wfdb`, 2 threads": lambda: measure_rate(read, records, seconds, threads=2),
        "`read_wfdb`, 2 processes": lambda: measure_processes(pool, files, records, seconds),
    }
    rates: dict[str, list[Rate]] = {name: [] for name in methods}
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        measure_processes(pool, files, records, seconds=0)  # start the processes
        for _ in range(repeats):
            for name, method in methods.items():
                rates[name].append(method())
    return rates


def read_samples(root: str, record: str) -> np.ndarray:
    """Read the samples of a record without decoding them."""
    return np.fromfile(f"{root}/{record}.dat", "<i2")


def measure_rate(
    read: Callable[[str], object], records: list[str], seconds: float, threads: int = 1
) -> Rate:
    """Read records repeatedly for at least `seconds` and return the rate."""
    names = cycle(records)
    done, start, start_cpu = 0, time.perf_counter(), time.process_time()

    def read_batch(batch: list[str]) -> int:
        return len([read(name) for name in batch])

    with no_warnings(), ThreadPoolExecutor(threads) as pool:
        while (elapsed := time.perf_counter() - start) < seconds:
            batches = [[*islice(names, BATCH)] for _ in range(threads)]
            done += sum(pool.map(read_batch, batches)) if threads > 1 else read_batch(batches[0])
    return Rate(done / (time.process_time() - start_cpu), done / elapsed)


def decode_batch(files: DirectoryFiles, batch: list[str]) -> list[np.ndarray]:
    return [read_wfdb(name, files) for name in batch]


def measure_processes(
    pool: ProcessPoolExecutor, files: DirectoryFiles, records: list[str], seconds: float
) -> Rate:
    """Decode records in child processes, receive them in this process, and return the rate.

    The CPU time is that of this process only.
    """
    names = cycle(records)
    done, start, start_cpu = 0, time.perf_counter(), time.process_time()
    while not done or time.perf_counter() - start < seconds:
        batches = [[*islice(names, BATCH)] for _ in range(2)]
        done += sum(len(batch) for batch in pool.map(partial(decode_batch, files), batches))
    elapsed = time.perf_counter() - start
    return Rate(done / (time.process_time() - start_cpu), done / elapsed)


def measure_with_wfdb(read: Callable[[str], object], records: list[str], seconds: float) -> Rate:
    """Measure `read` with wfdb as the decoder of all formats, including format 16."""
    original = lead_signals.digital_samples
    lead_signals.digital_samples = decode_with_wfdb
    try:
        return measure_rate(read, records, seconds)
    finally:
        lead_signals.digital_samples = original


@contextmanager
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def report(rates: dict[str, list[Rate]]) -> None:
    """Print a Markdown table of the median rates."""
    cpu, wall = (
        {
            name: statistics.median(getattr(rate, field) for rate in rounds)
            for name, rounds in rates.items()
        }
        for field in ("cpu", "wall")
    )
    print(
        "| method | records per s of CPU time | CPU time relative to `fromfile` "
        "| CPU time relative to `fromfile, astype` | CPU rate relative to `rdrecord` "
        "| records per s of wall-clock time |\n|---|--:|--:|--:|--:|--:|"
    )
    fromfile, astype, rdrecord, *_ = cpu.values()
    for name, rate in cpu.items():
        print(
            f"| {name} | {rate:,.0f} | {fromfile / rate:.1f} | {astype / rate:.1f} "
            f"| {rate / rdrecord:.1f} | {wall[name]:,.0f} |"
        )
    own = cpu["`read_wfdb`"]
    report_ratio("read_wfdb", astype / own, "CPU time", "numpy.fromfile, astype(float32)")
    report_ratio("read_wfdb", own / rdrecord, "rate", "wfdb.rdrecord")
    for parallel in ("2 threads", "2 processes"):
        ratio = wall[f"`read_wfdb`, {parallel}"] / wall["`read_wfdb`"]
        report_ratio(parallel, ratio, "wall-clock rate", "one thread")


if __name__ == "__main__":
    main()
