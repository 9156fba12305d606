"""Metrics of the order of scores, with the definitions of scikit-learn but without its validation.

A run computes them hundreds of times. For 40 records, `sklearn.metrics.roc_auc_score` takes 20
times as long as `roc_area`.
"""

import numpy as np
from jaxtyping import Bool, Float, Int


def roc_area(positive: Bool[np.ndarray, " record"], score: Float[np.ndarray, " record"]) -> float:
    """Compute the area under the ROC curve.

    Args:
        positive: Mask of the positive records. At least one record must be positive, and at least
            one negative.
        score: Score of each record; higher for records that are more likely positive.

    Returns:
        The area, bitwise equal to `sklearn.metrics.roc_auc_score`.
    """
    last, true_positives = _count_positives(positive, score)
    false_positives = 1 + last - true_positives
    # Points on a line between their neighbors do not change the area.
    bends = np.diff(false_positives, 2).astype(bool) | np.diff(true_positives, 2).astype(bool)
    kept = np.concatenate([[True], bends, [True]]) if len(last) > 2 else slice(None)
    x = np.append(0, false_positives[kept]) / false_positives[-1]
    y = np.append(0, true_positives[kept]) / true_positives[-1]
    return float(np.trapezoid(y, x))


def average_precision(
    positive: Bool[np.ndarray, " record"], score: Float[np.ndarray, " record"]
) -> float:
    """Compute the average precision: precisions weighted by the increases in recall.

    Args:
        positive: Mask of the positive records. At least one record must be positive.
        score: Score of each record; higher for records that are more likely positive.

    Returns:
        The value of `sklearn.metrics.average_precision_score`, except for rounding.
    """
    last, true_positives = _count_positives(positive, score)
    precision = true_positives / (1 + last)
    recall = true_positives / true_positives[-1]
    return float((np.diff(recall, prepend=0) * precision).sum())


def _count_positives(
    positive: Bool[np.ndarray, " record"], score: Float[np.ndarray, " record"]
) -> tuple[Int[np.ndarray, " threshold"], Float[np.ndarray, " threshold"]]:
    """Count the records at or above each distinct score, from the highest score.

    Returns:
        The number of records minus 1, and the number of positive records.
    """
    order = np.argsort(score, kind="stable")[::-1]
    last = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    return last, np.cumsum(positive[order], dtype=np.float64)[last]
