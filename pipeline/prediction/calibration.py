"""Conformal calibration of the predictions of one repeat on its validation records.

Each class of a binary task and each label of a multilabel task is calibrated separately, so that
rare classes have the same coverage as frequent ones. The classes of a multiclass task are
calibrated together, because most rare classes have too few validation patients.
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
        scores: One element per class of a binary task or per label of a multilabel task; a single
            element for regression and multiclass tasks.
    """

    scores: tuple[ConformalScores, ...]

    def half_width(self, coverage: float) -> float:
        """Return half the width of the prediction interval of a regression task.

        Args:
            coverage: Requested coverage, a fraction between 0 and 1.

        Returns:
            The half-width in the task's unit; infinity if there are too few validation patients.
        """
        return self.scores[0].quantile(coverage)

    def p_values(
        self, probability: Float[np.ndarray, "record output"]
    ) -> Float[np.ndarray, "record output"]:
        """Return the p-value of each class, or of the presence of each label.

        Args:
            probability: Predicted probability of each class or label.

        Returns:
            The p-values. A prediction set contains the classes or labels whose p-value is greater
            than ``1 - coverage``.
        """
        score = 1 - probability
        if len(self.scores) == 1:
            return self.scores[0].p_value(score)
        columns = zip(self.scores, score.T, strict=True)
        return np.stack([scores.p_value(column) for scores, column in columns], axis=1)


def calibrate(validation: pd.DataFrame, targets: Targets) -> Calibration:
    """Calibrate the predictions of one task.

    Args:
        validation: Predictions for the validation records of one repeat and task, with the columns
            `pipeline.runs.calibration.COLUMNS`.
        targets: Fitted targets of the task.

    Returns:
        The calibration.

    Raises:
        ValueError: The table does not match the targets; also IndexError and TypeError.
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
