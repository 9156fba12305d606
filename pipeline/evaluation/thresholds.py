"""Decision thresholds of binary tasks."""

import numpy as np
from jaxtyping import Float, Int

from pipeline.evaluation.bootstrap import macro_f1_of_counts
from pipeline.labels.targets import Targets


def choose_threshold(
    probability: Float[np.ndarray, " record"], truth: Int[np.ndarray, " record"]
) -> float:
    """The probability from which class 1 is said, for the best macro-F1 on validation records.

    It is a probability that occurs, or infinity where class 1 is best never said.
    """
    order = np.argsort(-probability, kind="stable")
    ranked, positive = probability[order], truth[order] == 1
    # Saying class 1 of the first k, for every k from 0 to all.
    hit = np.append(0, np.cumsum(positive))
    extra = np.append(0, np.cumsum(~positive))
    f1 = macro_f1_of_counts(hit, extra, hit[-1] - hit, extra[-1] - extra)
    between = np.append(True, ranked[1:] < ranked[:-1])
    cuts = np.flatnonzero(np.append(between, True))
    edges = np.append(np.inf, ranked)  # the first k are those from the k-th probability on
    return float(edges[cuts[np.argmax(f1[cuts])]])


def decide(
    targets: Targets, output: Float[np.ndarray, "record output"], threshold: float
) -> Float[np.ndarray, " record"]:
    """Answers from predictions: values in the task's unit, or class numbers."""
    if targets.task.kind == "regression":
        return targets.decode(output[:, 0])
    if targets.task.kind == "binary":
        said: np.ndarray = output[:, 1] >= threshold
    else:
        said = output.argmax(1)
    return said.astype(np.float64)
