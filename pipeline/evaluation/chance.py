"""Chance level: classes drawn at random by their shares among the training records."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from enecg.metrics import NAN, Metric, calibration_error
from pipeline.evaluation.bootstrap import compute_draws, draw_limit
from pipeline.evaluation.predictions import CHANCE, TaskPredictions
from pipeline.evaluation.resamples import Draws, Resamples

SEED = 6_027_112
"""Seed of the random predictions. It is unusual so that it differs from the seeds of simulated
labels: random predictions with the same seed could equal these labels."""
DRAWS_PER_SAMPLE = 5
"""Bootstrap draws of patients for which the same random predictions are used."""


def has_chance(metric: Metric) -> bool:
    """Return whether a metric has a chance level.

    A calibration error has no chance level: the training shares are calibrated, but random scores
    are not.
    """
    return metric.compute is not calibration_error


def sample_chance(constant: TaskPredictions, samples: int) -> Iterator[TaskPredictions]:
    """Draw random predictions.

    Classes are drawn by their shares among the training records, independently for each record,
    and labels of a multilabel task independently of each other. Class probabilities are uniform
    random numbers; only their order has a meaning. Samples come in antithetic pairs: the second one
    has the opposite order, so the mean AUROC of a pair is 0.5.

    Args:
        constant: Predictions of the constant predictor; its probabilities are the shares.
        samples: Number of samples, even.

    Yields:
        Predictions for the same records.
    """
    assert constant.probability is not None
    if constant.labels:
        yield from _sample_labels(constant, samples)
        return
    records, classes = constant.probability.shape
    edges = np.cumsum(constant.probability[0])[:-1]
    rng = np.random.default_rng((SEED, constant.repeat))
    for _ in range(samples // 2):
        uniform = rng.random(records)
        if classes == 2:
            score = np.stack([1 - uniform, uniform], 1)
        else:
            score = rng.random((records, classes))
        for number, of_class in ((uniform, score), (1 - uniform, 1 - score)):
            predicted = np.asarray(np.searchsorted(edges, number, "right"), np.float64)
            yield replace(constant, method=CHANCE, predicted=predicted, probability=of_class)


def _sample_labels(constant: TaskPredictions, samples: int) -> Iterator[TaskPredictions]:
    """Draw random predictions of a multilabel task, independently for each label."""
    assert constant.probability is not None
    shares = constant.probability[0]
    rng = np.random.default_rng((SEED, constant.repeat))
    for _ in range(samples // 2):
        uniform = rng.random(constant.probability.shape)
        for score in (uniform, 1 - uniform):
            predicted = (score > 1 - shares).astype(np.float64)
            yield replace(constant, method=CHANCE, predicted=predicted, probability=score)


def measure_chance(
    constant: TaskPredictions, metric: Metric, counts: Float[np.ndarray, "draw patient"]
) -> tuple[float, Draws]:
    """Compute the chance level of a metric on the test records of one repeat.

    Args:
        constant: Predictions of the constant predictor.
        metric: The metric.
        counts: Number of times that each bootstrap draw contains each patient, in order of patient
            id.

    Returns:
        The metric of all test records, averaged over random predictions; and the metric of the
        draws, as from `bootstrap_metric`. Each block of draws has its own random predictions. The
        results do not depend on the order of the records.
    """
    constant = _sort_by_record(constant)
    _, patient = np.unique(constant.patient_id, return_inverse=True)
    counts = counts[: draw_limit(metric.compute)]
    all_records = np.ones((1, counts.shape[1]))
    blocks = np.array_split(counts, 2 * max(1, len(counts) // DRAWS_PER_SAMPLE // 2))
    values, draws = [], []
    for block, sample in zip(blocks, sample_chance(constant, len(blocks)), strict=True):
        has_patients = block.any(1)
        rows = np.concatenate([all_records, block[has_patients]])
        measured = compute_draws(
            metric.compute,
            Resamples(sample.truth, sample.predicted, sample.probability, patient, rows),
        )
        values.append(measured[0])
        of_block = np.full(len(block), NAN)
        of_block[has_patients] = measured[1:]
        draws.append(of_block)
    return float(np.mean(values)), np.concatenate(draws)


def _sort_by_record(constant: TaskPredictions) -> TaskPredictions:
    order = np.argsort(constant.record_id)
    return replace(
        constant,
        record_id=constant.record_id[order],
        patient_id=constant.patient_id[order],
        truth=constant.truth[order],
    )
