"""ROC and precision-recall curves with bootstrap intervals by patient."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from pipeline.evaluation.bootstrap import DRAWS_PER_BLOCK, RANK_DRAWS
from pipeline.evaluation.predictions import TaskPredictions
from pipeline.evaluation.scores import INTERVAL, RepeatCounts, draw_patients

GRID = np.linspace(0, 1, 101)
"""False positive rates or recalls at which curves are computed."""

_Interpolate = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Curve:
    """The mean curve of a method over repeats.

    Attributes:
        x: False positive rate or recall.
        y: True positive rate or precision, mean over the repeats in which it is defined.
        low: Lower end of the bootstrap 95% interval of the mean, at each `x`.
        high: Upper end of the interval.
    """

    x: Float[np.ndarray, " point"]
    y: Float[np.ndarray, " point"]
    low: Float[np.ndarray, " point"]
    high: Float[np.ndarray, " point"]


def roc_curve(repeats: Sequence[TaskPredictions], *, interval: bool = True) -> Curve | None:
    """Compute the mean ROC curve of class 1.

    Args:
        repeats: Predictions of one method for a binary task in each repeat.
        interval: Whether to compute the interval; otherwise it is NaN.

    Returns:
        True positive rate by false positive rate; None if no repeat has records of both classes.
    """
    return _mean_curve(repeats, _interpolate_roc, interval)


def precision_recall_curve(
    repeats: Sequence[TaskPredictions], *, interval: bool = True
) -> Curve | None:
    """Compute the mean precision-recall curve of class 1; see `roc_curve`."""
    return _mean_curve(repeats, _interpolate_precision, interval)


def _mean_curve(
    repeats: Sequence[TaskPredictions], interpolate: _Interpolate, interval: bool
) -> Curve | None:
    repeats = [prediction for prediction in repeats if len(np.unique(prediction.truth)) == 2]
    if not repeats:
        return None
    # A single draw that contains each patient once is the sample itself.
    means = [
        _curves(prediction, interpolate, np.ones((1, len(np.unique(prediction.patient_id)))))
        for prediction in repeats
    ]
    y = np.concatenate(means).mean(0)
    low = high = np.full(len(GRID), np.nan)
    if interval:
        counts: RepeatCounts = draw_patients(repeats, 0)
        draws = [
            _curves(prediction, interpolate, counts[prediction.repeat][:RANK_DRAWS])
            for prediction in repeats
        ]
        # The curve is undefined in draws that lack records of one of the classes.
        stacked = np.stack(draws)
        defined = ~np.isnan(stacked).any(2)
        kept = defined.any(0)
        weight = defined[:, kept, None]
        mean = np.where(weight, stacked[:, kept], 0).sum(0) / weight.sum(0)
        low, high = np.percentile(mean, INTERVAL, axis=0)
    return Curve(GRID, y, low, high)


def _curves(
    predictions: TaskPredictions,
    interpolate: _Interpolate,
    counts: Float[np.ndarray, "draw patient"],
) -> Float[np.ndarray, "draw point"]:
    """Compute the curve for each bootstrap draw; NaN where a class has no records."""
    assert predictions.probability is not None
    score = predictions.probability[:, 1]
    _, patient = np.unique(predictions.patient_id, return_inverse=True)
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    positive: Bool[np.ndarray, " record"] = predictions.truth[order] == 1
    curves = np.full((len(counts), len(GRID)), np.nan)
    for first in range(0, len(counts), DRAWS_PER_BLOCK):
        weights = counts[first : first + DRAWS_PER_BLOCK][:, patient[order]]
        true = np.cumsum(weights * positive, axis=1)[:, last]
        false = np.cumsum(weights * ~positive, axis=1)[:, last]
        for row in range(len(weights)):
            if true[row, -1] and false[row, -1]:
                curves[first + row] = interpolate(true[row], false[row])
    return curves


def _interpolate_roc(true: np.ndarray, false: np.ndarray) -> np.ndarray:
    """Interpolate the true positive rate; at equal false positive rates, use the highest."""
    x = np.append(0, false / false[-1])
    y = np.append(0, true / true[-1])
    last = np.append(np.diff(x) > 0, True)
    values: np.ndarray = np.interp(GRID, x[last], y[last])
    return values


def _interpolate_precision(true: np.ndarray, false: np.ndarray) -> np.ndarray:
    """Return the precision at the first recall in the data that reaches each recall of `GRID`."""
    precision = true / np.maximum(true + false, 1)
    index = np.searchsorted(true / true[-1], GRID, "left")
    # At recall 0, use the precision at the highest score of a positive record.
    index[0] = np.flatnonzero(true)[0]
    values: np.ndarray = precision[np.minimum(index, len(precision) - 1)]
    return values
