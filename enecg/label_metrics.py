"""Metrics of multilabel tasks: means over the labels for which the metric is defined.

In all functions, `truth` is 1 where a record has a label, else 0.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from enecg.rank_metrics import average_precision, roc_area


def varying_labels(truth: Float[np.ndarray, "record label"]) -> Int[np.ndarray, " varying"]:
    """Return the columns of the labels that have a positive and a negative record."""
    positives = truth.sum(0)
    varying: np.ndarray = np.flatnonzero((positives > 0) & (positives < len(truth)))
    return varying


def auroc_of_labels(
    truth: Float[np.ndarray, "record label"], probability: Float[np.ndarray, "record label"]
) -> float:
    """Average the AUROC over the labels of a multilabel task.

    Args:
        truth: 1 where a record has the label, else 0.
        probability: Probability of each label.

    Returns:
        The mean over the labels with a positive and a negative record; NaN if there are none.
    """
    labels = varying_labels(truth)
    return _mean_over_labels(roc_area, truth == 1, probability, labels)


def auprc_of_labels(
    truth: Float[np.ndarray, "record label"], probability: Float[np.ndarray, "record label"]
) -> float:
    """Average the average precision over the labels of a multilabel task.

    Args:
        truth: 1 where a record has the label, else 0.
        probability: Probability of each label.

    Returns:
        The mean over the labels with a positive and a negative record; NaN if there are none.
    """
    labels = varying_labels(truth)
    return _mean_over_labels(average_precision, truth == 1, probability, labels)


def f1_of_labels(
    truth: Float[np.ndarray, "record label"], predicted: Float[np.ndarray, "record label"]
) -> float:
    """Average the F1 of the positive class over the labels of a multilabel task.

    Args:
        truth: 1 where a record has the label, else 0.
        predicted: 1 where the label is predicted, else 0.

    Returns:
        The mean over the labels with a positive record; NaN if there are none.
    """
    correct, total = (truth * predicted).sum(0), truth.sum(0) + predicted.sum(0)
    present = truth.sum(0) > 0
    if not present.any():
        return math.nan
    return float((2 * correct[present] / total[present]).mean())


def _mean_over_labels(
    metric: Callable[[np.ndarray, np.ndarray], float],
    truth: Float[np.ndarray, "record label"],
    score: Float[np.ndarray, "record label"],
    labels: Int[np.ndarray, " selected"],
) -> float:
    if not len(labels):
        return math.nan
    return float(np.mean([metric(truth[:, label], score[:, label]) for label in labels]))
