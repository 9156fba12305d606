"""Metrics of the paper and additional ones, defined as in scikit-learn if it has them.

scikit-learn itself is not used, because its import takes a second.

An undefined metric is NaN; there is no warning or exception. AUROC and AUPRC are undefined if only
one class has a test record, and R2 is undefined if all true values are equal.

Parameters have the same meaning in all functions: `truth` contains true values or class numbers,
`predicted` contains predicted values or class numbers, and `probability` contains the predicted
probability of each class. Metrics of multilabel tasks are in `enecg.label_metrics`.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from enecg.label_metrics import auprc_of_labels, f1_of_labels
from enecg.rank_metrics import average_precision, roc_area

BINS = 10
"""Number of probability bins of equal width for calibration; a bin includes its lower edge."""

NAN = math.nan
"""Value of undefined metrics. It is always the same object, so that tuples with it compare equal.
"""


def mean_absolute_error(
    truth: Float[np.ndarray, " record"], predicted: Float[np.ndarray, " record"]
) -> float:
    """Compute the mean absolute error.

    Args:
        truth: True values.
        predicted: Predicted values, in the same unit.

    Returns:
        The error in the unit of the values, at least 0.
    """
    return float(np.abs(truth - predicted).mean())


def root_mean_squared_error(
    truth: Float[np.ndarray, " record"], predicted: Float[np.ndarray, " record"]
) -> float:
    """Compute the root mean squared error.

    Args:
        truth: True values.
        predicted: Predicted values, in the same unit.

    Returns:
        The error in the unit of the values, at least 0.
    """
    return math.sqrt(((truth - predicted) ** 2).mean())


def r2(truth: Float[np.ndarray, " record"], predicted: Float[np.ndarray, " record"]) -> float:
    """Compute the coefficient of determination.

    Args:
        truth: True values.
        predicted: Predicted values.

    Returns:
        At most 1. It is 0 if every prediction is the mean of the true values, negative for worse
        predictions, and NaN if all true values are equal.
    """
    total = float(((truth - truth.mean()) ** 2).sum())
    return 1 - float(((truth - predicted) ** 2).sum()) / total if total > 0 else NAN


def macro_f1(truth: Int[np.ndarray, " record"], predicted: Int[np.ndarray, " record"]) -> float:
    """Average the F1 of classes 0 and 1.

    Args:
        truth: True classes, 0 or 1.
        predicted: Predicted classes, 0 or 1.

    Returns:
        Macro-F1, 0 to 1. The F1 of a class without a correct prediction is 0.
    """
    return _mean_f1(truth, predicted, [0, 1])


def accuracy(truth: Int[np.ndarray, " record"], predicted: Int[np.ndarray, " record"]) -> float:
    """Compute the fraction of correctly classified records.

    Args:
        truth: True classes.
        predicted: Predicted classes.

    Returns:
        The fraction, 0 to 1.
    """
    return float((truth == predicted).mean())


def macro_f1_of_present(
    truth: Int[np.ndarray, " record"], predicted: Int[np.ndarray, " record"]
) -> float:
    """Average the F1 over the classes that have a test record.

    Args:
        truth: True classes.
        predicted: Predicted classes.

    Returns:
        Macro-F1, 0 to 1. The F1 of a class without a correct prediction is 0.
    """
    return _mean_f1(truth, predicted, np.unique(truth))


def _mean_f1(truth: np.ndarray, predicted: np.ndarray, classes: Iterable[int]) -> float:
    """Average the F1 of the given classes; 0 for a class that is neither true nor predicted."""
    values = []
    for number in classes:
        is_true, is_predicted = truth == number, predicted == number
        total = int(is_true.sum() + is_predicted.sum())
        values.append(2 * int((is_true & is_predicted).sum()) / total if total else 0)
    return float(np.mean(values))


def balanced_accuracy(
    truth: Int[np.ndarray, " record"], predicted: Int[np.ndarray, " record"]
) -> float:
    """Average the recall over the classes that have a test record.

    Args:
        truth: True classes.
        predicted: Predicted classes.

    Returns:
        Balanced accuracy, 0 to 1.
    """
    recalls = [(predicted[truth == number] == number).mean() for number in np.unique(truth)]
    return float(np.mean(recalls))


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
    return roc_area(truth == 1, probability[:, 1])


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
    return average_precision(truth == 1, probability[:, 1])


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
    return float(np.mean([roc_area(truth == label, probability[:, label]) for label in present]))


def calibration_pairs(
    truth: Int[np.ndarray, " record"], probability: Float[np.ndarray, "record class"]
) -> tuple[Float[np.ndarray, " record"], Float[np.ndarray, " record"]]:
    """Return the probabilities whose calibration is measured, and the outcomes.

    With two classes, the calibration of the probability of class 1 is measured; with more classes,
    that of the probability of the predicted class.

    Args:
        truth: Class numbers.
        probability: Probability of each class.

    Returns:
        For each record, the probability of this class, and the outcome: 1.0 if the class is the
        true one, else 0.0.
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
    """Compute the expected calibration error over `BINS` bins of equal width.

    Args:
        truth: Class numbers.
        probability: Probability of each class.

    Returns:
        The absolute difference between the mean probability and the observed frequency of a bin,
        averaged over the bins, which are weighted by their numbers of records; 0 to 1.
    """
    confidence, outcome = calibration_pairs(truth, probability)
    gap = np.bincount(bin_indices(confidence), weights=confidence - outcome, minlength=BINS)
    return float(np.abs(gap).sum() / len(truth))


@dataclass(frozen=True)
class Bin:
    """The records of one calibration bin.

    Attributes:
        low: Lower edge of the bin, inclusive.
        high: Upper edge of the bin, exclusive except in the last bin.
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
    """Compute the bins of a reliability diagram; see `calibration_error`.

    Args:
        truth: True classes.
        probability: Probability of each class.

    Returns:
        The bins that contain records, by increasing probability.
    """
    confidence, outcome = calibration_pairs(truth, probability)
    indices = bin_indices(confidence)
    result = []
    for index in np.unique(indices).tolist():
        in_bin = indices == index
        result.append(
            Bin(
                low=index / BINS,
                high=(index + 1) / BINS,
                n=int(in_bin.sum()),
                probability=float(confidence[in_bin].mean()),
                share=float(outcome[in_bin].mean()),
            )
        )
    return tuple(result)


@dataclass(frozen=True)
class Metric:
    """A metric and how to interpret it.

    Attributes:
        name: Name in tables and result files.
        compute: Called as ``compute(truth, predicted)``, or as ``compute(truth, probability)`` if
            `uses_probability` is true.
        higher_is_better: Whether a larger value is better.
        uses_probability: Whether `compute` takes probabilities of classes or labels.
        has_unit: Whether the metric has the unit of the task.
        biased: Whether the metric is systematically higher or lower on bootstrap samples than on
            the full sample. Bootstrap samples repeat records, which increases the calibration
            error, and omit rare classes, which are harder to predict. Biased metrics range from 0
            to 1.
    """

    name: str
    compute: Callable[[np.ndarray, np.ndarray], float]
    higher_is_better: bool
    uses_probability: bool = False
    has_unit: bool = False
    biased: bool = False


_CALIBRATION = Metric("ECE", calibration_error, False, uses_probability=True, biased=True)

SECONDARY_METRICS = {
    "regression": (
        Metric("RMSE", root_mean_squared_error, False, has_unit=True),
        Metric("R2", r2, True),
    ),
    "binary": (
        Metric("AUROC", auroc, True, uses_probability=True),
        Metric("AUPRC", auprc, True, uses_probability=True),
        _CALIBRATION,
    ),
    "multiclass": (
        Metric("macro-F1", macro_f1_of_present, True, biased=True),
        Metric("balanced accuracy", balanced_accuracy, True, biased=True),
        Metric("macro AUROC", macro_auroc, True, uses_probability=True, biased=True),
        _CALIBRATION,
    ),
    "multilabel": (
        Metric("macro-F1", f1_of_labels, True, biased=True),
        Metric("macro-AUPRC", auprc_of_labels, True, uses_probability=True, biased=True),
    ),
}
"""Metrics reported in addition to the main metric, by kind of task."""
