"""From what heads, gate and ensembles put out to answers on the test records of a repeat."""

import numpy as np
import pandas as pd
from torch import Tensor

from pipeline.evaluation.predictions import CONSTANT, TaskPredictions
from pipeline.evaluation.thresholds import choose_threshold, decide
from pipeline.labels.targets import fit_constant
from pipeline.training.stack_data import Labelled
from stores.record_ids import RecordIds, as_ids


class Judge:
    """Turns outputs over all records into answers on the test records with a known label."""

    def __init__(
        self,
        number: int,
        record_id: RecordIds,
        labels: pd.DataFrame,
        labelled: Labelled,
    ) -> None:
        """Of the repeat `number`, whose records these are, in the order of `labelled`."""
        self.number = number
        self.targets = labelled.targets
        self.labels = labels
        self.record_id = record_id
        self.encoded = {name: one.cpu().numpy() for name, one in labelled.encoded.items()}
        self.rows = {
            "train": labelled.train.cpu().numpy(),
            "validation": labelled.validation.cpu().numpy(),
            "test": labelled.test.cpu().numpy(),
        }

    def _known(self, task: str, part: str) -> np.ndarray:
        rows = self.rows[part]
        known: np.ndarray = rows[~np.isnan(self.encoded[task][rows])]
        return known

    def threshold(self, task: str, output: Tensor) -> float:
        """From which probability on class 1 is said, chosen on validation records."""
        rows = self._known(task, "validation")
        probability = output[:, 1].cpu().numpy()[rows]
        return choose_threshold(probability, self.encoded[task][rows].astype(int))

    def constant(self, task: str) -> TaskPredictions:
        """The same answer for everyone, and as probabilities the shares of the classes."""
        targets = self.targets[task]
        of_training = self.encoded[task][self._known(task, "train")]
        constant = fit_constant(targets.task.kind, of_training, targets.outputs)
        best = np.asarray(constant.value)
        rows = self._known(task, "test")
        shares = None
        if targets.task.kind == "regression":
            best = targets.decode(best)
        else:
            shares = np.tile(constant.shares, (len(rows), 1))
        return self._predicted(CONSTANT, task, rows, np.full(len(rows), float(best)), shares)

    def untrained(self, method: str, task: str, output: Tensor) -> TaskPredictions:
        """What untrained heads say, a regression in its own unit: the paper's zero-shot."""
        rows = self._known(task, "test")
        said = output.cpu().numpy()[rows]
        if self.targets[task].task.kind == "regression":
            return self._predicted(method, task, rows, said[:, 0], None)
        return self._predicted(method, task, rows, said.argmax(1), said)

    def answers(self, method: str, task: str, output: Tensor, threshold: float) -> TaskPredictions:
        """What a method says; `threshold` of binary tasks only."""
        rows = self._known(task, "test")
        said = output.cpu().numpy()[rows]
        decided = decide(self.targets[task], said, threshold)
        regression = self.targets[task].task.kind == "regression"
        return self._predicted(method, task, rows, decided, None if regression else said)

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
