"""CPU and wall-clock time of training, relative to scikit-learn on the same embeddings and splits.

    python benchmarks/training_cost.py --folder /tmp/bench          # 10,000 records, 1,024 features
    python benchmarks/training_cost.py --folder /tmp/bench --experts 5 --repeats 3
    python benchmarks/training_cost.py --folder /tmp/bench --dataset mimic-iv-ecg:data/demo \
        --store stores-data/lab

Without `--dataset`, the benchmark first writes stores with embeddings of synthetic experts. There
is one record per patient. The embeddings and the five binary labels depend on the same random
variables.

scikit-learn fits one model per task, expert and repeat on standardized embeddings: logistic
regression (C = 0.01), or for regression tasks ridge regression with cross-validation. Every method
runs in a separate process. Times exclude imports and the results page. Those of `enecg train`
include reading, scores and the run folder; those of scikit-learn include only fitting and
prediction. The peak memory is that of the whole process, and at least the peak of the process that
starts the methods (see `peak_bytes`); therefore, another process writes the stores.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks._memory import peak_bytes
from benchmarks._ratios import report_ratio
from benchmarks.heads import probe
from enecg.experts import ExpertSpec, Preprocessing
from enecg.leads import LeadsSample
from pipeline.datasets.base import RecordIndex
from pipeline.extraction.request import provenance
from pipeline.train import train
from pipeline.training.features import read_features
from pipeline.training.inputs import prepare_inputs
from pipeline.training.settings import FitSettings, TrainSettings
from pipeline.training.splits import make_splits
from stores.creation import open_for_writing

TASKS = 5
NOISE = 1.0
SCIKIT_LEARN = "scikit-learn"
METHODS = ("linear-lora", "lora", "linear")


class SyntheticDataset:
    """Data set with one record per patient, `TASKS` binary labels per record and no waveforms."""

    namespace = "benchmark/1"

    def __init__(self, records: int) -> None:
        self.ids = np.arange(records)
        self.signal = np.random.default_rng(0).normal(size=(records, TASKS))

    def index(self) -> RecordIndex:
        return RecordIndex(self.ids, self.ids)

    def read(self, row: int) -> np.ndarray:
        raise NotImplementedError

    def read_leads(self, row: int) -> Any:
        raise NotImplementedError

    def labels(self) -> pd.DataFrame:
        noise = np.random.default_rng(1).normal(scale=NOISE, size=self.signal.shape)
        positive = self.signal + noise > 0.5 * np.arange(TASKS)
        columns = {f"t{number}": positive[:, number].astype(float) for number in range(TASKS)}
        return pd.DataFrame({"patient_id": self.ids, **columns}, index=self.ids)


class SyntheticExpert:
    """Expert without a model; `fill_stores` writes its embeddings."""

    def __init__(self, number: int, features: int) -> None:
        self.spec = ExpertSpec(
            f"expert-{number}", 1, {}, Preprocessing(), "none", features, "random:0", "0" * 64
        )

    def embed(self, ecg: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--folder", type=Path, required=True, help="folder to write stores and runs to"
    )
    parser.add_argument("--records", type=int, default=10_000, help="number of patients per repeat")
    parser.add_argument("--features", type=int, default=1024, help="size of synthetic embeddings")
    parser.add_argument("--experts", type=int, default=1, help="number of synthetic experts")
    parser.add_argument("--repeats", type=int, default=1, help="number of repeats")
    parser.add_argument("--dataset", help="data set to use instead of synthetic records")
    parser.add_argument(
        "--store", help="store root with embeddings of --dataset by experts with weights random:0"
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        default=[SCIKIT_LEARN, *METHODS],
        help="methods to measure; ratios are relative to the first",
    )
    parser.add_argument("--threads", type=int, default=0, help="as for enecg train")
    parser.add_argument("--memory-limit", type=float, default=4.0, help="as for enecg train, in GB")
    parser.add_argument("--epochs", type=int, default=100, help="maximum number of epochs")
    parser.add_argument("--method", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.method:
        print(json.dumps(run_method(options)))
        return
    if options.dataset is None:
        with get_context("spawn").Pool(1) as pool:
            pool.apply(fill_stores, (options,))
    print("| method | CPU s | wall s | CPU ratio | wall ratio | peak memory, GB |")
    print("|---|--:|--:|--:|--:|--:|", flush=True)
    reference: dict[str, float] = {}
    for method in options.methods:
        measured = start(method)
        reference = reference or measured
        ratios = (measured[name] / reference[name] for name in ("cpu", "wall"))
        cells = (measured["cpu"], measured["wall"], *ratios, measured["peak"])
        print(f"| {method} | {' | '.join(f'{cell:,.1f}' for cell in cells)} |", flush=True)
        report_ratio(method, measured["cpu"] / reference["cpu"], "CPU time", options.methods[0])


def start(method: str) -> dict[str, float]:
    """Run a method in a new process; return its times in seconds and its peak memory in GB."""
    command = [sys.executable, *sys.argv, "--method", method]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"Method {method} failed; see its messages above.")
    times: dict[str, float] = json.loads(printed.splitlines()[-1])
    return times | {"peak": peak_bytes(usage) / 1e9}


def run_method(options: argparse.Namespace) -> dict[str, float]:
    """Train with the method `options.method` and return its CPU and wall-clock time in seconds."""
    synthetic = options.dataset is None
    dataset = SyntheticDataset(options.records) if synthetic else options.dataset
    store = options.folder / "stores" if synthetic else options.store
    experts = make_experts(options) if synthetic else []
    settings = TrainSettings(
        own_tasks=tuple(f"t{number}:binary" for number in range(TASKS)) if synthetic else (),
        weights=("random:0",),
        repeats=options.repeats,
        patients=options.records,
        threads=options.threads,
        fit=FitSettings(epochs=options.epochs, memory_limit=options.memory_limit),
    )
    if options.method == SCIKIT_LEARN:
        inputs = prepare_inputs(dataset, store, settings, experts=experts)
        cohorts = list(make_splits(settings, inputs).cohorts)
        features = read_features(inputs.cache, inputs.record_id, "cpu")
        return measure(lambda: list(probe(inputs, features, cohorts)))
    fit = replace(settings.fit, adaptation=options.method)
    settings = replace(settings, fit=fit)
    out = options.folder / f"run-{options.method}"
    return measure(lambda: train(dataset, store, out, experts, settings=settings, page=False))


def measure(work: Callable[[], object]) -> dict[str, float]:
    """Call a function and return its CPU and wall-clock time in seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def make_experts(options: argparse.Namespace) -> list[SyntheticExpert]:
    return [SyntheticExpert(number, options.features) for number in range(options.experts)]


def fill_stores(options: argparse.Namespace) -> None:
    """Write embeddings to the stores of the synthetic experts and of the gate's leads."""
    dataset = SyntheticDataset(options.records)
    for number, spec in enumerate(
        [*(expert.spec for expert in make_experts(options)), LeadsSample.spec]
    ):
        random = np.random.default_rng(number + 2)
        mixing = random.normal(scale=0.15, size=(TASKS, spec.embedding_size))
        document = provenance(spec, dataset.namespace, "float16")
        layout = {"features": spec.embedding_size, "dtype": "float16", "reasons": []}
        with open_for_writing(
            options.folder / "stores", document, record_id=dataset.ids, **layout
        ) as store:
            for shard in range(store.shards):
                rows = store.shard_slice(shard)
                noise = random.normal(size=(rows.stop - rows.start, spec.embedding_size))
                values = dataset.signal[rows] @ mixing + noise
                store.write_shard(shard, values.astype(np.float16), np.ones(len(values), np.uint8))


if __name__ == "__main__":
    main()
