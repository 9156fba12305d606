"""Decision thresholds of binary tasks and of the labels of multilabel tasks."""

import numpy as np
from jaxtyping import Float, Int

from pipeline.evaluation.bootstrap import macro_f1_from_counts
from pipeline.labels.targets import Targets

Threshold = float | tuple[float, ...]
"""Lowest probability for which class 1, or each label, is predicted."""

DEFAULT_THRESHOLD = 0.5
"""Threshold of a label without a positive record."""


def choose_threshold(
    probability: Float[np.ndarray, " record"], truth: Int[np.ndarray, " record"]
) -> float:
    """Choose the threshold with the highest macro-F1.

    Args:
        probability: Probability of class 1.
        truth: True classes, 0 or 1.

    Returns:
        The lowest probability for which class 1 is predicted: an element of `probability`, or
        infinity if predicting class 0 for all records is best. If several thresholds have the
        highest macro-F1, the largest of them.
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


def choose_label_thresholds(
    probability: Float[np.ndarray, "record label"], truth: Float[np.ndarray, "record label"]
) -> tuple[float, ...]:
    """Choose, for each label, the threshold with the highest F1.

    Args:
        probability: Probability of each label.
        truth: 1 where a record has the label, else 0.

    Returns:
        For each label, the lowest probability for which it is predicted: an element of
        `probability`. If several thresholds have the highest F1, the largest of them.
        `DEFAULT_THRESHOLD` for a label without a positive record.
    """
    thresholds = []
    for score, positive in zip(probability.T, truth.T, strict=True):
        order = np.argsort(-score, kind="stable")
        ranked, correct = score[order], np.cumsum(positive[order])
        f1 = 2 * correct / (np.arange(1, len(order) + 1) + correct[-1])
        # A threshold cannot separate records with equal probability.
        separable = np.append(ranked[1:] < ranked[:-1], True)
        best = int(np.argmax(np.where(separable, f1, -1)))
        thresholds.append(float(ranked[best]) if correct[-1] else DEFAULT_THRESHOLD)
    return tuple(thresholds)


def decide(
    targets: Targets, output: Float[np.ndarray, "record output"], threshold: Threshold
) -> Float[np.ndarray, "record *label"]:
    """Convert the outputs for a task to predictions.

    Args:
        targets: Fitted targets of the task.
        output: Standardized values for a regression task, otherwise probabilities of classes or
            labels.
        threshold: Lowest probability for which class 1 of a binary task, or each label of a
            multilabel task, is predicted; ignored for other tasks.

    Returns:
        Values in the task's unit, or class indices. For a multilabel task, 1 where a label is
        predicted, else 0.
    """
    if targets.task.kind == "multilabel":
        indicators: np.ndarray = (output >= np.asarray(threshold)).astype(np.float64)
        return indicators
    if targets.task.kind == "regression":
        return targets.decode(output[:, 0])
    if targets.task.kind == "binary":
        classes: np.ndarray = output[:, 1] >= threshold
    else:
        classes = output.argmax(1)
    return classes.astype(np.float64)
