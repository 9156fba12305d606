"""Scores of methods over repeats, with bootstrap confidence intervals by patient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

from enecg import metrics
from enecg.metrics import NAN
from enecg.tasks import Task
from pipeline.evaluation.bootstrap import compute_draws, divide, draw_limit
from pipeline.evaluation.chance import has_chance, measure_chance
from pipeline.evaluation.predictions import CHANCE, CONSTANT, TaskPredictions
from pipeline.evaluation.resamples import DRAWS, Resamples, draw_counts

SUMMARY_METRICS = {"binary": "AUROC", "multilabel": "macro-F1"}
"""Secondary metric of the summary tables, by kind of task; none for other kinds."""

INTERVAL = (2.5, 97.5)
"""Percentiles of the bootstrap distribution: a 95% interval."""


@dataclass(frozen=True)
class Measure:
    """The value of a metric over all repeats.

    Attributes:
        metric: Name of the metric.
        mean: Mean over the repeats in which the metric is defined; NaN if there are none.
        deviation: Sample standard deviation over these repeats; None for fewer than two.
        low: Lower end of the bootstrap 95% interval of the mean.
        high: Upper end of the interval.
        values: Value in each repeat; NaN if undefined.
        draws: Number of bootstrap draws in which the metric is defined.
    """

    metric: str
    mean: float
    deviation: float | None
    low: float
    high: float
    values: tuple[float, ...]
    draws: int


@dataclass(frozen=True)
class Score(Measure):
    """The main metric and the other metrics of a method on a task.

    Attributes:
        task: Name of the task.
        method: Name of the method; see `TaskPredictions`.
        n: Number of test records in each repeat.
        patients: Number of test patients in each repeat.
        others: The other metrics.
        reliability: Calibration bins over all repeats; empty for regression and multilabel tasks,
            for chance, and for methods without probabilities.
    """

    task: str
    method: str
    n: tuple[int, ...]
    patients: tuple[int, ...]
    others: tuple[Measure, ...] = ()
    reliability: tuple[metrics.Bin, ...] = ()


RepeatCounts = Mapping[int, Float[np.ndarray, "draw patient"]]
"""Number of times that each bootstrap draw contains each test patient, by repeat."""


def compute_scores(predictions: Sequence[TaskPredictions], seed: int = 0) -> tuple[Score, ...]:
    """Compute the scores of all methods and tasks.

    All methods and metrics of a task use the same bootstrap draws. For each classification or
    multilabel task with predictions of the constant predictor, the chance level is added as method
    `CHANCE`.

    Args:
        predictions: Predictions of all methods, tasks and repeats.
        seed: Seed of the bootstrap.

    Returns:
        Scores of the constant predictor, then of chance, then of the other methods in the order of
        their first occurrence.
    """
    groups: dict[tuple[str, str], list[TaskPredictions]] = {}
    for prediction in predictions:
        groups.setdefault((prediction.method, prediction.task.name), []).append(prediction)
    scores: dict[tuple[str, str], Score] = {}
    for task in dict.fromkeys(task for _, task in groups):
        keys = [key for key in groups if key[1] == task]
        most_repeats = max((groups[key] for key in keys), key=len)
        counts = draw_patients(most_repeats, seed)
        scores |= {key: compute_score(groups[key], counts) for key in keys}
        constant = groups.get((CONSTANT, task), [])
        if constant and all(prediction.probability is not None for prediction in constant):
            scores[CHANCE, task] = _chance_score(constant, counts)
    order = {key: None for key in groups if key[0] == CONSTANT}
    order |= {key: None for key in scores if key[0] == CHANCE}
    return tuple(scores[key] for key in order | dict.fromkeys(groups))


def compute_score(repeats: Sequence[TaskPredictions], counts: RepeatCounts | None = None) -> Score:
    """Compute the score of one method on one task.

    Args:
        repeats: Predictions of the method in each repeat.
        counts: Bootstrap draws. Default: drawn with seed 0.

    Returns:
        The score.
    """
    task = repeats[0].task
    counts = draw_patients(repeats, 0) if counts is None else counts
    probabilities = [
        prediction.probability for prediction in repeats if prediction.probability is not None
    ]
    has_probabilities = len(probabilities) == len(repeats)
    main, others = task_metrics(task)
    return _build_score(
        repeats[0].method,
        repeats,
        measure(main, repeats, counts),
        [
            measure(metric, repeats, counts)
            for metric in others
            if has_probabilities or not metric.uses_probability
        ],
        _compute_reliability(repeats, probabilities)
        if has_probabilities and task.kind != "multilabel"
        else (),
    )


def _chance_score(constant: Sequence[TaskPredictions], counts: RepeatCounts) -> Score:
    """Score chance on one task from the predictions of the constant predictor."""

    def measure_chance_level(metric: metrics.Metric) -> Measure:
        measured = [
            measure_chance(prediction, metric, counts[prediction.repeat]) for prediction in constant
        ]
        return summarize(
            metric, [value for value, _ in measured], np.stack([draws for _, draws in measured])
        )

    main, others = task_metrics(constant[0].task)
    by_metric = [measure_chance_level(metric) for metric in others if has_chance(metric)]
    return _build_score(CHANCE, constant, measure_chance_level(main), by_metric)


def _build_score(
    method: str,
    repeats: Sequence[TaskPredictions],
    main: Measure,
    others: Sequence[Measure],
    reliability: tuple[metrics.Bin, ...] = (),
) -> Score:
    return Score(
        **vars(main),
        task=repeats[0].task.name,
        method=method,
        n=tuple(len(prediction.truth) for prediction in repeats),
        patients=tuple(len(np.unique(prediction.patient_id)) for prediction in repeats),
        others=tuple(others),
        reliability=reliability,
    )


def task_metrics(task: Task) -> tuple[metrics.Metric, list[metrics.Metric]]:
    """Return the main metric of a task and its secondary metrics."""
    labels = task.kind == "multilabel"
    main = metrics.Metric(
        task.metric_name,
        task.metric,
        task.higher_is_better,
        uses_probability=labels,
        # A bootstrap sample may contain no record of a rare label.
        biased=labels,
    )
    others = metrics.SECONDARY_METRICS[task.kind]
    return main, [metric for metric in others if metric.name != main.name]


def bootstrap_metric(
    predictions: TaskPredictions,
    metric: metrics.Metric,
    counts: Float[np.ndarray, "draw patient"],
) -> Float[np.ndarray, " draw"]:
    """Compute a metric for bootstrap draws of one repeat's test patients.

    Args:
        predictions: Predictions on the test records.
        metric: The metric.
        counts: Number of times that each draw contains each patient, in order of patient id.

    Returns:
        The metric for the first `draw_limit` draws; NaN if it is undefined or a draw contains no
        patient of this repeat.
    """
    _, patient = np.unique(predictions.patient_id, return_inverse=True)
    counts = counts[: draw_limit(metric.compute)]
    has_patients = counts.any(1)
    resamples = Resamples(
        predictions.truth,
        predictions.predicted,
        predictions.probability,
        patient,
        counts[has_patients],
    )
    values = np.full(len(counts), NAN)
    values[has_patients] = compute_draws(metric.compute, resamples)
    return values


def draw_patients(repeats: Sequence[TaskPredictions], seed: int) -> RepeatCounts:
    """Draw the patients of all repeats with replacement.

    Args:
        repeats: Predictions of a method in each repeat.
        seed: Seed of the draws.

    Returns:
        The draws of each repeat.
    """
    # A patient who is in several repeats has the same count in all of them.
    patients = np.unique(np.concatenate([prediction.patient_id for prediction in repeats]))
    counts = _draw_counts(len(patients), seed)
    return {
        prediction.repeat: counts[:, np.isin(patients, prediction.patient_id)].astype(np.float64)
        for prediction in repeats
    }


@lru_cache(maxsize=2)
def _draw_counts(patients: int, seed: int) -> Int[np.ndarray, "draw patient"]:
    """Draw patients; cached because many tasks have the same number of patients."""
    return draw_counts(patients, DRAWS, np.random.default_rng(seed)).astype(np.uint16)


def measure(
    metric: metrics.Metric, repeats: Sequence[TaskPredictions], counts: RepeatCounts
) -> Measure:
    """Compute a metric of one method on one task, with its interval.

    Args:
        metric: The metric.
        repeats: Predictions of the method in each repeat.
        counts: Bootstrap draws.

    Returns:
        Mean, deviation and interval over the repeats.
    """
    values = [compute_metric(metric, prediction) for prediction in repeats]
    draws = [
        bootstrap_metric(prediction, metric, counts[prediction.repeat]) for prediction in repeats
    ]
    return summarize(metric, values, np.stack(draws))


def compute_metric(metric: metrics.Metric, predictions: TaskPredictions) -> float:
    """Compute a metric on all test records of a repeat.

    Args:
        metric: The metric.
        predictions: Predictions on the test records.

    Returns:
        The value of the metric.
    """
    predicted = predictions.probability if metric.uses_probability else predictions.predicted
    assert predicted is not None
    return metric.compute(predictions.truth, predicted)


def summarize(
    metric: metrics.Metric,
    values: Sequence[float],
    draws_by_repeat: Float[np.ndarray, "repeat draw"],
) -> Measure:
    """Summarize the values and the bootstrap draws of a metric.

    Args:
        metric: The metric.
        values: Value in each repeat.
        draws_by_repeat: Value in each bootstrap draw of each repeat.

    Returns:
        Mean, deviation and interval over the repeats.
    """
    draws = _mean_of_defined(draws_by_repeat)
    draws = draws[~np.isnan(draws)]
    defined = [value for value in values if not np.isnan(value)]
    if metric.biased and defined:
        # Subtract the bootstrap estimate of bias (Efron and Tibshirani 1993, chapter 10).
        draws = np.clip(draws - draws.mean() + np.mean(defined), 0, 1)
    has_interval = bool(defined) and len(draws) > 0
    low, high = np.percentile(draws, INTERVAL).tolist() if has_interval else (NAN, NAN)
    return Measure(
        metric=metric.name,
        mean=float(np.mean(defined)) if defined else NAN,
        deviation=float(np.std(defined, ddof=1)) if len(defined) > 1 else None,
        low=low,
        high=high,
        # NaN != NaN, but tuples that contain the same NAN object compare equal.
        values=tuple(NAN if np.isnan(value) else value for value in values),
        draws=len(draws),
    )


def _mean_of_defined(
    values: Float[np.ndarray, "repeat draw"],
) -> Float[np.ndarray, " draw"]:
    """Average over the repeats in which the metric is defined; NaN if there are none."""
    return divide(np.nansum(values, 0), (~np.isnan(values)).sum(0), NAN)


def _compute_reliability(
    repeats: Sequence[TaskPredictions], probabilities: Sequence[np.ndarray]
) -> tuple[metrics.Bin, ...]:
    # The repeats of a multiclass task can have different classes, so concatenate pairs of
    # (probability, outcome) instead of the arrays of all classes.
    pairs = [
        metrics.calibration_pairs(prediction.truth, probability)
        for prediction, probability in zip(repeats, probabilities, strict=True)
    ]
    probability, outcome = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    return metrics.reliability_bins(outcome, np.stack([1 - probability, probability], 1))
