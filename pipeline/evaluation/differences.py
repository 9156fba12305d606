"""Paired differences between methods, with bootstrap intervals by patient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from enecg.metrics import Metric
from pipeline.evaluation.predictions import ENSEMBLE, TaskPredictions
from pipeline.evaluation.scores import (
    SECOND_METRICS,
    Measure,
    RepeatCounts,
    bootstrap_metric,
    compute_metric,
    draw_patients,
    summarize,
    task_metrics,
)

Choices = Mapping[str, Mapping[str, Sequence[str]]]
"""Name of the method to compare with in each repeat, by comparison and task."""


@dataclass(frozen=True)
class Difference(Measure):
    """Difference of a metric: its value for a method minus its value for another method.

    Attributes:
        task: Name of the task.
        reference: Name of the comparison, such as ``"best expert"``.
        chosen: Name of the other method in each repeat.
        method: Name of the method. Default: EnECG.
    """

    task: str
    reference: str
    chosen: tuple[str, ...]
    method: str = ENSEMBLE


def compute_differences(
    predictions: Sequence[TaskPredictions],
    choices: Choices,
    seed: int = 0,
    *,
    method: str = ENSEMBLE,
) -> tuple[Difference, ...]:
    """Compute the differences in the main metric of each task and in its `SECOND_METRICS`.

    Both methods are evaluated on the same bootstrap draws of patients, so the intervals are those
    of paired differences.

    Args:
        predictions: Predictions of all methods, tasks and repeats.
        choices: Methods to compare with.
        seed: Seed of the bootstrap.
        method: The method that is compared with them.

    Returns:
        The differences, ordered by comparison and task.
    """
    by_key = {
        (prediction.method, prediction.task.name, prediction.repeat): prediction
        for prediction in predictions
    }
    differences = []
    for reference, by_task in choices.items():
        for task, chosen in by_task.items():
            repeats = range(len(chosen))
            ours = [by_key[method, task, repeat] for repeat in repeats]
            others = [by_key[chosen[repeat], task, repeat] for repeat in repeats]
            counts = draw_patients(ours, seed)
            main, secondary = task_metrics(ours[0].task)
            second = SECOND_METRICS.get(ours[0].task.kind)
            for metric in (main, *secondary):
                if metric.name not in (main.name, second):
                    continue
                measure = compare_methods(metric, ours, others, counts)
                differences.append(
                    Difference(
                        **vars(measure),
                        task=task,
                        reference=reference,
                        chosen=tuple(chosen),
                        method=method,
                    )
                )
    return tuple(differences)


def compare_methods(
    metric: Metric,
    ours: Sequence[TaskPredictions],
    others: Sequence[TaskPredictions],
    counts: RepeatCounts,
) -> Measure:
    """Compute the difference of a metric between two methods.

    Args:
        metric: The metric.
        ours: Predictions of a method in each repeat.
        others: Predictions of the other method for the same records.
        counts: Bootstrap draws of patients; see `draw_patients`.

    Returns:
        The metric of `ours` minus that of `others`, with the interval of the paired difference.
    """
    values, draws = [], []
    for our, other in zip(ours, others, strict=True):
        values.append(compute_metric(metric, our) - compute_metric(metric, other))
        patients = counts[our.repeat]
        draws.append(
            bootstrap_metric(our, metric, patients) - bootstrap_metric(other, metric, patients)
        )
    # The biases of the two methods cancel.
    return summarize(replace(metric, biased=False), values, np.stack(draws))
