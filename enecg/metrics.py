"""How answers are judged: the paper's metrics and others, as plain functions by scikit-learn.

Where a metric is not defined, because a class has no test record or all truths are equal, it is
NaN; nothing is warned of or raised.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    recall_score,
    roc_auc_score,
)
from sklearn.metrics import mean_absolute_error as _mean_absolute_error
from sklearn.metrics import root_mean_squared_error as _root_mean_squared_error

BINS = 10
"""Equal bins of probability from 0 to 1 that calibration is told in; a bin has its lower edge."""

NAN = float("nan")
"""What is not defined: this one object, so that scores which hold it equal their copies."""


def mean_absolute_error(
    truth: Float[np.ndarray, " record"], predicted: Float[np.ndarray, " record"]
) -> float:
    """The mean absolute error, in the unit of the values."""
    return float(_mean_absolute_error(truth, predicted))


def root_mean_squared_error(
    truth: Float[np.ndarray, " record"], predicted: Float[np.ndarray, " record"]
) -> float:
    """The root of the mean squared error, in the unit of the values."""
    return float(_root_mean_squared_error(truth, predicted))


def r2(truth: Float[np.ndarray, " record"], predicted: Float[np.ndarray, " record"]) -> float:
    """The share of the truth's variance that is explained; below 0 where the test records' own
    mean would do better. NaN where all truths are equal.
    """
    spread = float(((truth - truth.mean()) ** 2).sum())
    return 1 - float(((truth - predicted) ** 2).sum()) / spread if spread > 0 else NAN


def macro_f1(truth: Int[np.ndarray, " record"], predicted: Int[np.ndarray, " record"]) -> float:
    """The mean of both classes' F1 (0 for a class that is never right)."""
    return float(f1_score(truth, predicted, labels=[0, 1], average="macro", zero_division=0))


def accuracy(truth: Int[np.ndarray, " record"], predicted: Int[np.ndarray, " record"]) -> float:
    """The share of records whose class is right."""
    return float(accuracy_score(truth, predicted))


def macro_f1_of_present(
    truth: Int[np.ndarray, " record"], predicted: Int[np.ndarray, " record"]
) -> float:
    """The mean F1 of the classes that have a test record."""
    present = np.unique(truth)
    return float(f1_score(truth, predicted, labels=present, average="macro", zero_division=0))


def balanced_accuracy(
    truth: Int[np.ndarray, " record"], predicted: Int[np.ndarray, " record"]
) -> float:
    """The mean recall of the classes that have a test record."""
    present = np.unique(truth)
    return float(recall_score(truth, predicted, labels=present, average="macro", zero_division=0))


def auroc(
    truth: Int[np.ndarray, " record"], probability: Float[np.ndarray, "record class"]
) -> float:
    """The area under the ROC curve of class 1. NaN where only one class has a test record."""
    if len(np.unique(truth)) < 2:
        return NAN
    return float(roc_auc_score(truth, probability[:, 1]))


def auprc(
    truth: Int[np.ndarray, " record"], probability: Float[np.ndarray, "record class"]
) -> float:
    """The average precision of class 1: chance is its share. NaN where only one class has a
    test record.
    """
    if len(np.unique(truth)) < 2:
        return NAN
    return float(average_precision_score(truth, probability[:, 1]))


def macro_auroc(
    truth: Int[np.ndarray, " record"], probability: Float[np.ndarray, "record class"]
) -> float:
    """The mean over the classes that have a test record of the area under the ROC curve of this
    class against all others. NaN where only one class has one.
    """
    present = np.unique(truth).astype(int)
    if len(present) < 2:
        return NAN
    return float(np.mean([roc_auc_score(truth == one, probability[:, one]) for one in present]))


def calibration_pairs(
    truth: Int[np.ndarray, " record"], probability: Float[np.ndarray, "record class"]
) -> tuple[Float[np.ndarray, " record"], Float[np.ndarray, " record"]]:
    """What calibration compares: a probability, and whether it came true (0 or 1).

    Of two classes the probability of class 1; of more, that of the class held most probable.
    """
    if probability.shape[1] == 2:
        return probability[:, 1], (truth == 1).astype(np.float64)
    said = probability.argmax(1)
    return probability[np.arange(len(said)), said], (truth == said).astype(np.float64)


def bin_indices(probability: Float[np.ndarray, " record"]) -> Int[np.ndarray, " record"]:
    """Which of the `BINS` each probability falls into; 1 falls into the last."""
    place: np.ndarray = np.clip((probability * BINS).astype(int), 0, BINS - 1)
    return place


def calibration_error(
    truth: Int[np.ndarray, " record"], probability: Float[np.ndarray, "record class"]
) -> float:
    """The expected calibration error: over `BINS` equal bins, the mean distance of the mean
    probability from the share that came true, weighted by records.
    """
    probable, came_true = calibration_pairs(truth, probability)
    gap = np.bincount(bin_indices(probable), weights=probable - came_true, minlength=BINS)
    return float(np.abs(gap).sum() / len(truth))


@dataclass(frozen=True)
class Bin:
    """Records whose probability lies between `low` and `high`: how many (`n`), their mean
    probability, and the share that came true.
    """

    low: float
    high: float
    n: int
    probability: float
    share: float


def reliability_bins(
    truth: Int[np.ndarray, " record"], probability: Float[np.ndarray, "record class"]
) -> tuple[Bin, ...]:
    """The bins of `calibration_error` that have records."""
    probable, came_true = calibration_pairs(truth, probability)
    place = bin_indices(probable)
    told = []
    for one in np.unique(place).tolist():
        inside = place == one
        mean, share = float(probable[inside].mean()), float(came_true[inside].mean())
        told.append(Bin(one / BINS, (one + 1) / BINS, int(inside.sum()), mean, share))
    return tuple(told)


@dataclass(frozen=True)
class Metric:
    """A metric by its name. `of` takes the truth and the answers, or the class probabilities
    where `by_probability`; `has_unit`: it is in the task's unit.

    `biased`: a bootstrap's draws lie to one side of it, for they repeat records, which look less
    calibrated, and lack rare classes, which are the harder ones. Such a metric is from 0 to 1.
    """

    name: str
    compute: Callable[[np.ndarray, np.ndarray], float]
    higher_is_better: bool
    by_probability: bool = False
    has_unit: bool = False
    biased: bool = False


_CALIBRATION = Metric("ECE", calibration_error, False, by_probability=True, biased=True)

SECONDARY_METRICS = {
    "regression": (
        Metric("RMSE", root_mean_squared_error, False, has_unit=True),
        Metric("R2", r2, True),
    ),
    "binary": (
        Metric("AUROC", auroc, True, by_probability=True),
        Metric("AUPRC", auprc, True, by_probability=True),
        _CALIBRATION,
    ),
    "multiclass": (
        Metric("macro-F1", macro_f1_of_present, True, biased=True),
        Metric("balanced accuracy", balanced_accuracy, True, biased=True),
        Metric("macro AUROC", macro_auroc, True, by_probability=True, biased=True),
        _CALIBRATION,
    ),
}
"""What is told of a task of each kind besides the paper's metric."""
