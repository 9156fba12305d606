"""Scores and CPU time of heads and gate, compared with scikit-learn on the same embeddings.

    python benchmarks/heads.py ludb:LUDB --store stores-data/lab [--repeats 5] [--task NAME:KIND]

All experts with the weights random:0 in the store are used, and all methods use the same random
cohorts. The models of scikit-learn are fitted on standardized embeddings of training and validation
patients: ridge regression (penalty selected by cross-validation) and logistic regression (C = 0.01)
on each embedding and on all of them concatenated, and histogram gradient boosting on the latter.
Multilabel tasks are omitted.

Prints Markdown tables: MAE in the task's unit for regression (lower is better), AUROC for binary
tasks and accuracy for multiclass tasks (higher is better), means over the repeats.
Gains are paired differences between the default and another method, positive where the default is
better, with a 95 % interval from a bootstrap over the repeats. The repeats share patients, so the
intervals describe the choice of the split and not that of the patients.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from enecg.ensembles import ENSEMBLES
from enecg.errors import UserError
from enecg.tasks import ALL, Task
from pipeline.evaluation.predictions import CONSTANT, ENSEMBLE, TaskPredictions
from pipeline.labels.targets import fit_targets
from pipeline.training.cohorts import Cohort, draw_cohort
from pipeline.training.features import Features, read_features
from pipeline.training.inputs import Inputs, prepare_inputs
from pipeline.training.labeled_repeat import check_labels
from pipeline.training.repeat import run_repeats
from pipeline.training.settings import Adaptation, FitSettings, TrainSettings
from pipeline.training.torch_state import single_thread
from stores.record_ids import as_ids

ADAPTATIONS: tuple[Adaptation, ...] = ("linear-lora", "lora")
DEFAULT = ADAPTATIONS[0]
LINEAR, BOOSTING = "linear", "boosting"
EVERY_EXPERT = "all embeddings"
PENALTIES = np.logspace(-1, 6, 15)
"""Values of `alpha` for ridge regression."""
INVERSE_PENALTY = 0.01
"""Value of `C` for logistic regression."""
ITERATIONS = 30
"""Trees of gradient boosting per class."""
BINS = 32
DRAWS = 2000

Values = dict[tuple[str, str, str], list[float]]
"""Value of each repeat by task, family (an adaptation or a model of scikit-learn) and method."""


@dataclass(frozen=True)
class Row:
    """A comparison between a method of the default family and another method."""

    task: Task
    method: str
    family: str
    other: str


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("dataset")
    arguments.add_argument("--store", required=True)
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--task", action="append", default=[], help="NAME:KIND of own tasks")
    given = arguments.parse_args()
    settings = TrainSettings(
        tasks=(ALL,), own_tasks=tuple(given.task), weights=("random:0",), repeats=given.repeats
    )
    inputs = prepare_inputs(given.dataset, given.store, settings)
    patients = as_ids(inputs.labels["patient_id"])
    cohorts = [
        draw_cohort(inputs.record_id, patients, patients=len(patients), seed=seed, ecgs="all")
        for seed in range(given.repeats)
    ]
    inputs = replace(
        inputs,
        tasks=tuple(
            task
            for task in inputs.tasks
            if task.kind != "multilabel" and fits(task, cohorts, inputs)
        ),
    )
    features = read_features(inputs.cache, inputs.record_id, "cpu")
    values: Values = defaultdict(list)
    seconds = {}
    for adaptation in ADAPTATIONS:
        began = time.process_time()
        with single_thread():
            repeats = run_repeats(
                cohorts, inputs, features, FitSettings(adaptation=adaptation), lambda *_: None
            )
        seconds[adaptation] = time.process_time() - began
        for repeat in repeats:
            for prediction in repeat.predictions:
                key = (prediction.task.name, adaptation, prediction.method)
                values[key].append(measure(prediction))
    for model in (LINEAR, BOOSTING):
        for name, part in choose_embeddings(features, model).items():
            began = time.process_time()
            for (task_name, method), measured in probe(inputs, part, cohorts, model):
                values[task_name, model, method] = measured
            spent = time.process_time() - began
            seconds[f"scikit-learn, {model}, {name}"] = spent
    print_tables(inputs, list(features.experts), values)
    print("\n| method | CPU s |\n|---|--:|")
    for name, spent in seconds.items():
        print(f"| {name} | {spent:.1f} |")


def choose_embeddings(features: Features, model: str) -> dict[str, Features]:
    """Return single embeddings (for the linear models only, for their time) and all together."""
    together = torch.cat([embedding.float() for embedding in features.experts.values()], 1)
    parts = {EVERY_EXPERT: replace(features, experts={EVERY_EXPERT: together})}
    return {"each embedding": features} | parts if model == LINEAR else parts


def print_tables(inputs: Inputs, experts: Sequence[str], values: Values) -> None:
    """Print the comparisons of heads and of EnECG, and mean ranks."""
    heads = [
        Row(task, expert, family, other)
        for task in inputs.tasks
        for expert in experts
        for family, other in (
            (DEFAULT, CONSTANT),
            (ADAPTATIONS[1], expert),
            (LINEAR, expert),
        )
    ]
    combined = [
        Row(task, ENSEMBLE, family, other)
        for task in inputs.tasks
        for family, other in (
            (DEFAULT, CONSTANT),
            *((DEFAULT, expert) for expert in experts),
            *((DEFAULT, name) for name in ENSEMBLES),
            (ADAPTATIONS[1], ENSEMBLE),
            (LINEAR, EVERY_EXPERT),
            (BOOSTING, EVERY_EXPERT),
        )
        if (task.name, family, other) in values
    ]
    for rows in (heads, combined):
        print("\n| task | default | value | compared with | value | gain [95 % interval] |")
        print("|---|---|--:|---|--:|--:|")
        for row in rows:
            print_row(row, values)
    ranked = [
        (DEFAULT, ENSEMBLE),
        *((DEFAULT, name) for name in ENSEMBLES if name != "confidence"),
        (ADAPTATIONS[1], ENSEMBLE),
        (LINEAR, EVERY_EXPERT),
        (BOOSTING, EVERY_EXPERT),
    ]
    ranks = np.mean([rank(task, ranked, values) for task in inputs.tasks], axis=0)
    print("\n| method | mean rank over tasks |\n|---|--:|")
    for (family, method), position in zip(ranked, ranks, strict=True):
        print(f"| {family}: {method} | {position:.2f} |")


def print_row(row: Row, values: Values) -> None:
    """Print one comparison."""
    ours = np.array(values[row.task.name, DEFAULT, row.method])
    others = np.array(values[row.task.name, row.family, row.other])
    gains = (ours - others) * (1 if row.task.higher_is_better else -1)
    gains = gains[~np.isnan(gains)]
    rng = np.random.default_rng(0)
    means = gains[rng.integers(0, len(gains), (DRAWS, len(gains)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    digits = 1 if row.task.kind == "regression" else 3
    name = row.other if row.family == DEFAULT else f"{row.family}: {row.other}"
    print(
        f"| {row.task.name} | {row.method} | {np.nanmean(ours):.{digits}f} | {name} "
        f"| {np.nanmean(others):.{digits}f} "
        f"| {gains.mean():+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}] |"
    )


def rank(task: Task, methods: Sequence[tuple[str, str]], values: Values) -> np.ndarray:
    """Return the rank of each method's mean value, 1 for the best."""
    means = np.array([np.nanmean(values[task.name, *method]) for method in methods])
    order = (-means if task.higher_is_better else means).argsort()
    return order.argsort() + 1


def fits(task: Task, cohorts: list[Cohort], inputs: Inputs) -> bool:
    """Return whether every part of every cohort has labels for a task."""
    try:
        for cohort in cohorts:
            check_labels(cohort, replace(inputs, tasks=(task,)))
    except UserError:
        return False
    return True


def measure(prediction: TaskPredictions) -> float:
    """Return the MAE, the AUROC of a binary task, or the accuracy."""
    if prediction.task.kind == "binary" and prediction.probability is not None:
        if len(np.unique(prediction.truth)) < 2:
            return float("nan")
        return float(roc_auc_score(prediction.truth, prediction.probability[:, 1]))
    return float(prediction.task.metric(prediction.truth, prediction.predicted))


def build_model(task: Task, model: str) -> Any:
    """Build an unfitted model of scikit-learn."""
    if model == BOOSTING:
        regression = task.kind == "regression"
        kind = HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
        return kind(max_iter=ITERATIONS, max_bins=BINS, early_stopping=False, random_state=0)
    if task.kind == "regression":
        return make_pipeline(StandardScaler(), RidgeCV(PENALTIES))
    return make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_PENALTY, max_iter=500))


def probe(
    inputs: Inputs, features: Features, cohorts: list[Cohort], model: str = LINEAR
) -> Iterator[tuple[tuple[str, str], list[float]]]:
    """Yield the value of each repeat of scikit-learn's model for each task and embedding."""
    for task in inputs.tasks:
        for expert, embedding in features.experts.items():
            values = []
            for cohort in cohorts:
                labels = inputs.labels[task.column]
                fitted = np.concatenate([cohort.train, cohort.validation])
                targets = fit_targets(task, labels.loc[cohort.train])
                y, truth = (targets.encode(labels.loc[ids]) for ids in (fitted, cohort.test))
                x, tested = (
                    embedding[features.find_rows(ids)].float().numpy()
                    for ids in (fitted, cohort.test)
                )
                known, kept = ~np.isnan(y), ~np.isnan(truth)
                trained = build_model(task, model).fit(x[known], y[known])
                tested, truth = tested[kept], truth[kept]
                if task.kind == "regression":
                    error = np.abs(trained.predict(tested) - truth).mean()
                    values.append(float(error * targets.scale))
                elif task.kind == "binary":
                    both = len(np.unique(truth)) > 1
                    score = trained.predict_proba(tested)[:, 1]
                    values.append(float(roc_auc_score(truth, score)) if both else float("nan"))
                else:
                    values.append(float((trained.predict(tested) == truth).mean()))
            yield (task.name, expert), values


if __name__ == "__main__":
    main()
