"""How many records a second are decoded, as ratios against numpy and wfdb in the same run.

    python benchmarks/decode.py                          # 300 synthetic records
    python benchmarks/decode.py --folder data/ludb       # LUDB, or MIMIC-IV-ECG

Each way reads the same files, which are in the page cache, for `--seconds` a turn; `--repeats`
turns go round all of them, and the median of a way's turns counts, for machines are noisy. A core's
rate is by the time on the CPU of one thread; the clock's is what a user sees, and what threads are
to make better.
"""

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pandas as pd
import wfdb

from pipeline.synthetic.synthesize import synthesize
from pipeline.waveforms import decode
from pipeline.waveforms.decode import read_wfdb
from pipeline.waveforms.directory_files import DirectoryFiles
from pipeline.waveforms.errors import UnreadableRecord
from pipeline.waveforms.wfdb_samples import decode_by_wfdb

BLOCK = 64
"""Records between two looks at the clock, kept until then, as a batch is."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--folder", type=Path, help="LUDB or MIMIC-IV-ECG; else synthetic")
    arguments.add_argument("--records", type=int, default=300, help="at most so many")
    arguments.add_argument("--repeats", type=int, default=7)
    arguments.add_argument("--seconds", type=float, default=1.0)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = given.folder or Path(temporary) / "synthetic"
        if given.folder is None:
            patients = max(2, given.records // 2)
            synthesize(folder, patients=patients, seed=0, spoiled_fraction=0)
        files = DirectoryFiles(folder)
        records = [*islice(good(folder, files), given.records)]
        versions = f"numpy {np.__version__}, wfdb {wfdb.__version__}, pandas {pd.__version__}"
        print(f"{len(records)} records, {os.cpu_count()} cores, {versions}\n")
        turns = measure(records, files, given.repeats, given.seconds)
    report(turns)


def good(folder: Path, files: DirectoryFiles) -> Iterator[str]:
    """The records under a folder that can be had."""
    for header in sorted(folder.rglob("*.hea")):
        name = str(header.relative_to(folder).with_suffix(""))
        try:
            read_wfdb(name, files)
        except UnreadableRecord:
            continue
        yield name


@dataclass(frozen=True)
class Turn:
    """Records a second of the CPU's time, and of the clock's."""

    core: float
    clock: float


def measure(
    records: list[str], files: DirectoryFiles, repeats: int, seconds: float
) -> dict[str, list[Turn]]:
    def fast(record: str) -> object:
        return read_wfdb(record, files)

    ways: dict[str, Callable[[], Turn]] = {
        "`numpy.fromfile`": lambda: rate(partial(from_file, files.root), records, seconds),
        "`numpy.fromfile`, `astype(float32)`": lambda: rate(
            lambda record: from_file(files.root, record).astype(np.float32), records, seconds
        ),
        "`wfdb.rdrecord`": lambda: rate(
            lambda record: wfdb.rdrecord(f"{files.root}/{record}"), records, seconds
        ),
        "`read_wfdb` by wfdb": lambda: by_wfdb(fast, records, seconds),
        "`read_wfdb`": lambda: rate(fast, records, seconds),
        "`read_wfdb`, 2 threads": lambda: rate(fast, records, seconds, threads=2),
    }
    turns: dict[str, list[Turn]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            turns[name].append(way())
    return turns


def from_file(root: str, record: str) -> np.ndarray:
    return np.fromfile(f"{root}/{record}.dat", "<i2")


def rate(
    read: Callable[[str], object], records: list[str], seconds: float, threads: int = 1
) -> Turn:
    names = cycle(records)
    done, began, began_cpu = 0, time.perf_counter(), time.process_time()

    def block(part: list[str]) -> int:
        return len([read(name) for name in part])

    with quiet(), ThreadPoolExecutor(threads) as pool:
        while (passed := time.perf_counter() - began) < seconds:
            parts = [[*islice(names, BLOCK)] for _ in range(threads)]
            done += sum(pool.map(block, parts)) if threads > 1 else block(parts[0])
    return Turn(done / (time.process_time() - began_cpu), done / passed)


def by_wfdb(read: Callable[[str], object], records: list[str], seconds: float) -> Turn:
    """The way of other formats, for records in format 16."""
    usual = decode.digital_samples
    decode.digital_samples = decode_by_wfdb
    try:
        return rate(read, records, seconds)
    finally:
        decode.digital_samples = usual


@contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def report(turns: dict[str, list[Turn]]) -> None:
    core, clock = (
        {
            name: statistics.median(getattr(turn, of) for turn in each)
            for name, each in turns.items()
        }
        for of in ("core", "clock")
    )
    print(
        "| what | records/s of a core | its time over `fromfile`'s | over `fromfile, astype`'s "
        "| times `rdrecord`'s rate | records/s by the clock |\n|---|--:|--:|--:|--:|--:|"
    )
    alone, floats, by_wfdb_alone, *_ = core.values()
    for name, each in core.items():
        print(
            f"| {name} | {each:,.0f} | {alone / each:.1f} | {floats / each:.1f} "
            f"| {each / by_wfdb_alone:.1f} | {clock[name]:,.0f} |"
        )


if __name__ == "__main__":
    main()
