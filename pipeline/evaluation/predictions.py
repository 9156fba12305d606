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
"""Before an expert's name: this expert under heads that nobody trained."""


@dataclass(frozen=True)
class TaskPredictions:
    """One method's answers on the test records of one repeat, those with a known label.

    `truth`, `predicted`: in the task's unit, or class numbers. `probability`: of each class, in
    the order of the classes; None for a regression, and where a method has none.
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
    """All predictions, a row each: task, method, repeat, record_id, patient_id, truth, predicted,
    and probability, the list of the classes' (null where there is none).
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
                    "probability": _lists(one.probability, len(one.truth)),
                }
            )
            for one in predictions
        ]
    )


def _lists(probability: np.ndarray | None, rows: int) -> pa.Array:
    if probability is None:
        return pa.nulls(rows, pa.list_(pa.float32()))
    classes = probability.shape[1]
    ends = np.arange(0, (rows + 1) * classes, classes, dtype=np.int32)
    return pa.ListArray.from_arrays(ends, pa.array(probability.astype(np.float32).ravel()))
