"""Decision thresholds of binary tasks."""

import numpy as np
from jaxtyping import Float, Int

from pipeline.evaluation.bootstrap import macro_f1_from_counts
from pipeline.labels.targets import Targets


def choose_threshold(
    probability: Float[np.ndarray, " record"], truth: Int[np.ndarray, " record"]
) -> float:
    """Choose the threshold with the highest macro-F1 on validation records.

    Args:
        probability: Probability of class 1.
        truth: True classes, 0 or 1.

    Returns:
        The lowest probability for which class 1 is predicted: an element of `probability`, or
        infinity if predicting class 0 for all records is best. Of several thresholds with the same
        macro-F1, the largest.
    """
    order = np.argsort(-probability, kind="stable")
    ranked, positive = probability[order], truth[order] == 1
    # Element k is the count if class 1 is predicted for the k most probable records.
    true_positives = np.append(0, np.cumsum(positive))
    false_positives = np.append(0, np.cumsum(~positive))
    f1 = macro_f1_from_counts(
        true_positives,
        false_positives,
        true_positives[-1] - true_positives,
        false_positives[-1] - false_positives,
    )
    # A threshold cannot separate records with equal probability.
    separable = np.concatenate([[True], ranked[1:] < ranked[:-1], [True]])
    candidates = np.flatnonzero(separable)
    thresholds = np.append(np.inf, ranked)
    return float(thresholds[candidates[np.argmax(f1[candidates])]])


def decide(
    targets: Targets, output: Float[np.ndarray, "record output"], threshold: float
) -> Float[np.ndarray, " record"]:
    """Convert the outputs for a task to predictions.

    Args:
        targets: Fitted targets of the task.
        output: Standardized values for a regression task, otherwise class probabilities.
        threshold: Lowest probability for which class 1 of a binary task is predicted; ignored for
            other tasks.

    Returns:
        Values in the task's unit or class indices.
    """
    if targets.task.kind == "regression":
        return targets.decode(output[:, 0])
    if targets.task.kind == "binary":
        classes: np.ndarray = output[:, 1] >= threshold
    else:
        classes = output.argmax(1)
    return classes.astype(np.float64)
