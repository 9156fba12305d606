"""The paper's metrics, computed by scikit-learn, as plain functions of truth and prediction."""

import numpy as np
from jaxtyping import Float, Int
from sklearn.metrics import accuracy_score, f1_score
from sklearn.metrics import mean_absolute_error as _mean_absolute_error


def mean_absolute_error(
    truth: Float[np.ndarray, " record"], predicted: Float[np.ndarray, " record"]
) -> float:
    """The mean absolute error, in the unit of the values."""
    return float(_mean_absolute_error(truth, predicted))


def macro_f1(truth: Int[np.ndarray, " record"], predicted: Int[np.ndarray, " record"]) -> float:
    """The mean of both classes' F1 (0 for a class that is never right)."""
    return float(f1_score(truth, predicted, labels=[0, 1], average="macro", zero_division=0))


def accuracy(truth: Int[np.ndarray, " record"], predicted: Int[np.ndarray, " record"]) -> float:
    """The share of records whose class is right."""
    return float(accuracy_score(truth, predicted))
