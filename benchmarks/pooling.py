"""Compare the poolings of each expert by the error of heads trained on them.

    python benchmarks/pooling.py DATASET [--experts ...] [--weights random:0] [--records 200]

The states of an expert are computed once per ECG and pooled with every pooling. Heads are trained
with the default settings and cohorts of `enecg train`. The score of a pooling is the error of its
heads divided by the error of the constant predictor, averaged over repeats and tasks. For
classification, the error is 1 minus the metric. A score of 1 means the same error as the constant
predictor, and 0 means no error. Because the score is used to select the default pooling, it is
computed on validation patients, not on test patients.
"""

import argparse
import time

import numpy as np
import pandas as pd
import torch

from enecg.experts import FrozenExpert, get_definition, load_expert
from enecg.pooling import pool
from enecg.signal import mean_and_scale
from enecg.tasks import TASKS
from pipeline.datasets.registry import open_dataset
from pipeline.evaluation.thresholds import choose_threshold, decide
from pipeline.labels.targets import fit_constant, fit_targets
from pipeline.training.cohorts import draw_cohort
from pipeline.training.fit_heads import fit_heads
from pipeline.training.head_outputs import predict_heads
from pipeline.training.labeled_repeat import LabeledRepeat
from pipeline.training.settings import FitSettings
from pipeline.waveforms.errors import UnreadableRecord

REPEATS = 3


def embed(
    expert: FrozenExpert, poolings: tuple[str, ...], ecgs: list[np.ndarray]
) -> tuple[dict[str, torch.Tensor], float]:
    """Embed ECGs with every pooling.

    Returns:
        Embeddings of shape (record, feature) by pooling, and the duration in seconds.
    """
    parts: dict[str, list[torch.Tensor]] = {name: [] for name in poolings}
    start_time = time.monotonic()
    with torch.inference_mode():
        for start in range(0, len(ecgs), 8):
            ecg = torch.from_numpy(np.stack(ecgs[start : start + 8]))
            states = expert.states(ecg)
            mean, scale = mean_and_scale(ecg)
            for name in poolings:
                amplitude = [mean[..., 0], scale[..., 0]]
                parts[name].append(torch.cat([pool(name, states), *amplitude], dim=-1).half())
    seconds = time.monotonic() - start_time
    return {name: torch.cat(part) for name, part in parts.items()}, seconds


def every(step: int, patient_id: pd.Series) -> np.ndarray:
    """Return a mask of the records of every `step`-th patient."""
    return np.isin(patient_id, np.unique(patient_id)[::step])


def relative_errors(embedding: torch.Tensor, labels: pd.DataFrame, seed: int) -> dict[str, float]:
    """Train heads; return their errors by task, divided by those of the constant predictor."""
    ids = labels.index.to_numpy()
    cohort = draw_cohort(ids, labels["patient_id"].to_numpy(), patients=10_000, seed=seed)
    # Use a third of the validation patients for early stopping, and the others for the score.
    is_stop = every(3, labels.loc[cohort.validation, "patient_id"])
    parts = {
        "train": cohort.train,
        "stop": cohort.validation[is_stop],
        "score": cohort.validation[~is_stop],
    }
    used = np.concatenate(list(parts.values()))
    embedding = embedding[labels.index.get_indexer(used)]
    labels = labels.loc[used]
    in_order = torch.arange(len(used)).split([len(part) for part in parts.values()])
    rows = dict(zip(parts, in_order, strict=True))
    targets = {
        name: fit_targets(task, labels.loc[cohort.train, task.column])
        for name, task in TASKS.items()
        if task.column in labels and labels.loc[cohort.train, task.column].nunique() > 1
    }
    encoded = {
        name: torch.from_numpy(target.encode(labels[target.task.column])).float()
        for name, target in targets.items()
    }
    is_first = torch.from_numpy(every(2, labels.loc[cohort.train, "patient_id"]))
    repeat = LabeledRepeat(
        targets=targets,
        rows=torch.arange(len(embedding)),
        encoded=encoded,
        train=rows["train"],
        validation=rows["stop"],
        test=rows["score"],
        folds=(rows["train"][is_first], rows["train"][~is_first]),
        patients=torch.from_numpy(pd.factorize(labels["patient_id"])[0]),
        seed=seed,
    )
    (fitted,) = fit_heads(embedding, [repeat], FitSettings())
    errors = {}
    for name, output in predict_heads(fitted.module, embedding, targets).items():
        target, truth = targets[name], encoded[name].numpy().astype(np.float64)
        train, stop, score = (
            part.numpy()[~np.isnan(truth[part.numpy()])] for part in rows.values()
        )
        threshold = 0.5
        if target.task.kind == "binary":
            threshold = choose_threshold(output[:, 1].numpy()[stop], truth[stop].astype(int))
        predicted = decide(target, output.numpy()[score], threshold)
        constant = fit_constant(target.task.kind, truth[train], target.outputs).value
        baseline, true = np.full(len(score), float(constant)), truth[score]
        metric = target.task.metric
        if target.task.kind == "regression":
            baseline, true = target.decode(baseline), target.decode(true)
            errors[name] = metric(true, predicted) / metric(true, baseline)
        else:
            errors[name] = (1 - metric(true, predicted)) / (1 - metric(true, baseline))
    return errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--experts", default="timesnet,moment,ecg-fm,tempo")
    parser.add_argument("--weights", default="random:0")
    parser.add_argument("--records", type=int, default=200)
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.dataset)
    ecgs, ids = [], []
    for row, record in enumerate(dataset.index().record_id[: arguments.records].tolist()):
        try:
            ecgs.append(dataset.read(row))
            ids.append(record)
        except UnreadableRecord:
            continue
    labels = dataset.labels().loc[ids]
    tasks = [name for name, task in TASKS.items() if task.column in labels]
    print(
        f"{dataset.namespace}, {len(ids)} records, weights {arguments.weights}"
        f"{' (untrained)' if arguments.weights.startswith('random:') else ''}, {REPEATS} repeats"
    )
    print(f"| expert | pooling | features | {' | '.join(tasks)} | mean |")
    print("|---" * (4 + len(tasks)) + "|")
    for name in arguments.experts.split(","):
        definition, expert = get_definition(name), load_expert(name, arguments.weights)
        assert isinstance(expert, FrozenExpert)
        threads = torch.get_num_threads()
        embeddings, seconds = embed(expert, definition.poolings, ecgs)
        torch.set_num_threads(1)
        for pooling, embedding in embeddings.items():
            errors = pd.DataFrame(
                [relative_errors(embedding, labels, seed) for seed in range(REPEATS)]
            ).mean()
            default = " (default)" if pooling == definition.pooling else ""
            cells = " | ".join(f"{errors[task]:.2f}" for task in tasks)
            print(
                f"| {name} | {pooling}{default} | {embedding.shape[1]} | {cells} | "
                f"{errors.mean():.3f} |",
                flush=True,
            )
        torch.set_num_threads(threads)
        print(f"<!-- {name}: {len(ids) / seconds:.2f} records/s -->", flush=True)


if __name__ == "__main__":
    main()
