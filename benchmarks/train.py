"""What the feature cache and the stack of heads save, against ways without them, in one run.

    python benchmarks/train.py --folder /tmp/bench                 # 10,000 records
    python benchmarks/train.py --folder /tmp/bench --records 100000 --no-experts

Stores of five experts are filled with noise of the experts' own widths, for all that counts here
is their size. From them all five tasks x three repeats are trained, for a fixed number of epochs.
Against it: (a) the paper's way, in which every batch goes through the experts in every epoch of
every task and repeat: the experts (random weights) are timed on 64 ECGs; (b) our own heads by
plain peft modules, one expert, task and repeat after the other, timed on some steps of each.
"""

import argparse
import os
import resource
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from enecg.experts import get_definition, load_expert
from enecg.heads import TaskHeads, with_lora
from enecg.leads import LeadsSample
from enecg.tasks import TASKS
from pipeline.datasets.base import RecordIndex
from pipeline.training.cache import Cache
from pipeline.training.cohorts import draw_cohort
from pipeline.training.features import read_features
from pipeline.training.fit_heads import fit_heads
from pipeline.training.inputs import Inputs
from pipeline.training.labeled_repeat import label_repeat
from pipeline.training.repeat import run_repeats
from pipeline.training.settings import FitSettings
from stores.creation import open_for_writing
from stores.opening import open_store

EXPERTS = ("timesnet", "dlinear", "moment", "tempo", "ecg-fm")
REPEATS = 3
TIMED_RECORDS = 64
TIMED_STEPS = 20


class Bare:
    """A data set of which nothing is read: its records are in the stores already."""

    namespace = "benchmark/1"

    def __init__(self, records: int) -> None:
        self.ids = np.arange(records)

    def index(self) -> RecordIndex:
        return RecordIndex(self.ids, self.ids)

    def read(self, row: int) -> np.ndarray:
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
                "diagnosis": random.choice([f"rhythm {one}" for one in range(20)], size),
            },
            index=self.ids,
        )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--folder", type=Path, required=True)
    arguments.add_argument("--records", type=int, default=10_000)
    arguments.add_argument("--epochs", type=int, default=10)
    arguments.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 1024])
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--no-experts", action="store_true", help="leave (a) out")
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    folder = given.folder / "enecg-benchmark"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        measure(folder, given)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(folder: Path, given: argparse.Namespace) -> None:
    dataset = Bare(given.records)
    cache = filled(folder, dataset)
    print(f"{given.records:,} records, {given.epochs} epochs, {given.threads} thread(s), ", end="")
    print(f"{given.device}, {os.cpu_count()} cores, torch {torch.__version__}\n")
    labels = dataset.labels()
    inputs = Inputs(dataset, cache, dataset.ids, 0, labels, tuple(TASKS.values()))
    cohorts = [
        draw_cohort(dataset.ids, dataset.ids, patients=given.records, seed=seed)
        for seed in range(REPEATS)
    ]
    print("| batch | what | s | ratio to ours |\n|---|---|--:|--:|", flush=True)
    for batch_size in given.batch_sizes:
        settings = FitSettings(
            batch_size=batch_size, epochs=given.epochs, patience=given.epochs + 1
        )
        began = time.perf_counter()
        features = read_features(cache, dataset.ids, given.device)
        reading = time.perf_counter() - began
        run_repeats(cohorts, inputs, features, settings, lambda name, fits: None)
        ours = time.perf_counter() - began
        row(batch_size, f"ours: reading ({reading:.1f} s), heads, gate, ensembles", ours, ours)
        began = time.perf_counter()
        for name in EXPERTS:
            labelled = [label_repeat(cohort, inputs, features) for cohort in cohorts]
            fit_heads(features.experts[name], labelled, settings)
        heads = time.perf_counter() - began
        alone = one_by_one(features.experts, given, batch_size)
        row(batch_size, "our heads alone (those of the halves are in it)", heads, ours)
        row(batch_size, "(b) the same heads one by one, by peft", alone, heads)
    if not given.no_experts:
        per_record = through_the_experts(given.device)
        train = 0.7 * given.records
        paper = per_record * train * given.epochs * len(TASKS) * REPEATS
        row(
            "-", f"(a) the paper's way, {per_record:.2f} s an ECG through five experts", paper, ours
        )
        extraction = per_record * given.records
        row("-", "one extraction and ours", extraction + ours, extraction + ours)
        bound = given.epochs * len(TASKS) * REPEATS * 0.7
        multiple = paper / (extraction + ours)
        print(
            f"\nWith the extraction counted in, (a) takes {multiple:.1f} times as long, "
            f"{multiple / bound:.2f} of the bound of {bound:.0f}."
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"\nPeak memory {peak:.2f} GB.")


def row(batch: object, what: str, seconds: float, ours: float) -> None:
    print(f"| {batch} | {what} | {seconds:,.1f} | {seconds / ours:,.1f} |", flush=True)


def filled(folder: Path, dataset: Bare) -> Cache:
    """Stores of noise, each as wide as its expert's embeddings."""
    stores = {}
    for name in (*EXPERTS, LeadsSample.spec.name):
        leads = name == LeadsSample.spec.name
        size = LeadsSample.spec.embedding_size if leads else get_definition(name).embedding_size
        provenance = {"dataset": dataset.namespace, "expert": name, "weights": "random:0"}
        options = {"features": size, "dtype": "float16", "reasons": []}
        random = np.random.default_rng(size)
        with open_for_writing(folder, provenance, record_id=dataset.ids, **options) as store:
            for shard in range(store.shards):
                rows = store.shard_slice(shard)
                noise = random.normal(size=(rows.stop - rows.start, size)).astype(np.float16)
                store.write_shard(shard, noise, np.ones(len(noise), np.uint8))
        stores[name] = open_store(store.location)
    leads_store = stores.pop(LeadsSample.spec.name)
    return Cache(stores, leads_store)


def one_by_one(
    experts: dict[str, torch.Tensor], given: argparse.Namespace, batch_size: int
) -> float:
    """The same heads by plain modules: every task, repeat and expert, and the halves as well."""
    seconds = 0.0
    # An epoch of all and one of each half of the training records.
    steps = 2 * given.epochs * -(-int(0.7 * given.records) // batch_size)
    for embedding in experts.values():
        for outputs in (1, 1, 2, 2, 15):
            heads = TaskHeads(embedding.shape[1], {"task": outputs}, hidden=128, dropout=0.1)
            heads.standardise.fit(embedding[:1000])
            model = with_lora(heads, rank=8, alpha=16.0, dropout=0.1).to(given.device)
            optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
            model.train()
            began = time.perf_counter()
            for _ in range(TIMED_STEPS):
                rows = torch.randint(len(embedding), (batch_size,))
                optimiser.zero_grad()
                model(embedding[rows])["task"].square().mean().backward()
                optimiser.step()
            seconds += (time.perf_counter() - began) / TIMED_STEPS * steps * REPEATS
    return seconds


def through_the_experts(device: str) -> float:
    """Seconds that an ECG takes through all five experts, in batches of 16."""
    ecg = torch.randn(TIMED_RECORDS, 12, 5000, device=device)
    seconds = 0.0
    for name in EXPERTS:
        expert = load_expert(name, "random:0").to(device)
        with torch.inference_mode():
            expert.embed(ecg[:1])
            began = time.perf_counter()
            for batch in ecg.split(16):
                expert.embed(batch).cpu()
        seconds += time.perf_counter() - began
    return seconds / TIMED_RECORDS


if __name__ == "__main__":
    main()
