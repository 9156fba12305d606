"""CPU time per record of the stages of an extraction, and of caches of decoded ECGs.

    python benchmarks/stages.py [--records 1200] [--rounds 3]

All stages run alternately with one torch thread, and the medians of their CPU times are printed. A
cache contains the decoded ECGs as int16 (digital values) or float16 (mV) in an `.npy` file; reading
it includes the conversion to float32. The extraction reads WFDB files from the page cache and
writes stores to a temporary folder. The gain of a cache is the time of the extraction, divided by
the estimated time of an extraction that reads the cache instead of decoding.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks._ratios import report_ratio
from benchmarks._repeated import RepeatedRecords
from enecg.experts import Expert, load_expert
from enecg.leads import LeadsSample
from pipeline.extract import extract
from pipeline.extraction.engine import Engine, run_ranges
from pipeline.extraction.options import ExtractOptions
from pipeline.extraction.plan import ExtractionPlan
from pipeline.extraction.summary import ExtractionSummary

BATCH = 16
CACHED = 320
"""Number of ECGs in a cache."""
UNITS_PER_MV = 200
"""Digital units per mV of the int16 cache."""


def embed(expert: Expert, ecg: torch.Tensor) -> int:
    """Embed ECGs in batches, and return the number of ECGs."""
    with torch.inference_mode():
        for part in ecg.split(BATCH):
            expert.embed(part)
    return len(ecg)


def read_cache(file: Path) -> int:
    """Read a cache in batches as float32, and return the number of ECGs."""
    cached = np.load(file, mmap_mode="r")
    for start in range(0, len(cached), BATCH):
        ecg = torch.from_numpy(np.array(cached[start : start + BATCH])).float()
        if cached.dtype == np.int16:
            ecg /= UNITS_PER_MV
    return len(cached)


def cpu_milliseconds(work: Callable[[], int]) -> float:
    """Return the CPU time per record in ms of a call that returns the number of records."""
    started = time.process_time()
    records = work()
    return 1e3 * (time.process_time() - started) / records


def time_extraction(dataset: RepeatedRecords, folder: Path, expert: str) -> float:
    """Return the CPU time per record in ms of computing the shards of an extraction."""
    result = 0.0

    def run_plan(plan: ExtractionPlan, summary: ExtractionSummary, engine: Engine) -> None:
        nonlocal result

        def work() -> int:
            run_ranges(engine, plan.ranges(1), lambda shards: engine.extract(shards, summary))
            return dataset.records

        result = cpu_milliseconds(work)

    options = ExtractOptions(weights=("random:0",), device="cpu", threads=1, batch_size=BATCH)
    with tempfile.TemporaryDirectory(dir=folder) as root:
        extract(dataset, root, [expert], options=options, run_plan=run_plan)
    return result


def main() -> None:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--experts", nargs="+", default=["dlinear", "measurements"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        dataset = RepeatedRecords(folder / "data", arguments.records)
        ecgs = np.stack([dataset.read(row) for row in range(64)])
        caches = {"int16": np.round(ecgs * UNITS_PER_MV), "float16": ecgs}
        for dtype, values in caches.items():
            repeated = np.tile(values.astype(dtype), (CACHED // len(ecgs), 1, 1))
            np.save(folder / f"{dtype}.npy", repeated)
        ecg = torch.from_numpy(ecgs)

        def decode() -> int:
            return len([dataset.read(row) for row in range(dataset.files)])

        stages: dict[str, Callable[[], float]] = {
            "decode": lambda: cpu_milliseconds(decode),
            "int16 cache": lambda: cpu_milliseconds(lambda: read_cache(folder / "int16.npy")),
            "float16 cache": lambda: cpu_milliseconds(lambda: read_cache(folder / "float16.npy")),
            "gate's leads": lambda: cpu_milliseconds(lambda: embed(LeadsSample(), ecg)),
        }
        for name in arguments.experts:
            expert = load_expert(name, "random:0")
            embed(expert, ecg[:BATCH])
            stages[name] = lambda expert=expert: cpu_milliseconds(lambda: embed(expert, ecg))
            stages[f"extraction with {name}"] = lambda name=name: time_extraction(
                dataset, folder, name
            )
        repetitions: dict[str, list[float]] = {name: [] for name in stages}
        for _ in range(arguments.rounds):
            for name, stage in stages.items():
                repetitions[name].append(stage())
        times = {name: statistics.median(rounds) for name, rounds in repetitions.items()}
    print("| stage | CPU ms per record |\n|---|--:|")
    for name, median in times.items():
        print(f"| {name} | {median:.3f} |")
    for name in arguments.experts:
        total = times[f"extraction with {name}"]
        parts = times["decode"] + times[name] + times["gate's leads"]
        report_ratio(name, total / parts, "CPU time of an extraction", "its parts alone")
        print(
            f"\n{name}: the extraction takes {total / parts:.2f} times as long as its parts alone."
        )
        for cache in ("int16 cache", "float16 cache"):
            gain = total / (total - times["decode"] + times[cache])
            report_ratio(name, gain, f"speed with the {cache}", "decoding")
            print(f"With the {cache}, it would be {gain:.2f} times as fast.")


if __name__ == "__main__":
    main()
