"""Extraction rate relative to the bare model and to decoding alone.

    python benchmarks/extraction.py [--experts dlinear timesnet moment] [--records 64] [--rounds 3]
    python benchmarks/extraction.py --device cuda --precision bfloat16

In each round, an expert embeds the same ECGs twice: as tensors in memory, and through
`enecg.extract`, from WFDB files to stores. Both use the same batch size and number of threads. The
median ratio over the rounds is reported. Times include only the computation of missing rows, not
planning, opening stores and loading weights. A second extraction, which has no missing rows, is
compared with the first one as a whole.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks._ratios import report_ratio
from enecg.experts import Expert, load_expert
from pipeline.datasets.registry import open_dataset
from pipeline.extract import extract
from pipeline.extraction.engine import Engine, run_ranges
from pipeline.extraction.options import ExtractOptions
from pipeline.extraction.plan import ExtractionPlan
from pipeline.extraction.request import resolve_device
from pipeline.extraction.summary import ExtractionSummary
from pipeline.synthetic.synthesize import synthesize


def time_bare(expert: Expert, ecg: torch.Tensor, batch: int) -> float:
    """Return the seconds that an expert takes to embed ECGs that are in memory."""
    started = time.perf_counter()
    with torch.inference_mode():
        for part in ecg.split(batch):
            # Copying to the CPU waits until the device has finished.
            expert.embed(part).cpu()
    return time.perf_counter() - started


def time_pipeline(dataset: str, root: Path, name: str, options: ExtractOptions) -> float:
    """Return the seconds that `enecg.extract` takes to read, embed and write the missing rows."""
    seconds = 0.0

    def run_plan(plan: ExtractionPlan, summary: ExtractionSummary, engine: Engine) -> None:
        nonlocal seconds
        started = time.perf_counter()
        run_ranges(engine, plan.ranges(1), lambda shards: engine.extract(shards, summary))
        seconds = time.perf_counter() - started

    extract(dataset, root, [name], options=options, run_plan=run_plan)
    return seconds


def timed(function: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experts", nargs="+", default=["dlinear", "timesnet", "moment"])
    parser.add_argument("--records", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="float32")
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    print(f"{arguments.records} ECGs on {device}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        synthesize(data, patients=arguments.records, seed=0, spoiled_fraction=0)
        dataset = f"mimic-iv-ecg:{data}"
        source = open_dataset(dataset)
        ecg = torch.from_numpy(np.stack([source.read(row) for row in range(arguments.records)]))
        decoding = statistics.median(
            timed(lambda: [source.read(row) for row in range(arguments.records)]) for _ in range(3)
        )
        for name in arguments.experts:
            expert = load_expert(name, "random:0", precision=arguments.precision)
            if isinstance(expert, torch.nn.Module):
                expert.to(device)
            options = ExtractOptions(
                weights=("random:0",),
                precision=(arguments.precision,),
                device=device,
                batch_size=arguments.batch,
                limit=arguments.records,
                threads=torch.get_num_threads(),
            )
            time_bare(expert, ecg[: arguments.batch].to(device), arguments.batch)
            ratios, times, repetitions = [], [], []
            for number in range(arguments.rounds):
                bare = time_bare(expert, ecg.to(device), arguments.batch)
                root = Path(folder) / f"{name}-{number}"
                started = time.perf_counter()
                pipeline = time_pipeline(dataset, root, name, options)
                whole = time.perf_counter() - started
                again = timed(partial(time_pipeline, dataset, root, name, options))
                ratios.append(bare / pipeline)
                times.append(pipeline)
                repetitions.append(again / whole)
            pipeline = statistics.median(times)
            print(
                f"{name}: pipeline {statistics.median(ratios):.2f} of the bare model's rate "
                f"({arguments.records / pipeline:.3g} records/s), "
                f"{decoding / pipeline:.2f} of the rate of decoding alone; "
                f"a second extraction takes {statistics.median(repetitions):.3f} of the first "
                "one's time",
                flush=True,
            )
            report_ratio(name, statistics.median(ratios), "extraction rate", "bare model")
            report_ratio(name, decoding / pipeline, "extraction rate", "decoding alone")
            report_ratio(name, statistics.median(repetitions), "second extraction", "the first")


if __name__ == "__main__":
    main()
