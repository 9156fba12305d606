"""Calibration of the predictions of one repeat with its validation records.

Classes of a binary task and labels of a multilabel task are calibrated one by one, so that a rare
one is covered as often as a frequent one. Classes of other tasks are calibrated together, because
most of the rare ones have too few validation patients.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from pipeline.evaluation.conformal import ConformalScores
from pipeline.labels.targets import Targets
from stores.record_ids import as_ids


@dataclass(frozen=True)
class Calibration:
    """Conformal scores of a task in one repeat.

    Attributes:
        scores: One element for all outputs, or one per class or label.
    """

    scores: tuple[ConformalScores, ...]

    def half_width(self, coverage: float) -> float:
        """Return half the width of the interval of a regression, in the task's unit.

        Args:
            coverage: Requested coverage, between 0 and 1.

        Returns:
            The largest accepted error; infinity if there are too few validation patients.
        """
        return self.scores[0].quantile(coverage)

    def p_values(
        self, probability: Float[np.ndarray, "record output"]
    ) -> Float[np.ndarray, "record output"]:
        """Return the p-value of each class, or of the presence of each label.

        Args:
            probability: Probabilities of classes or labels.

        Returns:
            The p-values. Those above ``1 - coverage`` are in the prediction set.
        """
        score = 1 - probability
        if len(self.scores) == 1:
            return self.scores[0].p_value(score)
        columns = zip(self.scores, score.T, strict=True)
        return np.stack([scores.p_value(column) for scores, column in columns], axis=1)


def calibrate(validation: pd.DataFrame, targets: Targets) -> Calibration:
    """Compute the conformal scores of a task.

    Args:
        validation: Predictions for the validation records of one repeat and task, with the columns
            of `pipeline.runs.calibration`.
        targets: Fitted targets of the task.

    Returns:
        The scores.

    Raises:
        ValueError: The table does not match the targets.
    """
    patient = as_ids(validation["patient_id"])
    truth = validation["truth"].to_numpy(np.float64)
    if targets.task.kind == "regression":
        error = np.abs(truth - validation["predicted"].to_numpy(np.float64))
        return Calibration((ConformalScores.of(error, patient),))
    probability = np.stack(validation["probability"].tolist()).astype(np.float64)
    number = truth.astype(int)
    score = 1 - np.take_along_axis(probability, number[:, None], axis=1)[:, 0]
    if targets.task.kind == "multiclass":
        return Calibration((ConformalScores.of(score, patient),))
    if targets.task.kind == "binary":
        groups = [number == value for value in range(2)]
    else:
        label = validation["label"].to_numpy()
        groups = [(label == name) & (number == 1) for name in targets.classes]
    return Calibration(tuple(ConformalScores.of(score[group], patient[group]) for group in groups))
