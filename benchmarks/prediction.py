"""Coverage of intervals and sets, warnings, and differences of live from stored embeddings.

    python benchmarks/prediction.py                                    # synthetic ECGs
    python benchmarks/prediction.py --dataset ludb:data/ludb --experts dlinear,timesnet,moment

Without `--dataset`, a run is trained on synthetic patients and tested on other synthetic patients.
With `--dataset`, coverage is measured on the test records of each repeat. With `--folder`, stores
and the run are kept; a later call uses this run even with other `--experts` or `--limit`.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from enecg.ecg_format import SAMPLE_RATE_HZ
from pipeline.datasets.base import Dataset
from pipeline.datasets.registry import open_dataset
from pipeline.extract import extract
from pipeline.extraction.options import ExtractOptions
from pipeline.predict import predict
from pipeline.prediction.combine import combine
from pipeline.prediction.live_run import LiveRun, load_run
from pipeline.prediction.outliers import FAR
from pipeline.prediction.predicted import EcgPrediction, TaskPrediction
from pipeline.runs.predictor import read_run_features
from pipeline.synthetic.synthesize import synthesize
from pipeline.train import train
from pipeline.training.settings import TrainSettings
from pipeline.waveforms.errors import UnreadableRecord

COVERAGES = (0.8, 0.9, 0.95)
CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "unchanged": lambda ecg: ecg,
    "gain 1000 times too high": lambda ecg: 1000 * ecg,
    "gain 10 times too high": lambda ecg: 10 * ecg,
    "white noise of the same SD": lambda ecg: (
        np.random.default_rng(0).normal(size=ecg.shape) * ecg.std(1, keepdims=True)
    ),
    "250 Hz read as 500 Hz": lambda ecg: np.tile(ecg[:, ::2], 2),
    "arm electrodes swapped": lambda ecg: (
        ecg[[0, 2, 1, 4, 3, 5, *range(6, 12)]]
        * np.array([-1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1])[:, None]
    ),
    "leads in random order": lambda ecg: ecg[np.random.default_rng(0).permutation(12)],
    "2 mV of 50 Hz hum": lambda ecg: (
        ecg + 2 * np.sin(np.arange(5000) * 2 * np.pi * 50 / SAMPLE_RATE_HZ)
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", help="data set; default: synthetic ECGs")
    parser.add_argument("--other", help="second data set for which warnings are counted")
    parser.add_argument("--experts", default="dlinear,measurements")
    parser.add_argument("--patients", type=int, default=300, help="number of synthetic patients")
    parser.add_argument("--limit", type=int, help="use only the first LIMIT records")
    parser.add_argument(
        "--equal", type=int, default=40, help="maximum number of records to compare"
    )
    parser.add_argument("--folder", type=Path, help="folder for data, stores and run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = arguments.folder or Path(temporary)
        experts = tuple(arguments.experts.split(","))
        name = arguments.dataset
        if name is None:
            synthesize(folder / "data", patients=arguments.patients, seed=0)
            synthesize(folder / "new", patients=arguments.patients, seed=1)
            name = f"mimic-iv-ecg:{folder / 'data'}"
        dataset = open_dataset(name)
        run = make_run(dataset, folder, experts, arguments.limit)
        live = load_run(run)
        print(f"{dataset.namespace}, experts {', '.join(experts)}, {len(live.repeats)} repeats\n")
        report_equality(live, dataset, folder / "store", arguments.equal)
        if arguments.dataset is None:
            new = open_dataset(f"mimic-iv-ecg:{folder / 'new'}")
            results = {None: predict_all(live, new)}
            results |= {
                repeat: predict_all(load_run(run, repeat), new)
                for repeat in range(len(live.repeats))
            }
            report_coverage(results, new.labels())
            report_warnings(live, new)
        else:
            report_coverage(
                {repeat: predict_test(run, repeat, folder / "store") for repeat in range(3)},
                dataset.labels(),
            )
            report_warnings(load_run(run, 0), dataset)
        if arguments.other:
            report_warnings(live, open_dataset(arguments.other))


def make_run(dataset: Dataset, folder: Path, experts: tuple[str, ...], limit: int | None) -> Path:
    """Extract embeddings with untrained experts and train a run, unless its folder exists."""
    run = folder / "run"
    if not run.exists():
        weights = ("random:0",)
        options = ExtractOptions(weights=weights, limit=limit)
        extract(dataset, folder / "store", experts, options=options)
        settings = TrainSettings(experts=experts, weights=weights, limit=limit)
        train(dataset, folder / "store", run, settings=settings, page=False)
    return run


def report_equality(live: LiveRun, dataset: Dataset, store: Path, limit: int) -> None:
    """Print how embeddings and predictions from waveforms differ from those from the store."""
    predictions = [
        result
        for result in predict(live, dataset=dataset, limit=limit)
        if isinstance(result, EcgPrediction)
    ]
    ids = np.array([prediction.record for prediction in predictions])
    stored = read_run_features(live.saved.folder, store, ids)
    batch = combine(live.calibrated, stored, live.tasks, 0.9)
    index = dataset.index().record_id.tolist()
    ecgs = [dataset.read(index.index(record)) for record in ids.tolist()]
    features = live.embed(torch.from_numpy(np.stack(ecgs)))
    print(f"| {len(predictions)} records: live minus stored | largest difference |\n|---|---|")
    for name, embedding in {**stored.experts, "sampled leads": stored.leads}.items():
        now = (features.leads if name == "sampled leads" else features.experts[name]).float()
        difference = (now - embedding.float()).abs()
        exponent = embedding.float().abs().clamp_min(2.0**-14).frexp().exponent
        spacing = difference * torch.exp2(11.0 - exponent)
        equal = (difference == 0).float().mean()
        print(
            f"| embedding {name} | {difference.max():.3g}, at most {spacing.max():.2g} units in "
            f"the last place, {100 * equal:.2f} % of the values equal |"
        )
    for task in live.tasks:
        pairs = [
            (prediction.tasks[task], from_store[task])
            for prediction, from_store in zip(predictions, batch, strict=True)
        ]
        print(f"| {task} | {largest_difference(pairs)} |")
    print()


def largest_difference(pairs: Sequence[tuple[TaskPrediction, TaskPrediction]]) -> str:
    weights = max(
        abs(live.weights[name] - stored.weights[name])
        for live, stored in pairs
        for name in live.weights
    )
    if pairs[0][0].kind == "regression":
        value = max(abs((live.value or 0) - (stored.value or 0)) for live, stored in pairs)
        return f"value {value:.2g} {pairs[0][0].unit}, gate weight {weights:.1g}"
    probability = max(
        abs(live.probabilities[name] - stored.probabilities[name])
        for live, stored in pairs
        for name in live.probabilities
    )
    changed = sum(live.labels != stored.labels for live, stored in pairs)
    return (
        f"probability {probability:.1g}, {changed} records with another class, "
        f"gate weight {weights:.1g}"
    )


Predicted = dict[int | str, dict[float, dict[str, TaskPrediction]]]
"""Predictions by record and coverage."""


def predict_all(live: LiveRun, dataset: Dataset) -> Predicted:
    """Predict all readable records from their waveforms, for each of `COVERAGES`."""
    predicted: Predicted = {}
    for ids, ecg in batches(dataset):
        features = live.embed(ecg)
        for coverage in COVERAGES:
            by_record = combine(live.calibrated, features, live.tasks, coverage)
            for record, tasks in zip(ids, by_record, strict=True):
                predicted.setdefault(record, {})[coverage] = tasks
    return predicted


def predict_test(run: Path, repeat: int, store: Path) -> Predicted:
    """Predict the test records of a repeat from the store, for each of `COVERAGES`."""
    live = load_run(run, repeat)
    ids = np.array(live.saved.cohorts[repeat]["test"])
    features = read_run_features(run, store, ids)
    predicted: Predicted = {record: {} for record in ids.tolist()}
    for coverage in COVERAGES:
        by_record = combine(live.calibrated, features, live.tasks, coverage)
        for record, tasks in zip(ids.tolist(), by_record, strict=True):
            predicted[record][coverage] = tasks
    return predicted


def batches(dataset: Dataset, size: int = 64) -> Iterator[tuple[list[int | str], torch.Tensor]]:
    """Yield ids and ECGs of the readable records in batches."""
    ids: list[int | str] = []
    ecgs: list[np.ndarray] = []
    for row, record in enumerate(dataset.index().record_id.tolist()):
        try:
            ecgs.append(dataset.read(row))
        except UnreadableRecord:
            continue
        ids.append(record)
        if len(ids) == size:
            yield ids, torch.from_numpy(np.stack(ecgs))
            ids, ecgs = [], []
    if ids:
        yield ids, torch.from_numpy(np.stack(ecgs))


def report_coverage(results: dict[int | None, Predicted], labels: pd.DataFrame) -> None:
    """Print the coverage and the mean size of prediction intervals and sets for unseen patients."""
    print("| task | models | records | requested | covered | mean width or size |")
    print("|---|---|---|---|---|---|")
    first = next(iter(next(iter(results.values())).values()))[COVERAGES[0]]
    single_repeats = [repeat for repeat in results if repeat is not None]
    groups = {"mean of repeats": [None], "one repeat": single_repeats}
    for task, example in first.items():
        column = {"arrhythmia": "diagnosis"}.get(task, task)
        for group, repeats in groups.items():
            for coverage in COVERAGES:
                hits, sizes = [], []
                for repeat in repeats:
                    for record, by_coverage in results.get(repeat, {}).items():
                        truth = labels.loc[record, column]
                        if pd.isna(truth):
                            continue
                        hit, size = compare(by_coverage[coverage][task], truth)
                        hits.append(hit)
                        sizes.append(size)
                if hits:
                    unit = example.unit or "classes"
                    print(
                        f"| {task} | {group} | {len(hits):,} | {coverage:.2f} | "
                        f"{np.mean(hits):.3f} | {np.mean(sizes):.3g} {unit} |"
                    )
    print()


def compare(prediction: TaskPrediction, truth: float | str) -> tuple[bool, float]:
    """Return whether an interval or set contains the truth, and the width or number of classes."""
    if prediction.kind == "regression":
        low, high = prediction.interval or (-np.inf, np.inf)
        return bool(low <= float(truth) <= high), high - low
    names = prediction.prediction_set or ()
    if prediction.kind == "binary":
        name = tuple(prediction.probabilities)[int(truth)]
    else:
        name = str(truth) if truth in prediction.probabilities else "Others"
    return name in names, len(names)


def report_warnings(live: LiveRun, dataset: Dataset, limit: int = 200) -> None:
    """Print the share of ECGs with a relative distance above `FAR`, after each of `CHANGES`.

    At most `limit` ECGs are used, without training and validation records of the run's first
    repeat. Refused ECGs count as ECGs with a distance above `FAR`.
    """
    print(f"| {dataset.namespace} | median of the largest relative distance | warnings |")
    print("|---|---|---|")
    same = dataset.namespace == live.saved.config["dataset"]
    seen = set(live.saved.records_seen(0).tolist()) if same else set()
    ecgs = []
    for ids, batch in batches(dataset):
        ecgs += [ecg for record, ecg in zip(ids, batch, strict=True) if record not in seen]
        if len(ecgs) >= limit:
            break
    for name, change in CHANGES.items():
        changed = [change(ecg.numpy()).astype(np.float32) for ecg in ecgs[:limit]]
        results = live.predict_batch(torch.from_numpy(np.stack(changed)), range(len(changed)))
        largest = np.array(
            [
                max(result.distances.values()) if isinstance(result, EcgPrediction) else np.inf
                for result in results
            ]
        )
        share = 100 * np.mean(~(largest <= FAR))
        print(f"| {name} | {np.median(largest):.3g} | {share:.1f} % of {len(changed)} |")
    print()


if __name__ == "__main__":
    main()
