"""Extraction by several worker processes: time, equality of the stores, and killed workers.

    python benchmarks/workers.py [--patients 400] [--workers 1 2 4] [--kills 100]

The benchmark extracts synthetic ECGs with DLinear (limited by decoding) and TimesNet (limited by
the model), and compares the files of the stores with those of one process by SHA-256. It prints the
time of the computation alone, and the time of the whole extraction including the start of the
workers. Then it kills workers (SIGKILL) at random times, `--kills` times in total.
"""

import argparse
import hashlib
import os
import random
import signal
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks._ratios import report_ratio
from pipeline.extract import extract
from pipeline.extraction.dask_engine import DaskEngine
from pipeline.extraction.engine import Engine, run_ranges
from pipeline.extraction.options import ExtractOptions
from pipeline.extraction.plan import ExtractionPlan, ShardRange
from pipeline.extraction.summary import ExtractionSummary
from pipeline.synthetic.synthesize import synthesize
from stores.opening import open_stores

KILLS_PER_EXTRACTION = 5
"""Maximum number of kills per extraction. A worker takes seconds to start, so most further kills
would affect workers that have not started."""


@dataclass
class Extraction:
    """One measured extraction.

    Attributes:
        total: Duration in seconds.
        computing: Seconds from the start of the first range to the end of the last.
        digests: SHA-256 of each file of the stores.
        killed: Number of workers that were killed.
    """

    total: float
    computing: float
    digests: dict[str, str]
    killed: int = 0


def run(
    dataset: str, root: Path, expert: str, workers: int, limit: int | None, kills: int = 0
) -> Extraction:
    """Extract to a new root, and kill up to `kills` workers during the extraction."""
    options = ExtractOptions(
        weights=("random:0",),
        device="cpu",
        workers=workers,
        shard_rows=16,
        batch_size=4 if expert == "timesnet" else 16,
        limit=limit,
    )
    computing, killed = 0.0, 0

    def run_plan(plan: ExtractionPlan, summary: ExtractionSummary, engine: Engine) -> None:
        nonlocal computing, killed
        done = threading.Event()

        def kill_workers() -> None:
            nonlocal killed
            assert isinstance(engine, DaskEngine)
            while killed < kills and not done.wait(random.uniform(0.5, 3.0)):
                # A worker that is restarting does not respond.
                with suppress(OSError, TimeoutError, ValueError, LookupError):
                    processes = engine.client.run(os.getpid, on_error="ignore").values()
                    os.kill(random.choice([*processes]), signal.SIGKILL)
                    killed += 1

        killer = threading.Thread(target=kill_workers)
        if kills:
            killer.start()
        started = time.monotonic()

        def extract_one(shards: ShardRange) -> None:
            engine.extract(shards, summary)

        run_ranges(engine, plan.ranges(32), extract_one)
        computing = time.monotonic() - started
        done.set()
        if kills:
            killer.join()

    started = time.monotonic()
    extract(dataset, root, [expert], options=options, run_plan=run_plan)
    return Extraction(time.monotonic() - started, computing, digests(root), killed)


def digests(root: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of the stores, without leases and run records."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for store in open_stores(root).stores
        for path in Path(str(store.location)).rglob("*")
        if path.is_file()
    }


def main() -> None:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=400)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--timesnet-records", type=int, default=64)
    parser.add_argument("--kills", type=int, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        synthesize(Path(folder) / "data", patients=arguments.patients, seed=0)
        dataset = f"mimic-iv-ecg:{folder}/data"
        for expert, limit in (("dlinear", None), ("timesnet", arguments.timesnet_records)):
            # The first extraction of a process includes imports and initialization.
            run(dataset, Path(folder) / f"{expert}-first", expert, 1, limit=4)
            reference = run(dataset, Path(folder) / f"{expert}-one", expert, 1, limit)
            for workers in arguments.workers:
                root = Path(folder) / f"{expert}-{workers}"
                result = run(dataset, root, expert, workers, limit)
                speed = reference.computing / result.computing
                equal = result.digests == reference.digests
                print(
                    f"{expert}, {workers} worker(s): {speed:.2f} times as fast as one process "
                    f"({result.computing:.1f} s, {result.total:.1f} s including the start); stores "
                    f"{'equal' if equal else 'DIFFERENT'}",
                    flush=True,
                )
                report_ratio(f"{expert}, {workers} worker(s)", speed, "speed", "one process")
            killed = extractions = different = 0
            while expert == "timesnet" and killed < arguments.kills:
                root = Path(folder) / f"killed-{extractions}"
                kills = min(KILLS_PER_EXTRACTION, arguments.kills - killed)
                result = run(dataset, root, expert, 2, limit, kills)
                killed += result.killed
                extractions += 1
                different += result.digests != reference.digests
            if killed:
                print(
                    f"{killed} workers killed; the stores of {different} of {extractions} "
                    "extractions differ from those of one process"
                )


if __name__ == "__main__":
    main()
