"""Metrics of predictions: those of the paper and others, based on scikit-learn.

A metric that is undefined, because a class has no test record or all true values are equal, is
NaN, without a warning or an exception.

Parameters have the same meaning throughout: `truth` holds true values or class numbers,
`predicted` the predicted ones, `probability` the predicted probability of each class.
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
"""Number of equal probability bins for calibration; each includes its lower edge."""

NAN = float("nan")
"""NaN of undefined metrics; a single object, so that tuples that contain it compare equal."""


def mean_absolute_error(
    truth: Float[np.ndarray, " record"], predicted: Float[np.ndarray, " record"]
) -> float:
    """Compute the mean absolute error, in the unit of the values."""
    return float(_mean_absolute_error(truth, predicted))


def root_mean_squared_error(
    truth: Float[np.ndarray, " record"], predicted: Float[np.ndarray, " record"]
) -> float:
    """Compute the root mean squared error, in the unit of the values."""
    return float(_root_mean_squared_error(truth, predicted))


def r2(truth: Float[np.ndarray, " record"], predicted: Float[np.ndarray, " record"]) -> float:
    """Compute the coefficient of determination, relative to the mean of the test records.

    Args:
        truth: True values.
        predicted: Predicted values.

    Returns:
        At most 1, negative for predictions worse than that mean, NaN if all true values are equal.
    """
    total = float(((truth - truth.mean()) ** 2).sum())
    return 1 - float(((truth - predicted) ** 2).sum()) / total if total > 0 else NAN


def macro_f1(truth: Int[np.ndarray, " record"], predicted: Int[np.ndarray, " record"]) -> float:
    """Average the F1 of classes 0 and 1; a class without a correct prediction counts as 0."""
    return float(f1_score(truth, predicted, labels=[0, 1], average="macro", zero_division=0))


def accuracy(truth: Int[np.ndarray, " record"], predicted: Int[np.ndarray, " record"]) -> float:
    """Compute the fraction of correctly classified records."""
    return float(accuracy_score(truth, predicted))


def macro_f1_of_present(
    truth: Int[np.ndarray, " record"], predicted: Int[np.ndarray, " record"]
) -> float:
    """Average the F1 over the classes that have a test record."""
    present = np.unique(truth)
    return float(f1_score(truth, predicted, labels=present, average="macro", zero_division=0))


def balanced_accuracy(
    truth: Int[np.ndarray, " record"], predicted: Int[np.ndarray, " record"]
) -> float:
    """Average the recall over the classes that have a test record."""
    present = np.unique(truth)
    return float(recall_score(truth, predicted, labels=present, average="macro", zero_division=0))


def auroc(
    truth: Int[np.ndarray, " record"], probability: Float[np.ndarray, "record class"]
) -> float:
    """Compute the area under the ROC curve of class 1.

    Args:
        truth: Class numbers, 0 or 1.
        probability: Probability of each class.

    Returns:
        The area, or NaN if only one class has a test record.
    """
    if len(np.unique(truth)) < 2:
        return NAN
    return float(roc_auc_score(truth, probability[:, 1]))


def auprc(
    truth: Int[np.ndarray, " record"], probability: Float[np.ndarray, "record class"]
) -> float:
    """Compute the average precision of class 1; chance level is the prevalence of class 1.

    Args:
        truth: Class numbers, 0 or 1.
        probability: Probability of each class.

    Returns:
        The average precision, or NaN if only one class has a test record.
    """
    if len(np.unique(truth)) < 2:
        return NAN
    return float(average_precision_score(truth, probability[:, 1]))


def macro_auroc(
    truth: Int[np.ndarray, " record"], probability: Float[np.ndarray, "record class"]
) -> float:
    """Average the one-versus-rest AUROC over the classes that have a test record.

    Args:
        truth: Class numbers.
        probability: Probability of each class.

    Returns:
        The mean area, or NaN if only one class has a test record.
    """
    present = np.unique(truth).astype(int)
    if len(present) < 2:
        return NAN
    return float(
        np.mean([roc_auc_score(truth == label, probability[:, label]) for label in present])
    )


def calibration_pairs(
    truth: Int[np.ndarray, " record"], probability: Float[np.ndarray, "record class"]
) -> tuple[Float[np.ndarray, " record"], Float[np.ndarray, " record"]]:
    """Return the probabilities that calibration is measured on, and the outcomes.

    With two classes this is the probability of class 1; with more, the probability of the
    predicted class.

    Args:
        truth: Class numbers.
        probability: Probability of each class.

    Returns:
        A probability per record, and 1.0 where that class is the true one, else 0.0.
    """
    if probability.shape[1] == 2:
        return probability[:, 1], (truth == 1).astype(np.float64)
    predicted = probability.argmax(1)
    confidence = probability[np.arange(len(predicted)), predicted]
    return confidence, (truth == predicted).astype(np.float64)


def bin_indices(probability: Float[np.ndarray, " record"]) -> Int[np.ndarray, " record"]:
    """Return the bin (0 to `BINS` - 1) of each probability; 1.0 belongs to the last bin."""
    indices: np.ndarray = np.clip((probability * BINS).astype(int), 0, BINS - 1)
    return indices


def calibration_error(
    truth: Int[np.ndarray, " record"], probability: Float[np.ndarray, "record class"]
) -> float:
    """Compute the expected calibration error over `BINS` equal bins.

    Args:
        truth: Class numbers.
        probability: Probability of each class.

    Returns:
        The distance between mean probability and observed frequency, averaged over bins weighted
        by their number of records; 0 to 1.
    """
    confidence, outcome = calibration_pairs(truth, probability)
    gap = np.bincount(bin_indices(confidence), weights=confidence - outcome, minlength=BINS)
    return float(np.abs(gap).sum() / len(truth))


@dataclass(frozen=True)
class Bin:
    """The records of one calibration bin.

    Attributes:
        low: Lower edge of the bin, inclusive.
        high: Upper edge of the bin.
        n: Number of records.
        probability: Mean predicted probability.
        share: Observed frequency of the outcome.
    """

    low: float
    high: float
    n: int
    probability: float
    share: float


def reliability_bins(
    truth: Int[np.ndarray, " record"], probability: Float[np.ndarray, "record class"]
) -> tuple[Bin, ...]:
    """Compute the nonempty bins of a reliability diagram, which `calibration_error` sums up."""
    confidence, outcome = calibration_pairs(truth, probability)
    indices = bin_indices(confidence)
    result = []
    for index in np.unique(indices).tolist():
        inside = indices == index
        result.append(
            Bin(
                low=index / BINS,
                high=(index + 1) / BINS,
                n=int(inside.sum()),
                probability=float(confidence[inside].mean()),
                share=float(outcome[inside].mean()),
            )
        )
    return tuple(result)


@dataclass(frozen=True)
class Metric:
    """A metric and how to interpret it.

    Attributes:
        name: Name in tables and result files.
        compute: Function of the truth and the predictions, or the truth and the class
            probabilities if `by_probability`.
        higher_is_better: Direction of improvement.
        by_probability: Whether `compute` takes class probabilities.
        has_unit: Whether the metric has the unit of the task.
        biased: Whether bootstrap draws are systematically worse or better than the full sample:
            they repeat records, which appear less calibrated, and omit rare classes, which are
            harder. Such metrics range from 0 to 1.
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
"""Metrics reported besides the paper's own, by kind of task."""
