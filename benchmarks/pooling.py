"""Which pooling serves the tasks: heads on each expert's states, pooled in every way.

    python benchmarks/pooling.py DATASET [--experts ...] [--weights random:0] [--records 200]

An expert sees each ECG once, and its states are pooled in all ways at once. Heads are trained as
`enecg train` trains them, on the same cohorts. The score of a pooling is the mean over tasks of
the error that is left of the constant predictor's (regressions) or of its distance from 1
(classes): 1 is no better than the constant, 0 is without error. Validation patients only: the
default is chosen here, so the test patients stay unseen.
"""

import argparse
import time

import numpy as np
import pandas as pd
import torch

from enecg.experts import FrozenExpert, get_definition, load_expert
from enecg.pooling import pool
from enecg.signal import standardize
from enecg.tasks import TASKS
from pipeline.datasets.registry import open_dataset
from pipeline.evaluation.thresholds import choose_threshold, decide
from pipeline.labels.targets import fit_constant, fit_targets
from pipeline.training.cohorts import draw_cohort
from pipeline.training.fit_heads import fit_heads, predict_heads
from pipeline.training.labeled_repeat import LabeledRepeat
from pipeline.training.settings import FitSettings
from pipeline.waveforms.errors import UnreadableRecord

REPEATS = 3


def pooled(expert: FrozenExpert, poolings: tuple[str, ...], ecgs: list[np.ndarray]):
    """Every pooling of every ECG, (record, feature), and the seconds the expert took."""
    parts: dict[str, list[torch.Tensor]] = {name: [] for name in poolings}
    began = time.monotonic()
    with torch.inference_mode():
        for start in range(0, len(ecgs), 8):
            ecg = torch.from_numpy(np.stack(ecgs[start : start + 8]))
            states = expert.states(ecg)
            _, mean, scale = standardize(ecg)
            for name in poolings:
                amplitude = [mean[..., 0], scale[..., 0]]
                parts[name].append(torch.cat([pool(name, states), *amplitude], dim=-1).half())
    seconds = time.monotonic() - began
    return {name: torch.cat(part) for name, part in parts.items()}, seconds


def judge(embedding: torch.Tensor, labels: pd.DataFrame, seed: int) -> dict[str, float]:
    """What is left of the constant predictor's error, by task, on validation patients."""
    ids = labels.index.to_numpy()
    cohort = draw_cohort(ids, labels["patient_id"].to_numpy(), patients=10_000, seed=seed)
    place = {record: row for row, record in enumerate(ids)}
    # A third of the validation patients stops the training; the rest judge.
    judging = cohort.validation[len(cohort.validation) // 3 :]
    stopping = cohort.validation[: len(cohort.validation) // 3]
    rows = {
        name: torch.tensor([place[one] for one in part])
        for name, part in (("train", cohort.train), ("stop", stopping), ("judge", judging))
    }
    targets = {
        name: fit_targets(task, labels.loc[cohort.train, task.column])
        for name, task in TASKS.items()
        if task.column in labels and labels.loc[cohort.train, task.column].nunique() > 1
    }
    encoded = {
        name: torch.from_numpy(one.encode(labels[one.task.column])).float()
        for name, one in targets.items()
    }
    everyone = torch.arange(len(embedding))
    folds = (rows["train"][::2], rows["train"][1::2])
    labelled = LabeledRepeat(
        targets, everyone, encoded, rows["train"], rows["stop"], rows["judge"], folds, seed
    )
    (fitted,) = fit_heads(embedding, [labelled], FitSettings())
    heads = fitted.module
    left = {}
    for name, output in predict_heads(heads, embedding, targets).items():
        one, truth = targets[name], encoded[name].numpy().astype(np.float64)

        def known(part: str, truth: np.ndarray = truth) -> np.ndarray:
            return rows[part].numpy()[~np.isnan(truth[rows[part].numpy()])]

        stop, judged = known("stop"), known("judge")
        threshold = 0.5
        if one.task.kind == "binary":
            threshold = choose_threshold(output[:, 1].numpy()[stop], truth[stop].astype(int))
        answers = decide(one, output.numpy()[judged], threshold)
        best = fit_constant(one.task.kind, truth[known("train")], one.outputs).value
        flat = np.full(len(judged), float(best))
        real = truth[judged]
        if one.task.kind == "regression":
            flat, real = one.decode(flat), one.decode(real)
            left[name] = one.task.metric(real, answers) / one.task.metric(real, flat)
        else:
            left[name] = (1 - one.task.metric(real, answers)) / (1 - one.task.metric(real, flat))
    return left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--experts", default="timesnet,moment,ecg-fm,tempo")
    parser.add_argument("--weights", default="random:0")
    parser.add_argument("--records", type=int, default=200)
    given = parser.parse_args()
    dataset = open_dataset(given.dataset)
    ecgs, ids = [], []
    for row, record in enumerate(dataset.index().record_id[: given.records].tolist()):
        try:
            ecgs.append(dataset.read(row))
            ids.append(record)
        except UnreadableRecord:
            continue
    labels = dataset.labels().loc[ids]
    tasks = [name for name, task in TASKS.items() if task.column in labels]
    print(
        f"{dataset.namespace}, {len(ids)} records, weights {given.weights}"
        f"{' (untrained)' if given.weights.startswith('random:') else ''}, {REPEATS} repeats"
    )
    print(f"| expert | pooling | features | {' | '.join(tasks)} | mean |")
    print("|---" * (4 + len(tasks)) + "|")
    for name in given.experts.split(","):
        expert = load_expert(name, given.weights)
        assert isinstance(expert, FrozenExpert)
        threads = torch.get_num_threads()
        embeddings, seconds = pooled(expert, get_definition(name).poolings, ecgs)
        torch.set_num_threads(1)
        for pooling, embedding in embeddings.items():
            left = pd.DataFrame([judge(embedding, labels, seed) for seed in range(REPEATS)]).mean()
            mark = " (default)" if pooling == get_definition(name).pooling else ""
            cells = " | ".join(f"{left[task]:.2f}" for task in tasks)
            print(
                f"| {name} | {pooling}{mark} | {embedding.shape[1]} | {cells} | "
                f"{left.mean():.3f} |",
                flush=True,
            )
        torch.set_num_threads(threads)
        print(f"<!-- {name}: {len(ids) / seconds:.2f} records/s -->", flush=True)


if __name__ == "__main__":
    main()
