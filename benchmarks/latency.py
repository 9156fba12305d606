"""Time from one ECG in memory to its prediction, with all models loaded, by part.

    python benchmarks/latency.py                              # five experts, untrained
    python benchmarks/latency.py --experts dlinear,measurements
    python benchmarks/latency.py --run runs/first             # a run of your own

Without `--run`, a few synthetic patients are extracted, which takes minutes, and a run is trained
on them. Latencies are medians over `--repeats` calls for different ECGs, after one warm-up call.
They depend on the sizes of the models, not on their weights.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import numpy as np
import torch

from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.extract import extract
from pipeline.extraction.options import ExtractOptions
from pipeline.prediction.combine import combine, relative_distances
from pipeline.prediction.live_run import LiveRun, load_run
from pipeline.synthetic.synthesize import synthesize
from pipeline.train import train
from pipeline.training.settings import FitSettings, TrainSettings

EXPERTS = "dlinear,timesnet,moment,tempo,ecg-fm"


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


def measure(live: LiveRun, ecgs: list[np.ndarray], repeats: int) -> dict[str, float]:
    """Return the median latency of each part in ms."""
    signals = cycle(ecgs)

    def next_ecg() -> torch.Tensor:
        return torch.from_numpy(next(signals))[None].to(live.device)

    features = live.embed(next_ecg())

    def models() -> None:
        combine(live.calibrated, features, live.tasks, 0.9)
        relative_distances(live.calibrated, features)

    latencies = {}
    with torch.inference_mode():
        for name, expert in live.experts.items():
            latencies[name] = median_ms(lambda e=expert: e.embed(next_ecg()).cpu(), repeats)
        latencies["sampled leads"] = median_ms(lambda: live.leads.embed(next_ecg()).cpu(), repeats)
        latencies["heads, gate, intervals, distances"] = median_ms(models, repeats)
    latencies["total: LiveRun.predict"] = median_ms(
        lambda: live.predict(next(signals), 500), repeats
    )
    return latencies


def median_ms(call: Callable[[], object], repeats: int) -> float:
    call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def report(latencies: dict[str, float]) -> None:
    total = latencies["total: LiveRun.predict"]
    print("| part | ms | share of the total |\n|---|---|---|")
    for name, latency in latencies.items():
        print(f"| {name} | {latency:,.1f} | {latency / total:.3f} |")


if __name__ == "__main__":
    main()
