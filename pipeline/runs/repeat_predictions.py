"""Predictions of one repeat of a saved run for new records."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool

from enecg.tasks import Task
from pipeline.evaluation.predictions import CONSTANT, RIDGE, TaskPredictions
from pipeline.runs.predictor import Predictions, Predictor
from pipeline.training.features import Features
from stores.record_ids import as_ids


def predict_repeat(
    repeat: int,
    predictor: Predictor,
    features: Features,
    labels: pd.DataFrame,
    unseen: Bool[np.ndarray, " record"],
    tasks: Sequence[Task],
) -> list[TaskPredictions]:
    """Predict with the constant predictor and all methods of a `Predictor`.

    Args:
        repeat: Index of the repeat.
        predictor: Heads and gate of the repeat.
        features: Embeddings, in the order of `labels`.
        labels: Label table with `patient_id` and the columns of `tasks`, one row per record.
        unseen: Mask of the records to predict. Records without a label for a task are skipped for
            that task.
        tasks: Tasks to predict.

    Returns:
        One element per method and task: the constant predictor, ridge regression (if the run has
        it), the experts and EnECG.
    """
    outputs = predictor.outputs(features)
    decoded = predictor.decode(outputs)
    by_method: Predictions = {CONSTANT: {}}
    by_method |= {RIDGE: decoded[RIDGE]} if RIDGE in decoded else {}
    by_method |= decoded
    predictions = []
    for method, by_task in by_method.items():
        for task in tasks:
            targets = predictor.targets[task.name]
            known = unseen & targets.known(labels[task.column])
            truth = targets.encode(labels[task.column])[known]
            if method == CONSTANT:
                predicted = np.full(len(truth), targets.constant)
                probability = np.tile(targets.shares, (len(truth), 1))
                if task.kind == "multilabel":
                    predicted = (probability >= 0.5).astype(float)
            else:
                predicted = by_task[task.name][known]
                probability = outputs[method][task.name].cpu().numpy()[known]
            regression = task.kind == "regression"
            predictions.append(
                TaskPredictions(
                    task=task,
                    method=method,
                    repeat=repeat,
                    record_id=features.record_id[known],
                    patient_id=as_ids(labels["patient_id"])[known],
                    truth=targets.decode(truth) if regression else truth,
                    predicted=predicted.astype(np.float64),
                    probability=None if regression else probability.astype(np.float64),
                    labels=targets.classes if task.kind == "multilabel" else (),
                )
            )
    return predictions
