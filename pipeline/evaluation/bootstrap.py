"""Metrics for all bootstrap draws of patients at once.

The functions compute the metric of the same name in `enecg.metrics` or `enecg.label_metrics`, with
the weights of the records in each draw.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from enecg import label_metrics, metrics
from pipeline.evaluation.resamples import DRAWS, Draws, Resamples

MetricFunction = Callable[[np.ndarray, np.ndarray], float]

RANK_DRAWS = 200
"""Number of draws for slow metrics: those that rank records or are not vectorized."""
DRAWS_PER_BLOCK = 20
"""Number of draws per block of rank metrics, so that a block fits in the CPU cache."""


def divide(numerator: np.ndarray, denominator: np.ndarray, default: float) -> np.ndarray:
    """Divide elementwise.

    Args:
        numerator: Numerators.
        denominator: Denominators, broadcastable to the shape of the numerators.
        default: Result where the denominator is not positive.

    Returns:
        The quotients as float64.
    """
    result: np.ndarray = np.divide(
        numerator,
        denominator,
        out=np.full(np.shape(numerator), default, np.float64),
        where=np.asarray(denominator) > 0,
    )
    return result


def mean_absolute_error(resamples: Resamples) -> Draws:
    """See `metrics.mean_absolute_error`."""
    return resamples.mean(np.abs(resamples.truth - resamples.predicted))


def root_mean_squared_error(resamples: Resamples) -> Draws:
    """See `metrics.root_mean_squared_error`."""
    root: np.ndarray = np.sqrt(resamples.mean((resamples.truth - resamples.predicted) ** 2))
    return root


def r2(resamples: Resamples) -> Draws:
    """See `metrics.r2`."""
    # Centering avoids cancellation when the mean is large compared with the SD.
    centered = resamples.truth - resamples.truth.mean()
    variance = resamples.mean(centered**2) - resamples.mean(centered) ** 2
    variance[variance < 1e-12 * (centered**2).max()] = 0
    error = resamples.mean((resamples.truth - resamples.predicted) ** 2)
    return 1 - divide(error, variance, metrics.NAN)


def accuracy(resamples: Resamples) -> Draws:
    """See `metrics.accuracy`."""
    return resamples.mean((resamples.truth == resamples.predicted).astype(float))


def macro_f1(resamples: Resamples) -> Draws:
    """See `metrics.macro_f1`."""
    truth, predicted = resamples.truth == 1, resamples.predicted == 1
    outcomes = (truth & predicted, ~truth & predicted, truth & ~predicted, ~truth & ~predicted)
    return macro_f1_from_counts(*resamples.sums([outcome.astype(float) for outcome in outcomes]))


def macro_f1_from_counts(
    true_positives: np.ndarray,
    false_positives: np.ndarray,
    false_negatives: np.ndarray,
    true_negatives: np.ndarray,
) -> np.ndarray:
    """Compute `metrics.macro_f1` of many confusion matrices, elementwise.

    Args:
        true_positives: Numbers of positive records that are predicted as positive.
        false_positives: Numbers of negative records that are predicted as positive.
        false_negatives: Numbers of positive records that are predicted as negative.
        true_negatives: Numbers of negative records that are predicted as negative.

    Returns:
        The macro-F1 of each element.
    """

    def f1(correct: np.ndarray) -> np.ndarray:
        return divide(2 * correct, 2 * correct + false_positives + false_negatives, 0)

    mean: np.ndarray = (f1(true_positives) + f1(true_negatives)) / 2
    return mean


def macro_f1_of_present(resamples: Resamples) -> Draws:
    """See `metrics.macro_f1_of_present`."""
    actual, predicted, correct = _count_by_class(resamples)
    f1 = divide(2 * correct, actual + predicted, 0)
    return _mean_of_present(f1, actual)


def balanced_accuracy(resamples: Resamples) -> Draws:
    """See `metrics.balanced_accuracy`."""
    actual, _, correct = _count_by_class(resamples)
    return _mean_of_present(divide(correct, actual, 0), actual)


def auroc(resamples: Resamples, positive: int = 1) -> Draws:
    """See `metrics.auroc`; `positive` is the index of the positive class."""
    concordant, positives = np.zeros((2, len(resamples.counts)))
    for block, of_class, below, tied in _ranks(resamples, positive):
        concordant[block] = np.einsum("sd,sd->d", of_class, below + tied / 2, dtype=np.float64)
        positives[block] = of_class.sum(0, dtype=np.float64)
    return divide(concordant, positives * (resamples.size() - positives), metrics.NAN)


def auprc(resamples: Resamples) -> Draws:
    """See `metrics.auprc`."""
    average = np.full(len(resamples.counts), metrics.NAN)
    size = resamples.size()
    for block, of_class, below, _ in _ranks(resamples, 1):
        positives = of_class.sum(0)
        true_positives = np.cumsum(of_class[::-1], axis=0)[::-1]
        false_positives = (size[block] - positives) - below
        precision = divide(true_positives, true_positives + false_positives, 0)
        total = np.einsum("sd,sd->d", of_class, precision, dtype=np.float64)
        average[block] = divide(total, positives * (size[block] > positives), metrics.NAN)
    return average


def macro_auroc(resamples: Resamples) -> Draws:
    """See `metrics.macro_auroc`."""
    present = np.unique(resamples.truth).astype(int)
    areas = np.stack([auroc(resamples, number) for number in present])
    return _mean_of_present(areas, ~np.isnan(areas))


def auroc_of_labels(resamples: Resamples) -> Draws:
    """See `label_metrics.auroc_of_labels`."""
    areas = np.stack([auroc(label) for label in _split_labels(resamples)])
    return _mean_of_present(areas, ~np.isnan(areas))


def auprc_of_labels(resamples: Resamples) -> Draws:
    """See `label_metrics.auprc_of_labels`."""
    areas = np.stack([auprc(label) for label in _split_labels(resamples)])
    return _mean_of_present(areas, ~np.isnan(areas))


def f1_of_labels(resamples: Resamples) -> Draws:
    """See `label_metrics.f1_of_labels`."""
    truth, predicted = resamples.truth.T, resamples.predicted.T
    correct, actual, guessed = (
        resamples.sums(list(columns)) for columns in (truth * predicted, truth, predicted)
    )
    return _mean_of_present(divide(2 * correct, actual + guessed, 0), actual)


def _split_labels(resamples: Resamples) -> Iterator[Resamples]:
    """Yield the resamples of each label as those of a task with two classes."""
    for truth, positive in zip(resamples.truth.T, _probability(resamples).T, strict=True):
        yield replace(resamples, truth=truth, probability=np.stack([1 - positive, positive], 1))


def calibration_error(resamples: Resamples) -> Draws:
    """See `metrics.calibration_error`."""
    probability, outcome = metrics.calibration_pairs(resamples.truth, _probability(resamples))
    index = metrics.bin_indices(probability)
    gaps = [(probability - outcome) * (index == number) for number in range(metrics.BINS)]
    error: np.ndarray = np.abs(resamples.sums(gaps)).sum(0) / resamples.size()
    return error


def loop_over_draws(metric: MetricFunction, resamples: Resamples) -> Draws:
    """Compute a metric that is not vectorized, separately for each draw.

    Args:
        metric: Function of true values and predictions.
        resamples: Test records and bootstrap draws.

    Returns:
        The metric in each draw.
    """
    repeated = [
        np.repeat(np.arange(len(resamples.patient)), counts[resamples.patient].astype(int))
        for counts in resamples.counts
    ]
    return np.array([metric(resamples.truth[rows], resamples.predicted[rows]) for rows in repeated])


VECTORIZED: dict[MetricFunction, Callable[[Resamples], Draws]] = {
    metrics.mean_absolute_error: mean_absolute_error,
    metrics.root_mean_squared_error: root_mean_squared_error,
    metrics.r2: r2,
    metrics.macro_f1: macro_f1,
    metrics.accuracy: accuracy,
    metrics.macro_f1_of_present: macro_f1_of_present,
    metrics.balanced_accuracy: balanced_accuracy,
    metrics.auroc: auroc,
    metrics.auprc: auprc,
    metrics.macro_auroc: macro_auroc,
    metrics.calibration_error: calibration_error,
    label_metrics.auroc_of_labels: auroc_of_labels,
    label_metrics.auprc_of_labels: auprc_of_labels,
    label_metrics.f1_of_labels: f1_of_labels,
}
"""Vectorized version of each metric that has one."""

RANKED = (
    metrics.auroc,
    metrics.auprc,
    metrics.macro_auroc,
    label_metrics.auroc_of_labels,
    label_metrics.auprc_of_labels,
)


def draw_limit(metric: MetricFunction) -> int:
    """Return the number of draws for the confidence interval of a metric."""
    return DRAWS if metric in VECTORIZED and metric not in RANKED else RANK_DRAWS


def compute_draws(metric: MetricFunction, resamples: Resamples) -> Draws:
    """Compute a metric for every draw.

    Args:
        metric: Key of `VECTORIZED`, or another function of true values and predictions.
        resamples: Test records and bootstrap draws.

    Returns:
        The metric in each draw; NaN where it is undefined.
    """
    if metric in VECTORIZED:
        return VECTORIZED[metric](resamples)
    return loop_over_draws(metric, resamples)


def _probability(resamples: Resamples) -> Float[np.ndarray, "record class"]:
    assert resamples.probability is not None
    return resamples.probability


def _count_by_class(resamples: Resamples) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count the true, predicted and correctly predicted records, each of shape (class, draw)."""
    truth, predicted = resamples.truth.astype(int), resamples.predicted.astype(int)
    classes = int(max(truth.max(), predicted.max())) + 1
    all_rows, right = np.arange(len(truth)), np.flatnonzero(truth == predicted)
    selections = ((truth, all_rows), (predicted, all_rows), (truth[right], right))
    actual, guessed, correct = (
        resamples.histogram(classes, index, rows) @ resamples.counts.T for index, rows in selections
    )
    return actual, guessed, correct


def _mean_of_present(value: np.ndarray, records: np.ndarray) -> Draws:
    """Average over the classes or labels with positive `records`; NaN if there are none."""
    present = records > 0
    return divide(np.where(present, value, 0).sum(0), present.sum(0), metrics.NAN)


def _ranks(
    resamples: Resamples, positive: int
) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
    """Count the records at and below each distinct score of a positive record.

    Args:
        resamples: Draws of the test records, with predicted probabilities.
        positive: Index of the positive class.

    Yields:
        For each block of draws: its slice, and three arrays of shape (score, draw), the numbers of
        positive records at each score, of other records below it, and of other records at it.
    """
    score = _probability(resamples)[:, positive]
    is_positive = resamples.truth == positive
    scores = np.unique(score[is_positive])
    # Bin 2j + 1 is for scores equal to the j-th distinct score, bin 2j for scores between it and
    # the previous one. Only the order relative to positive records matters.
    index = np.searchsorted(scores, score, "left") + np.searchsorted(scores, score, "right")
    positives, others = np.flatnonzero(is_positive), np.flatnonzero(~is_positive)
    positive_bins = resamples.histogram(len(scores), index[positives] // 2, positives)
    other_bins = resamples.histogram(2 * len(scores) + 1, index[others], others)
    for first in range(0, len(resamples.counts), DRAWS_PER_BLOCK):
        block = slice(first, first + DRAWS_PER_BLOCK)
        # float32 counts are exact up to 16 million records.
        counts = np.ascontiguousarray(resamples.counts[block].T.astype(np.float32))
        other = other_bins @ counts
        tied = other[1::2].copy()
        yield block, positive_bins @ counts, np.cumsum(other, axis=0)[:-1:2], tied
