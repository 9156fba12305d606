"""Scores and CPU time of heads and gate, compared with scikit-learn on the same embeddings.

    python benchmarks/heads.py ludb:LUDB --store stores-data/lab [--repeats 5] [--limit N]
        [--task NAME:KIND]

The benchmark uses all experts in the store that have the weights random:0 or no weights, and the
same random cohorts for all methods. The models of scikit-learn are fitted on embeddings of training
and validation patients:

- ridge regression (penalty selected by cross-validation) and logistic regression (C = 0.01), on
  each standardized embedding and on all embeddings concatenated;
- histogram gradient boosting (settings: `BOOSTED`), on all embeddings concatenated and, if
  available, on the expert `measurements`.

Multilabel tasks have one model per label. With several experts, another table compares EnECG
with variants that lack one expert: the gate is trained again on the heads of the other experts.

The benchmark prints Markdown tables: MAE in the task's unit for regression (lower is better), AUROC
for binary tasks, accuracy for multiclass tasks and macro-AUROC for multilabel tasks (higher is
better), means over the repeats. The first row of a table is a method whose heads have the
adaptation `DEFAULT`. Gains are its paired differences from other methods, positive where it is
better, with a 95 % interval from a bootstrap by test patient. Values of the other methods are in
parentheses.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from enecg.ensembles import ENSEMBLES
from enecg.errors import UserError
from enecg.metrics import Metric
from enecg.tasks import ALL, Task
from pipeline.evaluation.differences import compare_methods
from pipeline.evaluation.predictions import CONSTANT, ENSEMBLE, RIDGE, WITHOUT, TaskPredictions
from pipeline.evaluation.scores import compute_metric, draw_patients, task_metrics
from pipeline.labels.targets import fit_targets
from pipeline.training.cohorts import Cohort, draw_cohort
from pipeline.training.features import Features, read_features
from pipeline.training.inputs import Inputs, prepare_inputs
from pipeline.training.labeled_repeat import check_labels
from pipeline.training.leave_one_out import add_leave_one_out
from pipeline.training.repeat import run_repeats
from pipeline.training.settings import Adaptation, FitSettings, TrainSettings
from pipeline.training.torch_state import single_thread
from stores.record_ids import as_ids

ADAPTATIONS: tuple[Adaptation, ...] = ("linear-lora", "lora")
DEFAULT = ADAPTATIONS[0]
"""Adaptation of the heads that is compared with other methods."""
LINEAR, BOOSTING = "linear", "boosting"
ALL_EMBEDDINGS = "all embeddings"
PENALTIES = np.logspace(-1, 6, 15)
"""Values of `alpha` for ridge regression."""
INVERSE_PENALTY = 0.01
"""Value of `C` for logistic regression."""
MEASUREMENTS = "measurements"
BOOSTED: dict[str, dict[str, Any]] = {
    ALL_EMBEDDINGS: {"max_iter": 30, "max_bins": 32},
    MEASUREMENTS: {"max_iter": 200, "learning_rate": 0.05},
}
"""Settings of gradient boosting by embedding. On all embeddings, there are fewer trees and bins,
because a fit on thousands of features would otherwise take minutes."""

Values = dict[tuple[str, str, str], list[TaskPredictions]]
"""Predictions of each repeat by task, family (adaptation or model of scikit-learn) and method."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--store", required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limit", type=int, help="use only the first LIMIT records")
    parser.add_argument("--task", action="append", default=[], help="custom task as NAME:KIND")
    arguments = parser.parse_args()
    settings = TrainSettings(
        tasks=(ALL,),
        own_tasks=tuple(arguments.task),
        weights=("random:0",),
        repeats=arguments.repeats,
        limit=arguments.limit,
    )
    inputs = prepare_inputs(arguments.dataset, arguments.store, settings)
    inputs, cohorts = draw_cohorts(inputs, arguments.repeats)
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
        if adaptation == DEFAULT and len(features.experts) > 1:
            began = time.process_time()
            with single_thread():
                repeats = add_leave_one_out(
                    repeats, inputs, features, FitSettings(adaptation=adaptation), lambda *_: None
                )
            seconds["gates without each expert"] = time.process_time() - began
        for repeat in repeats:
            for prediction in repeat.predictions:
                key = (prediction.task.name, adaptation, prediction.method)
                values[key].append(prediction)
    for model in (LINEAR, BOOSTING):
        for name, part in choose_embeddings(features, model).items():
            began = time.process_time()
            for prediction in probe(inputs, part, cohorts, model):
                values[prediction.task.name, model, prediction.method].append(prediction)
            spent = time.process_time() - began
            seconds[f"scikit-learn, {model}, {name}"] = spent
    print_tables(inputs, list(features.experts), values)
    print("\n| method | CPU s |\n|---|--:|")
    for name, spent in seconds.items():
        print(f"| {name} | {spent:.1f} |")


def draw_cohorts(inputs: Inputs, repeats: int) -> tuple[Inputs, list[Cohort]]:
    """Draw a random split of all patients for each repeat.

    Returns:
        The inputs, restricted to the tasks with labels in all cohorts, and the cohorts.
    """
    patients = as_ids(inputs.labels["patient_id"])
    cohorts = [
        draw_cohort(inputs.record_id, patients, patients=len(patients), seed=seed, ecgs="all")
        for seed in range(repeats)
    ]
    tasks = tuple(task for task in inputs.tasks if has_labels(task, cohorts, inputs))
    return replace(inputs, tasks=tasks), cohorts


def choose_embeddings(features: Features, model: str) -> dict[str, Features]:
    """Return the embeddings that a model is fitted on, by name.

    Both models are fitted on all embeddings concatenated. Linear models are also fitted on each
    embedding. Gradient boosting, which takes longer, is also fitted on the measurements.
    """
    concatenated = torch.cat([embedding.float() for embedding in features.experts.values()], 1)
    parts = {ALL_EMBEDDINGS: replace(features, experts={ALL_EMBEDDINGS: concatenated})}
    if model == LINEAR:
        return {"each embedding": features} | parts
    if MEASUREMENTS in features.experts:
        measured = {MEASUREMENTS: features.experts[MEASUREMENTS]}
        parts[MEASUREMENTS] = replace(features, experts=measured)
    return parts


def print_tables(inputs: Inputs, experts: Sequence[str], values: Values) -> None:
    """Print the comparisons of heads and of EnECG, and mean ranks."""
    for expert in experts:
        others = ((DEFAULT, CONSTANT), (ADAPTATIONS[1], expert), (LINEAR, expert))
        print_comparisons(inputs.tasks, expert, others, values)
    combined = [
        *((DEFAULT, name) for name in ENSEMBLES),
        (ADAPTATIONS[1], ENSEMBLE),
        (LINEAR, ALL_EMBEDDINGS),
        (BOOSTING, ALL_EMBEDDINGS),
        *([(BOOSTING, MEASUREMENTS)] if MEASUREMENTS in experts else []),
    ]
    others = (
        (DEFAULT, CONSTANT),
        (DEFAULT, RIDGE),
        *((DEFAULT, expert) for expert in experts),
        *combined,
    )
    print_comparisons(inputs.tasks, ENSEMBLE, others, values)
    if len(experts) > 1:
        others = [(DEFAULT, WITHOUT + expert) for expert in experts]
        print_comparisons(inputs.tasks, ENSEMBLE, others, values)
    # The ensemble `confidence` does not support regression.
    ranked = [(DEFAULT, ENSEMBLE), *((f, name) for f, name in combined if name != "confidence")]
    ranks = np.mean([rank(task, ranked, values) for task in inputs.tasks], axis=0)
    print("\n| method | mean rank over tasks |\n|---|--:|")
    for (family, method), position in zip(ranked, ranks, strict=True):
        print(f"| {family}: {method} | {position:.2f} |")


def print_comparisons(
    tasks: Sequence[Task], method: str, others: Sequence[tuple[str, str]], values: Values
) -> None:
    """Print the value of a method with heads of `DEFAULT`, and its gains over other methods."""
    metrics = [choose_metric(task) for task in tasks]
    titles = [f"{task.name}, {metric.name}" for task, metric in zip(tasks, metrics, strict=True)]
    print(f"\n| {method} | {' | '.join(titles)} |\n|---|{'--:|' * len(tasks)}")
    cells = []
    for task, metric in zip(tasks, metrics, strict=True):
        ours = values[task.name, DEFAULT, method]
        cells.append(f"**{average(metric, ours):.{digits(task)}f}**")
    print(f"| **{DEFAULT}** | {' | '.join(cells)} |")
    for family, other in others:
        cells = [
            describe_gain(task, metric, values[task.name, DEFAULT, method], predictions)
            if (predictions := values.get((task.name, family, other)))
            else ""
            for task, metric in zip(tasks, metrics, strict=True)
        ]
        name = other if family == DEFAULT else f"{family}: {other}"
        print(f"| gain over {name} | {' | '.join(cells)} |")


def describe_gain(
    task: Task, metric: Metric, ours: Sequence[TaskPredictions], others: Sequence[TaskPredictions]
) -> str:
    """Return the gain with its interval and the value of the other method, as a table cell."""
    gain = compare_methods(metric, ours, others, draw_patients(ours, seed=0))
    sign, places = 1 if metric.higher_is_better else -1, digits(task)
    low, high = sorted((sign * gain.low, sign * gain.high))
    interval = f"{sign * gain.mean:+.{places}f} [{low:+.{places}f}, {high:+.{places}f}]"
    return f"{interval} ({average(metric, others):.{places}f})"


def average(metric: Metric, repeats: Sequence[TaskPredictions]) -> float:
    """Return the mean of a metric over the repeats in which it is defined."""
    return float(np.nanmean([compute_metric(metric, predictions) for predictions in repeats]))


def digits(task: Task) -> int:
    return 1 if task.kind == "regression" else 3


def rank(task: Task, methods: Sequence[tuple[str, str]], values: Values) -> np.ndarray:
    """Return the rank of each method's mean value, 1 for the best."""
    metric = choose_metric(task)
    means = np.array([average(metric, values[task.name, *method]) for method in methods])
    order = (-means if metric.higher_is_better else means).argsort()
    return order.argsort() + 1


def choose_metric(task: Task) -> Metric:
    """Return AUROC for a binary task, and the main metric for other tasks."""
    main, others = task_metrics(task)
    if task.kind != "binary":
        return main
    return next(metric for metric in others if metric.name == "AUROC")


def has_labels(task: Task, cohorts: list[Cohort], inputs: Inputs) -> bool:
    """Return whether all cohorts pass `check_labels` for a task."""
    try:
        for cohort in cohorts:
            check_labels(cohort, replace(inputs, tasks=(task,)))
    except UserError:
        return False
    return True


def build_model(task: Task, model: str, embedding: str) -> Any:
    """Build an unfitted model of scikit-learn for an embedding."""
    if model == BOOSTING:
        regression = task.kind == "regression"
        kind = HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
        return kind(**BOOSTED[embedding], early_stopping=False, random_state=0)
    if task.kind == "regression":
        return make_pipeline(StandardScaler(), RidgeCV(PENALTIES))
    return make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_PENALTY, max_iter=500))


def probe(
    inputs: Inputs, features: Features, cohorts: list[Cohort], model: str = LINEAR
) -> Iterator[TaskPredictions]:
    """Fit a model for each task, embedding and repeat; yield its predictions for test records."""
    for task in inputs.tasks:
        for expert, embedding in features.experts.items():
            for repeat, cohort in enumerate(cohorts):
                labels = inputs.labels[task.column]
                fitted = np.concatenate([cohort.train, cohort.validation])
                targets = fit_targets(task, labels.loc[cohort.train])
                tested = cohort.test[targets.known(labels.loc[cohort.test])]
                fitted = fitted[targets.known(labels.loc[fitted])]
                y, truth = (targets.encode(labels.loc[ids]) for ids in (fitted, tested))
                x, x_tested = (
                    embedding[features.find_rows(ids)].float().numpy() for ids in (fitted, tested)
                )
                trained = build_model(task, model, expert)
                if task.kind == "multilabel":
                    trained = OneVsRestClassifier(trained)
                trained.fit(x, y)
                predicted, probability = trained.predict(x_tested), None
                if task.kind == "regression":
                    predicted, truth = targets.decode(predicted), targets.decode(truth)
                elif task.kind != "multiclass":
                    probability = trained.predict_proba(x_tested)
                yield TaskPredictions(
                    task=task,
                    method=expert,
                    repeat=repeat,
                    record_id=tested,
                    patient_id=as_ids(inputs.labels.loc[tested, "patient_id"]),
                    truth=truth,
                    predicted=predicted,
                    probability=probability,
                    labels=targets.classes if task.kind == "multilabel" else (),
                )


if __name__ == "__main__":
    main()
