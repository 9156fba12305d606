"""Paired differences between methods, with bootstrap intervals by patient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from enecg.metrics import Metric
from pipeline.evaluation.predictions import ENSEMBLE, TaskPredictions
from pipeline.evaluation.scores import (
    SUMMARY_METRICS,
    Measure,
    RepeatCounts,
    bootstrap_metric,
    compute_metric,
    draw_patients,
    summarize,
    task_metrics,
)

Choices = Mapping[str, Mapping[str, Sequence[str]]]
"""Reference methods: one name per repeat, by name of the comparison and name of the task."""


@dataclass(frozen=True)
class Difference(Measure):
    """Value of a metric for a method minus its value for a reference method.

    Attributes:
        task: Name of the task.
        reference: Name of the comparison, such as ``"best expert"``.
        chosen: Name of the reference method in each repeat.
        method: Name of the method that is compared with the reference methods. Default: EnECG.
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
    """Compute the differences between a method and its reference methods.

    Differences are computed for the main metric of each task and, if its kind has one, for the
    metric in `SUMMARY_METRICS`. Both methods are evaluated on the same bootstrap draws of patients,
    so the intervals are those of paired differences.

    Args:
        predictions: Predictions of all methods, tasks and repeats.
        choices: Reference methods.
        seed: Seed of the bootstrap.
        method: Name of the method that is compared with the reference methods.

    Returns:
        The differences, in the order of `choices`; for each task, that of the main metric first.
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
            second = SUMMARY_METRICS.get(ours[0].task.kind)
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
        ours: Predictions of the first method, one element per repeat.
        others: Predictions of the second method for the same records, one element per repeat.
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
    # No bias correction: the bootstrap biases of the two methods cancel in the difference.
    return summarize(replace(metric, biased=False), values, np.stack(draws))
