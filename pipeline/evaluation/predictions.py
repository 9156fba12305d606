"""Predictions of a method for labeled records, and their Parquet table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from enecg.tasks import Task
from stores.record_ids import RecordIds

CONSTANT = "constant predictor"
CHANCE = "chance"
"""Classes drawn at random by their shares among the training records. Classification only."""
BASELINES = (CONSTANT, CHANCE)
"""Methods that use no ECG."""
RIDGE = "ridge regression"
"""Ridge regression on the embedding of one expert, which is chosen on validation records."""
ENSEMBLE = "EnECG"
ZERO_SHOT = "zero-shot:"
"""Prefix of an expert's name for the method that uses it with untrained heads."""
RANDOM = "random weights:"
"""Prefix of an expert's name for the method that uses the same expert with random weights."""
WITHOUT = f"{ENSEMBLE} without "
"""Prefix of an expert's name for EnECG with a gate over the other experts."""


@dataclass(frozen=True)
class TaskPredictions:
    """Predictions of one method for one task and the labeled records of one part of a repeat.

    The part is the test records, the validation records, or those that a saved run is evaluated on.

    Attributes:
        task: The task.
        method: Name of an expert or ensemble, `CONSTANT`, `CHANCE`, `RIDGE`, `ENSEMBLE`, or
            `ZERO_SHOT`, `RANDOM` or `WITHOUT` + expert.
        repeat: Index of the repeat.
        record_id: Id of each record.
        patient_id: Patient id of each record.
        truth: True values in the task's unit, or class indices. For a multilabel task, one column
            per label: 1 where a record has the label, else 0.
        predicted: Predictions, in the format of `truth`.
        probability: Class probabilities, or probabilities of the labels of a multilabel task; None
            for a regression task.
        labels: Names of the labels of a multilabel task; empty for other tasks.
    """

    task: Task
    method: str
    repeat: int
    record_id: RecordIds
    patient_id: RecordIds
    truth: Float[np.ndarray, "record *label"]
    predicted: Float[np.ndarray, "record *label"]
    probability: Float[np.ndarray, "record class"] | None = None
    labels: tuple[str, ...] = ()

    def by_label(self) -> Iterator["TaskPredictions"]:
        """Yield the predictions of each label as those of a task with two classes."""
        assert self.probability is not None
        for column, name in enumerate(self.labels):
            positive = self.probability[:, column]
            yield replace(
                self,
                truth=self.truth[:, column],
                predicted=self.predicted[:, column],
                probability=np.stack([1 - positive, positive], 1),
                labels=(name,),
            )


def predictions_table(predictions: Sequence[TaskPredictions]) -> pa.Table:
    """Build the table of `predictions.parquet`.

    Args:
        predictions: Predictions of all methods, tasks and repeats.

    Returns:
        One row per record with columns task, method, repeat, record_id, patient_id, label, truth,
        predicted and probability (list of float32, one per class, or null). A multilabel task has
        one row per record and label, with the probabilities of its absence and presence; `label`
        is null for other tasks.
    """
    return pa.concat_tables(
        [
            _build_table(part)
            for prediction in predictions
            for part in (prediction.by_label() if prediction.labels else (prediction,))
        ]
    )


def _build_table(prediction: TaskPredictions) -> pa.Table:
    rows = len(prediction.truth)
    label = pa.scalar(next(iter(prediction.labels), None), pa.string())
    return pa.table(
        {
            "task": pa.repeat(prediction.task.name, rows),
            "method": pa.repeat(prediction.method, rows),
            "repeat": np.full(rows, prediction.repeat),
            "record_id": pa.array(prediction.record_id),
            "patient_id": pa.array(prediction.patient_id),
            "label": pa.repeat(label, rows),
            "truth": prediction.truth,
            "predicted": prediction.predicted,
            "probability": _make_list_array(prediction.probability, rows),
        }
    )


def _make_list_array(probability: np.ndarray | None, rows: int) -> pa.Array:
    if probability is None:
        return pa.nulls(rows, pa.list_(pa.float32()))
    classes = probability.shape[1]
    offsets = np.arange(0, (rows + 1) * classes, classes, dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(probability.astype(np.float32).ravel()))
