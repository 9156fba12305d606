"""Conversion of model outputs to predictions on the labeled test records of a repeat."""

from typing import Literal

import numpy as np
import pandas as pd
from torch import Tensor

from pipeline.evaluation.predictions import CONSTANT, TaskPredictions
from pipeline.evaluation.thresholds import choose_threshold, decide
from pipeline.labels.targets import fit_constant
from pipeline.training.labeled_repeat import LabeledRepeat
from stores.record_ids import RecordIds, as_ids


class PredictionBuilder:
    """Makes `TaskPredictions` objects from outputs on all records of a repeat.

    Args:
        number: Index of the repeat.
        record_id: Record ids in the order of `repeat.rows`.
        labels: Labels by record id, for the patient of each record.
        repeat: The repeat's targets and rows.
    """

    def __init__(
        self, number: int, record_id: RecordIds, labels: pd.DataFrame, repeat: LabeledRepeat
    ) -> None:
        self.number = number
        self.targets = repeat.targets
        self.labels = labels
        self.record_id = record_id
        self.encoded = {name: values.cpu().numpy() for name, values in repeat.encoded.items()}
        self.rows = {
            "train": repeat.train.cpu().numpy(),
            "validation": repeat.validation.cpu().numpy(),
            "test": repeat.test.cpu().numpy(),
        }

    def choose_threshold(self, task: str, output: Tensor) -> float:
        """Choose the probability from which a binary task predicts class 1, on validation rows.

        Args:
            task: Name of a binary task.
            output: Class probabilities, shape (record, 2).

        Returns:
            The threshold with the best macro-F1; infinity if class 1 is best never predicted.
        """
        rows = self._labeled(task, "validation")
        probability = output[:, 1].cpu().numpy()[rows]
        return choose_threshold(probability, self.encoded[task][rows].astype(int))

    def predict_constant(self, task: str) -> TaskPredictions:
        """Predict the training records' median or most frequent class for every record."""
        targets = self.targets[task]
        training = self.encoded[task][self._labeled(task, "train")]
        value, shares = fit_constant(targets.task.kind, training, targets.outputs)
        rows = self._labeled(task, "test")
        if targets.task.kind == "regression":
            values = np.full(len(rows), float(targets.decode(np.asarray(value))))
            return self._predicted(CONSTANT, task, rows, values, None)
        probability = np.tile(shares, (len(rows), 1))
        return self._predicted(CONSTANT, task, rows, np.full(len(rows), float(value)), probability)

    def predict_untrained(self, method: str, task: str, output: Tensor) -> TaskPredictions:
        """Convert the outputs of untrained heads (the paper's zero-shot baseline).

        Args:
            method: Name of the method.
            task: Name of the task.
            output: Outputs, shape (record, output). A regression's are taken to be in its unit.

        Returns:
            The predictions.
        """
        rows = self._labeled(task, "test")
        values = output.cpu().numpy()[rows]
        if self.targets[task].task.kind == "regression":
            return self._predicted(method, task, rows, values[:, 0], None)
        return self._predicted(method, task, rows, values.argmax(1), values)

    def predict(self, method: str, task: str, output: Tensor, threshold: float) -> TaskPredictions:
        """Convert the outputs of a trained method.

        Args:
            method: Name of the method.
            task: Name of the task.
            output: Standard units or class probabilities, shape (record, output).
            threshold: Probability from which class 1 is predicted; read for binary tasks only.

        Returns:
            The predictions.
        """
        rows = self._labeled(task, "test")
        values = output.cpu().numpy()[rows]
        decided = decide(self.targets[task], values, threshold)
        regression = self.targets[task].task.kind == "regression"
        return self._predicted(method, task, rows, decided, None if regression else values)

    def _labeled(self, task: str, part: Literal["train", "validation", "test"]) -> np.ndarray:
        """Return the rows of a part that have a label."""
        rows = self.rows[part]
        labeled: np.ndarray = rows[~np.isnan(self.encoded[task][rows])]
        return labeled

    def _predicted(
        self,
        method: str,
        task: str,
        rows: np.ndarray,
        predicted: np.ndarray,
        probability: np.ndarray | None,
    ) -> TaskPredictions:
        targets = self.targets[task]
        truth = self.encoded[task][rows].astype(np.float64)
        if targets.task.kind == "regression":
            truth = targets.decode(truth)
        record_id = self.record_id[rows]
        return TaskPredictions(
            task=targets.task,
            method=method,
            repeat=self.number,
            record_id=record_id,
            patient_id=as_ids(self.labels.loc[record_id, "patient_id"]),
            truth=truth,
            predicted=predicted.astype(np.float64),
            probability=None if probability is None else probability.astype(np.float64),
        )
