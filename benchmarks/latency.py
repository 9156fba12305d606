"""Time from one ECG in memory to its prediction, with all models loaded, by part.

    python benchmarks/latency.py                              # five experts, untrained
    python benchmarks/latency.py --experts dlinear,measurements
    python benchmarks/latency.py --run runs/first             # a run of your own

Without `--run`, the benchmark extracts a few synthetic patients, which takes minutes, and trains a
run on them. Latencies are medians over `--repeats` rounds after a warm-up round. Each round calls
every part once with another ECG. Latencies depend on the sizes of the models, not on their weights.
The CPU time is stated because other processes increase the wall-clock time.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from enecg.experts import Expert
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.extract import extract
from pipeline.extraction.options import ExtractOptions
from pipeline.prediction.combine import combine, relative_distances
from pipeline.prediction.live_run import LiveRun, load_run
from pipeline.synthetic.synthesize import synthesize
from pipeline.train import train
from pipeline.training.settings import FitSettings, TrainSettings

EXPERTS = "dlinear,timesnet,moment,tempo,ecg-fm"
TOTAL = "total: LiveRun.predict"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="run folder; default: a new run")
    parser.add_argument("--experts", default=EXPERTS, help="experts of the new run")
    parser.add_argument("--patients", type=int, default=14, help="patients of the new run")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="torch threads; default: torch's")
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        synthesize(folder / "data", patients=arguments.patients, seed=0, spoiled_fraction=0)
        run = arguments.run or make_run(folder, tuple(arguments.experts.split(",")))
        live = load_run(run, device=arguments.device)
        _ = live.experts, live.calibrated
        dataset = MimicIvEcg(folder / "data")
        ecgs = [dataset.read(row) for row in range(len(dataset.index()))]
    print(f"{arguments.device}, {torch.get_num_threads()} torch threads, torch {torch.__version__}")
    print(f"{len(live.repeats)} repeats, tasks: {', '.join(live.tasks)}\n")
    report(measure(live, ecgs, arguments.repeats))


def make_run(folder: Path, experts: tuple[str, ...]) -> Path:
    """Extract and train a run of one repeat with untrained experts."""
    dataset, weights = f"mimic-iv-ecg:{folder / 'data'}", ("random:0",)
    extract(dataset, folder / "store", experts, options=ExtractOptions(weights=weights))
    settings = TrainSettings(
        weights=weights, repeats=1, tasks=("rr_interval", "age", "sex"), fit=FitSettings(epochs=2)
    )
    return train(dataset, folder / "store", folder / "run", settings=settings, page=False).folder


class Latency(NamedTuple):
    """Median time of a part in ms."""

    wall: float
    cpu: float


def measure(live: LiveRun, ecgs: list[np.ndarray], repeats: int) -> dict[str, Latency]:
    """Return the median latency of each part."""
    signals = cycle(ecgs)

    def next_ecg() -> torch.Tensor:
        return torch.from_numpy(next(signals))[None].to(live.device)

    features = live.embed(next_ecg())

    def models() -> None:
        combine(live.calibrated, features, live.tasks, 0.9)
        relative_distances(live.calibrated, features)

    def embed(expert: Expert) -> Callable[[], object]:
        def call() -> None:
            with torch.inference_mode():
                expert.embed(next_ecg()).cpu()

        return call

    parts = {name: embed(expert) for name, expert in live.experts.items()}
    parts["sampled leads"] = embed(live.leads)
    parts["heads, gate, intervals, distances"] = models
    parts[TOTAL] = lambda: live.predict(next(signals), 500)
    times: dict[str, list[Latency]] = {name: [] for name in parts}
    for round_number in range(repeats + 1):
        for name, call in parts.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            elapsed = Latency(time.perf_counter() - wall, time.process_time() - cpu)
            if round_number:
                times[name].append(elapsed)
    return {
        name: Latency(*(1000 * statistics.median(column) for column in zip(*rows, strict=True)))
        for name, rows in times.items()
    }


def report(latencies: dict[str, Latency]) -> None:
    total = latencies[TOTAL].cpu
    print("| part | CPU time in ms | share | wall-clock time in ms |\n|---|---|---|---|")
    for name, latency in latencies.items():
        print(f"| {name} | {latency.cpu:,.1f} | {latency.cpu / total:.3f} | {latency.wall:,.1f} |")


if __name__ == "__main__":
    main()
