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
"""Method to compare with in each repeat, by name of the comparison and task."""


@dataclass(frozen=True)
class Difference(Measure):
    """The difference between two methods in a metric: `method` minus the other one.

    Attributes:
        task: Name of the task.
        reference: Name of the comparison, such as ``"best expert"``.
        chosen: The other method in each repeat.
        method: The method that is compared. Default: EnECG.
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
    """Compute the differences in the main metric of each task and in that of `SECOND_METRICS`.

    Both methods are evaluated on the same bootstrap draws of patients, so that the interval is that
    of the paired difference.

    Args:
        predictions: Predictions of all methods, tasks and repeats.
        choices: Methods to compare with.
        seed: Seed of the bootstrap.
        method: The method that is compared with them.

    Returns:
        The differences, by comparison and task.
    """
    found = {(one.method, one.task.name, one.repeat): one for one in predictions}
    differences = []
    for reference, by_task in choices.items():
        for task, chosen in by_task.items():
            repeats = range(len(chosen))
            ours = [found[method, task, repeat] for repeat in repeats]
            others = [found[chosen[repeat], task, repeat] for repeat in repeats]
            counts = draw_patients(ours, seed)
            main, secondary = task_metrics(ours[0].task)
            second = SECOND_METRICS.get(ours[0].task.kind)
            for metric in (main, *(one for one in secondary if one.name == second)):
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
    for one, other in zip(ours, others, strict=True):
        values.append(compute_metric(metric, one) - compute_metric(metric, other))
        drawn = [bootstrap_metric(each, metric, counts[one.repeat]) for each in (one, other)]
        draws.append(drawn[0] - drawn[1])
    # The biases of the two methods cancel.
    return summarize(replace(metric, biased=False), values, np.stack(draws))
