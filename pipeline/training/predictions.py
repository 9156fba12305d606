"""Conversion of model outputs to predictions for the labeled records of a repeat."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd
from torch import Tensor

from pipeline.evaluation.predictions import CONSTANT, TaskPredictions
from pipeline.evaluation.thresholds import (
    Threshold,
    choose_label_thresholds,
    choose_threshold,
    decide,
)
from pipeline.labels.targets import fit_constant, is_known
from pipeline.training.labeled_repeat import LabeledRepeat
from stores.record_ids import RecordIds, as_ids

Part = Literal["train", "validation", "test"]
"""Part of a repeat's records."""


class PredictionBuilder:
    """Builder of `TaskPredictions` from model outputs for all records of a repeat.

    Args:
        repeat_index: Index of the repeat.
        record_id: Record ids in the order of `repeat.rows`.
        labels: Label table indexed by record id; only its column ``patient_id`` is used.
        repeat: Targets and encoded labels of the repeat.
    """

    def __init__(
        self, repeat_index: int, record_id: RecordIds, labels: pd.DataFrame, repeat: LabeledRepeat
    ) -> None:
        self.repeat_index = repeat_index
        self.targets = repeat.targets
        self.labels = labels
        self.record_id = record_id
        self.encoded = {name: values.cpu().numpy() for name, values in repeat.encoded.items()}
        self.rows = {
            "train": repeat.train.cpu().numpy(),
            "validation": repeat.validation.cpu().numpy(),
            "test": repeat.test.cpu().numpy(),
        }

    def choose_threshold(self, task: str, output: Tensor) -> Threshold:
        """Choose the decision threshold of a binary or multilabel task.

        It is chosen on training and validation records, because validation records alone are few.

        Args:
            task: Name of a binary or multilabel task.
            output: Class probabilities, shape (record, 2), or probabilities of labels, shape
                (record, label). Those of training records must be out of fold; if they are NaN,
                the threshold is chosen on validation records alone.

        Returns:
            The threshold with the highest macro-F1: the lowest probability for which class 1 is
            predicted, or infinity if predicting class 0 for all records is best. One threshold per
            label of a multilabel task; see `choose_label_thresholds`.
        """
        rows = np.concatenate(
            [self._labeled_rows(task, "train"), self._labeled_rows(task, "validation")]
        )
        probability = output.cpu().numpy()
        rows = rows[np.isfinite(probability[rows, 0])]
        if self.targets[task].task.kind == "multilabel":
            return choose_label_thresholds(probability[rows], self.encoded[task][rows])
        return choose_threshold(probability[rows, 1], self.encoded[task][rows].astype(int))

    def choose_thresholds(
        self, outputs: Mapping[str, Mapping[str, Tensor]]
    ) -> dict[str, dict[str, Threshold]]:
        """Choose the thresholds of binary and multilabel tasks from outputs by method and task."""
        return {
            method: {
                task: self.choose_threshold(task, output)
                for task, output in by_task.items()
                if self.targets[task].task.kind in ("binary", "multilabel")
            }
            for method, by_task in outputs.items()
        }

    def predict_constant(self, task: str) -> TaskPredictions:
        """Predict the same value, class or labels for all labeled test records.

        Args:
            task: Name of the task.

        Returns:
            The predictions: the median of a regression task, the most frequent class, or the labels
            that at least half of the labeled training records have.
        """
        targets = self.targets[task]
        training = self.encoded[task][self._labeled_rows(task, "train")]
        value, class_frequencies = fit_constant(targets.task.kind, training, targets.outputs)
        rows = self._labeled_rows(task, "test")
        if targets.task.kind == "regression":
            values = np.full(len(rows), float(targets.decode(np.asarray(value))))
            return self._build(CONSTANT, task, rows, values, None)
        probability = np.tile(class_frequencies, (len(rows), 1))
        if targets.task.kind == "multilabel":
            return self._build(
                CONSTANT, task, rows, (probability >= 0.5).astype(float), probability
            )
        return self._build(CONSTANT, task, rows, np.full(len(rows), float(value)), probability)

    def predict_untrained(self, method: str, task: str, output: Tensor) -> TaskPredictions:
        """Convert the outputs of untrained heads (the paper's zero-shot baseline).

        Args:
            method: Name of the method.
            task: Name of the task.
            output: Probabilities of the classes or labels, shape (record, class). For a regression
                task, predicted values, shape (record, 1); they are interpreted as values in the
                task's unit.

        Returns:
            The predictions.
        """
        rows = self._labeled_rows(task, "test")
        values = output.cpu().numpy()[rows]
        kind = self.targets[task].task.kind
        if kind == "regression":
            return self._build(method, task, rows, values[:, 0], None)
        if kind == "multilabel":
            return self._build(method, task, rows, (values >= 0.5).astype(float), values)
        return self._build(method, task, rows, values.argmax(1), values)

    def predict(
        self, method: str, task: str, output: Tensor, threshold: Threshold, part: Part = "test"
    ) -> TaskPredictions:
        """Convert the outputs of a trained method for the labeled records of a part.

        Args:
            method: Name of the method.
            task: Name of the task.
            output: Standardized values, shape (record, 1), for a regression task; otherwise class
                probabilities, shape (record, class), or probabilities of labels.
            threshold: Lowest probability for which class 1 of a binary task, or each label of a
                multilabel task, is predicted; ignored for other tasks.
            part: Part of the repeat's records.

        Returns:
            The predictions.
        """
        rows = self._labeled_rows(task, part)
        values = output.cpu().numpy()[rows]
        predicted = decide(self.targets[task], values, threshold)
        regression = self.targets[task].task.kind == "regression"
        return self._build(method, task, rows, predicted, None if regression else values)

    def predict_methods(
        self,
        outputs: Mapping[str, Mapping[str, Tensor]],
        thresholds: Mapping[str, Mapping[str, Threshold]],
    ) -> list[TaskPredictions]:
        """Convert the outputs of trained methods for the test records.

        Args:
            outputs: Outputs by method and task; see `predict`.
            thresholds: Thresholds by method and task; see `choose_thresholds`.

        Returns:
            The predictions, in the order of `outputs`.
        """
        return [
            self.predict(method, task, output, thresholds[method].get(task, float("nan")))
            for method, by_task in outputs.items()
            for task, output in by_task.items()
        ]

    def _labeled_rows(self, task: str, part: Part) -> np.ndarray:
        """Return the rows of a part whose label is known."""
        rows = self.rows[part]
        labeled: np.ndarray = rows[is_known(self.encoded[task][rows])]
        return labeled

    def _build(
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
            repeat=self.repeat_index,
            record_id=record_id,
            patient_id=as_ids(self.labels.loc[record_id, "patient_id"]),
            truth=truth,
            predicted=predicted.astype(np.float64),
            probability=None if probability is None else probability.astype(np.float64),
            labels=targets.classes if targets.task.kind == "multilabel" else (),
        )
