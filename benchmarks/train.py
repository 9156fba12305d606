"""Training time from cached embeddings, compared with that of other procedures.

    python benchmarks/train.py --folder /tmp/bench                 # 10,000 records
    python benchmarks/train.py --folder /tmp/bench --records 100000 --no-experts

The stores of five experts and of the gate's leads are filled with noise of the real shapes. Heads,
gate and ensembles of all five tasks are trained from the stores in three repeats, heads and gate
for a fixed number of epochs. The measured times are compared with extrapolated times:

(a) the paper's procedure, which passes every batch through the experts in every epoch of every
    task and repeat. Only its forward passes are counted, extrapolated from those for 64 ECGs. The
    ratio is relative to EnECG's total time.
(b) the LoRA heads as separate peft modules, one per expert, task, repeat and fold, extrapolated
    from the time of 20 optimizer steps for each expert and task. The ratio is relative to the time
    of EnECG's heads alone, which includes their ridge regressions.

Both procedures have as many steps per epoch as EnECG (`count_steps`).

Another row is the total time of one extraction (forward passes only) and the training.
"""

import argparse
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks._memory import peak_bytes
from benchmarks._ratios import report_ratio
from enecg.experts import get_definition, load_expert
from enecg.heads import TaskHeads
from enecg.leads import LeadsSample
from enecg.lora import with_lora
from enecg.tasks import TASKS
from pipeline.datasets.base import RecordIndex
from pipeline.training.cohorts import draw_cohort
from pipeline.training.features import read_features
from pipeline.training.fit_heads import fit_heads
from pipeline.training.inputs import Inputs
from pipeline.training.labeled_repeat import label_repeat
from pipeline.training.repeat import run_repeats
from pipeline.training.settings import FitSettings
from pipeline.training.stack import count_steps
from pipeline.training.store_selection import Cache
from stores.creation import open_for_writing
from stores.opening import open_store

EXPERTS = ("timesnet", "dlinear", "moment", "tempo", "ecg-fm")
REPEATS = 3
TIMED_RECORDS = 64
TIMED_STEPS = 20


class NoiseDataset:
    """Data set with random labels and no waveforms, one record per patient."""

    namespace = "benchmark/1"

    def __init__(self, records: int) -> None:
        self.ids = np.arange(records)

    def index(self) -> RecordIndex:
        return RecordIndex(self.ids, self.ids)

    def read(self, row: int) -> np.ndarray:
        raise NotImplementedError

    def read_leads(self, row: int) -> Any:
        raise NotImplementedError

    def labels(self) -> pd.DataFrame:
        random = np.random.default_rng(0)
        size = len(self.ids)
        return pd.DataFrame(
            {
                "patient_id": self.ids,
                "rr_interval": random.normal(800, 130, size),
                "age": random.normal(60, 17, size),
                "sex": random.integers(0, 2, size).astype(float),
                "potassium": (random.random(size) < 0.03).astype(float),
                "diagnosis": random.choice([f"rhythm {number}" for number in range(20)], size),
            },
            index=self.ids,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="folder for temporary files")
    parser.add_argument("--records", type=int, default=10_000, help="records, one per patient")
    parser.add_argument("--epochs", type=int, default=10, help="epochs, without early stopping")
    parser.add_argument(
        "--batch-sizes", type=int, nargs="+", default=[64, 1024], help="batch sizes to measure"
    )
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument("--threads", type=int, default=1, help="torch's CPU threads")
    parser.add_argument(
        "--no-experts", action="store_true", help="skip the extrapolations that run the experts"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folder = options.folder / "enecg-benchmark"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        measure(folder, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Print the training time of EnECG and of the other procedures."""
    dataset = NoiseDataset(options.records)
    cache = fill_stores(folder, dataset)
    print(
        f"{options.records:,} records, {options.epochs} epochs, {options.threads} thread(s), "
        f"{options.device}, {os.cpu_count()} cores, torch {torch.__version__}\n"
    )
    inputs = Inputs(dataset, cache, dataset.ids, 0, dataset.labels(), tuple(TASKS.values()))
    cohorts = [
        draw_cohort(dataset.ids, dataset.ids, patients=options.records, seed=seed)
        for seed in range(REPEATS)
    ]
    print("| batch size | method | s | relative to |\n|---|---|--:|--:|", flush=True)
    for batch_size in options.batch_sizes:
        settings = FitSettings(
            batch_size=batch_size, epochs=options.epochs, patience=options.epochs + 1
        )
        started = time.perf_counter()
        features = read_features(cache, dataset.ids, options.device)
        reading = time.perf_counter() - started
        run_repeats(cohorts, inputs, features, settings, lambda name, fits: None)
        total = time.perf_counter() - started
        enecg = f"EnECG, batch size {batch_size}"
        procedure = f"EnECG: reading ({reading:.1f} s), heads, gate, ensembles"
        print_row(batch_size, procedure, total, total, enecg)
        started = time.perf_counter()
        for name in EXPERTS:
            labeled = [label_repeat(cohort, inputs, features) for cohort in cohorts]
            fit_heads(features.experts[name], labeled, settings)
        heads = time.perf_counter() - started
        separate = time_separate_heads(features.experts, options, batch_size)
        print_row(batch_size, "heads only, including those of the folds", heads, total, enecg)
        procedure = "(b) the LoRA heads as separate peft modules, extrapolated"
        print_row(batch_size, procedure, separate, heads, "heads only")
    if not options.no_experts:
        per_record = time_experts(options.device)
        trained = count_steps(int(0.7 * options.records), batch_size) * batch_size
        passes = options.epochs * len(TASKS) * REPEATS * trained / options.records
        paper = per_record * options.records * passes
        procedure = (
            "(a) the paper's procedure, extrapolated from "
            f"{per_record:.2f} s per ECG through five experts"
        )
        print_row("-", procedure, paper, total, enecg)
        extraction = per_record * options.records
        procedure = "EnECG and one extraction, extrapolated"
        print_row("-", procedure, extraction + total, total, enecg)
        ratio = paper / (extraction + total)
        print(
            f"\n(a) takes {ratio:.1f} times as long as one extraction and EnECG's training (batch "
            f"size {batch_size}). If EnECG's training took no time, (a) would take {passes:.0f} "
            "times as long as the extraction."
        )
    print(f"\nPeak memory {peak_bytes() / 1e9:.2f} GB.")


def print_row(
    batch_size: object, procedure: str, seconds: float, reference: float, reference_name: str
) -> None:
    """Print a row with the time of a procedure and its ratio to a reference."""
    ratio = f"{seconds / reference:,.1f} x {reference_name}"
    print(f"| {batch_size} | {procedure} | {seconds:,.1f} | {ratio} |", flush=True)
    if seconds != reference:
        report_ratio(procedure, seconds / reference, "time", reference_name)


def fill_stores(folder: Path, dataset: NoiseDataset) -> Cache:
    """Fill stores with noise, with as many features as the experts have, and open them."""
    stores = {}
    for name in (*EXPERTS, LeadsSample.spec.name):
        leads = name == LeadsSample.spec.name
        size = LeadsSample.spec.embedding_size if leads else get_definition(name).embedding_size
        provenance = {"dataset": dataset.namespace, "expert": name, "weights": "random:0"}
        layout = {"features": size, "dtype": "float16", "reasons": []}
        random = np.random.default_rng(size)
        with open_for_writing(folder, provenance, record_id=dataset.ids, **layout) as store:
            for shard in range(store.shards):
                rows = store.shard_slice(shard)
                noise = random.normal(size=(rows.stop - rows.start, size)).astype(np.float16)
                store.write_shard(shard, noise, np.ones(len(noise), np.uint8))
        stores[name] = open_store(store.location)
    leads_store = stores.pop(LeadsSample.spec.name)
    return Cache(stores, leads_store)


def time_separate_heads(
    experts: dict[str, torch.Tensor], options: argparse.Namespace, batch_size: int
) -> float:
    """Estimate the seconds to train LoRA heads one by one, including those of the folds."""
    seconds = 0.0
    # The heads of each of the two folds are trained on half of the training records.
    records = int(0.7 * options.records)
    steps = options.epochs * (
        count_steps(records, batch_size) + 2 * count_steps(records // 2, batch_size)
    )
    for embedding in experts.values():
        for outputs in (1, 1, 2, 2, 15):
            heads = TaskHeads(embedding.shape[1], {"task": outputs}, hidden=128, dropout=0.1)
            heads.standardise.fit(embedding[:1000])
            model = with_lora(heads, rank=8, alpha=16.0, dropout=0.1).to(options.device)
            optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
            model.train()
            started = time.perf_counter()
            for _ in range(TIMED_STEPS):
                rows = torch.randint(len(embedding), (batch_size,))
                optimizer.zero_grad()
                model(embedding[rows])["task"].square().mean().backward()
                optimizer.step()
            seconds += (time.perf_counter() - started) / TIMED_STEPS * steps * REPEATS
    return seconds


def time_experts(device: str) -> float:
    """Return the total seconds per ECG of all five experts, in batches of 16."""
    ecg = torch.randn(TIMED_RECORDS, 12, 5000, device=device)
    seconds = 0.0
    for name in EXPERTS:
        expert = load_expert(name, "random:0").to(device)
        with torch.inference_mode():
            expert.embed(ecg[:1])
            started = time.perf_counter()
            for batch in ecg.split(16):
                expert.embed(batch).cpu()
        seconds += time.perf_counter() - started
    return seconds / TIMED_RECORDS


if __name__ == "__main__":
    main()
