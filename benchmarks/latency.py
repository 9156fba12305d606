"""Latency of the prediction for one ECG in memory, by part, with all models loaded.

    python benchmarks/latency.py                              # five experts, untrained
    python benchmarks/latency.py --experts dlinear,measurements
    python benchmarks/latency.py --run runs/first             # an existing run

Without `--run`, the benchmark extracts embeddings of a few synthetic patients, which takes
minutes, and trains a run on them. After a warm-up, it calls `LiveRun.predict` `--calls` times with
synthetic ECGs, and times the parts of each call. The table shows the call with the median
wall-clock time, so that its parts add up to the total. Latencies depend on the sizes of the models;
only TimesNet's also depends on the weights and the ECG. The CPU time is also printed, because other
processes increase the wall-clock time.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch

from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.extract import extract
from pipeline.extraction.options import ExtractOptions
from pipeline.prediction import live_run
from pipeline.prediction.live_run import LiveRun, load_run
from pipeline.synthetic.synthesize import synthesize
from pipeline.train import train
from pipeline.training.settings import FitSettings, TrainSettings

EXPERTS = "dlinear,timesnet,moment,tempo,ecg-fm"
INPUT, MODELS = "reading and checking the signal", "heads, gate, intervals, distances"
FUNCTIONS = {
    "read_array": INPUT,
    "to_ecg": INPUT,
    "examine": INPUT,
    "combine": MODELS,
    "relative_distances": MODELS,
}
"""Table row of each timed function of the module `live_run`."""
REST, TOTAL = "rest", "total: LiveRun.predict"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="run folder; default: a new run")
    parser.add_argument("--experts", default=EXPERTS, help="comma-separated experts of the new run")
    parser.add_argument("--patients", type=int, default=14, help="number of synthetic patients")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="torch threads; default: torch's default")
    parser.add_argument("--calls", type=int, default=15, help="number of calls after the warm-up")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        synthesize(folder / "data", patients=arguments.patients, seed=0, spoiled_fraction=0)
        run = arguments.run or make_run(folder, tuple(arguments.experts.split(",")))
        live = load_run(run, device=arguments.device)
        _ = live.experts, live.calibrated  # load the models
        dataset = MimicIvEcg(folder / "data")
        ecgs = [dataset.read(row) for row in range(len(dataset.index()))]
    print(f"{arguments.device}, {torch.get_num_threads()} torch threads, torch {torch.__version__}")
    print(f"{len(live.repeats)} repeats, tasks: {', '.join(live.tasks)}\n")
    report(measure(live, ecgs, arguments.calls))


def make_run(folder: Path, experts: tuple[str, ...]) -> Path:
    """Extract embeddings with untrained experts, train one repeat, and return the run folder."""
    dataset, weights = f"mimic-iv-ecg:{folder / 'data'}", ("random:0",)
    extract(dataset, folder / "store", experts, options=ExtractOptions(weights=weights))
    settings = TrainSettings(
        weights=weights, repeats=1, tasks=("rr_interval", "age", "sex"), fit=FitSettings(epochs=2)
    )
    return train(dataset, folder / "store", folder / "run", settings=settings, page=False).folder


class Latency(NamedTuple):
    """Wall-clock time and CPU time in ms."""

    wall: float
    cpu: float


class PartTimer:
    """Total time of each part of a call, by name of the part."""

    def __init__(self) -> None:
        self.times: dict[str, Latency] = defaultdict(lambda: Latency(0.0, 0.0))

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that the time of each call is added to a part."""

        def call(*args: Any, **named: Any) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            result = function(*args, **named)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            before = self.times[part]
            self.times[part] = Latency(
                before.wall + 1000 * (time.perf_counter() - wall),
                before.cpu + 1000 * (time.process_time() - cpu),
            )
            return result

        return call


def measure(live: LiveRun, ecgs: list[np.ndarray], calls: int) -> dict[str, Latency]:
    """Return the latencies of the parts of the call with the median wall-clock time."""
    timer = PartTimer()
    predict = timer.timed(TOTAL, live.predict)
    rounds = []
    with ExitStack() as patches:
        for name, part in FUNCTIONS.items():
            function = timer.timed(part, getattr(live_run, name))
            patches.enter_context(patch.object(live_run, name, function))
        parts = {**live.experts, "sampled leads": live.leads}
        for part, expert in parts.items():
            function = timer.timed(part, expert.embed)
            patches.enter_context(patch.object(expert, "embed", function))
        for _, ecg in zip(range(calls + 1), cycle(ecgs), strict=False):
            timer.times.clear()
            predict(ecg, 500)
            rounds.append(dict(timer.times))
    median = sorted(rounds[1:], key=lambda times: times[TOTAL].wall)[calls // 2]
    total = median.pop(TOTAL)
    known = [sum(column) for column in zip(*median.values(), strict=True)]
    rest = Latency(total.wall - known[0], total.cpu - known[1])
    return {**median, REST: rest, TOTAL: total}


def report(latencies: dict[str, Latency]) -> None:
    total = latencies[TOTAL].wall
    print("| part | wall-clock time in ms | share | CPU time in ms |\n|---|---|---|---|")
    for name, latency in latencies.items():
        print(f"| {name} | {latency.wall:,.1f} | {latency.wall / total:.3f} | {latency.cpu:,.1f} |")


if __name__ == "__main__":
    main()
