"""Predictions of a method on test records, and their Parquet table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from enecg.tasks import Task
from stores.record_ids import RecordIds

CONSTANT = "constant predictor"
ENSEMBLE = "EnECG"
ZERO_SHOT = "zero-shot:"
"""Prefix of an expert's name: the expert with untrained heads."""


@dataclass(frozen=True)
class TaskPredictions:
    """Predictions of one method for one task, on the labeled test records of one repeat.

    Attributes:
        task: The task.
        method: Name of an expert or ensemble, or `CONSTANT`, `ENSEMBLE`, `ZERO_SHOT` + expert.
        repeat: Number of the repeat, from 0.
        record_id: Test records.
        patient_id: Their patients.
        truth: Values in the task's unit, or class numbers.
        predicted: Values in the task's unit, or class numbers.
        probability: Probability of each class; None for a regression.
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
        predicted and probability (float32 list over classes, or null).
    """
    return pa.concat_tables(
        [
            pa.table(
                {
                    "task": pa.repeat(one.task.name, len(one.truth)),
                    "method": pa.repeat(one.method, len(one.truth)),
                    "repeat": np.full(len(one.truth), one.repeat),
                    "record_id": pa.array(one.record_id),
                    "patient_id": pa.array(one.patient_id),
                    "truth": one.truth,
                    "predicted": one.predicted,
                    "probability": _list_array(one.probability, len(one.truth)),
                }
            )
            for one in predictions
        ]
    )


def _list_array(probability: np.ndarray | None, rows: int) -> pa.Array:
    if probability is None:
        return pa.nulls(rows, pa.list_(pa.float32()))
    classes = probability.shape[1]
    offsets = np.arange(0, (rows + 1) * classes, classes, dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(probability.astype(np.float32).ravel()))
