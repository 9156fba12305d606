"""Predictions of a method for test records, and their Parquet table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from enecg.tasks import Task
from stores.record_ids import RecordIds

CONSTANT = "constant predictor"
CHANCE = "chance"
"""Classes drawn at random by their shares among the training records; not for regressions."""
BASELINES = (CONSTANT, CHANCE)
"""Methods that use no ECG."""
ENSEMBLE = "EnECG"
ZERO_SHOT = "zero-shot:"
"""Prefix of an expert's name for the method that uses it with untrained heads."""


@dataclass(frozen=True)
class TaskPredictions:
    """Predictions of one method for one task and the labeled test records of one repeat.

    Attributes:
        task: The task.
        method: Name of an expert or ensemble, `CONSTANT`, `CHANCE`, `ENSEMBLE`, or `ZERO_SHOT` +
            expert.
        repeat: Index of the repeat.
        record_id: Record id of each test record.
        patient_id: Patient id of each test record.
        truth: True values in the task's unit or class indices.
        predicted: Predicted values in the task's unit or class indices.
        probability: Class probabilities; None for a regression task.
    """

    task: Task
    method: str
    repeat: int
    record_id: RecordIds
    patient_id: RecordIds
    truth: Float[np.ndarray, " record"]
    predicted: Float[np.ndarray, " record"]
    probability: Float[np.ndarray, "record class"] | None = None


def predictions_table(predictions: Sequence[TaskPredictions]) -> pa.Table:
    """Build the table of `predictions.parquet`.

    Args:
        predictions: Predictions of all methods, tasks and repeats.

    Returns:
        One row per record with columns task, method, repeat, record_id, patient_id, truth,
        predicted and probability (list of float32, one per class, or null).
    """
    return pa.concat_tables(
        [
            pa.table(
                {
                    "task": pa.repeat(prediction.task.name, len(prediction.truth)),
                    "method": pa.repeat(prediction.method, len(prediction.truth)),
                    "repeat": np.full(len(prediction.truth), prediction.repeat),
                    "record_id": pa.array(prediction.record_id),
                    "patient_id": pa.array(prediction.patient_id),
                    "truth": prediction.truth,
                    "predicted": prediction.predicted,
                    "probability": _make_list_array(prediction.probability, len(prediction.truth)),
                }
            )
            for prediction in predictions
        ]
    )


def _make_list_array(probability: np.ndarray | None, rows: int) -> pa.Array:
    if probability is None:
        return pa.nulls(rows, pa.list_(pa.float32()))
    classes = probability.shape[1]
    offsets = np.arange(0, (rows + 1) * classes, classes, dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(probability.astype(np.float32).ravel()))
