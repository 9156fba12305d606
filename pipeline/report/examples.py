"""Test records with the largest errors and with typical errors, for a page with ECGs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipeline.evaluation.predictions import TaskPredictions
from pipeline.labels.targets import Targets
from pipeline.runs.run_details import RunDetails

COUNT = 10
"""Maximum number of records with the largest errors, and with typical errors."""
MAX_LABELS = 6
"""Maximum number of labels of a record that are listed."""


@dataclass(frozen=True)
class Example:
    """EnECG's prediction for one test record.

    Attributes:
        record_id: Id of the record.
        repeat: Index of the repeat.
        truth: The true value, class or labels.
        predicted: The predicted value, class with its probability, or labels.
        error: The error, with its kind and unit.
        weights: Name and gate weight of each expert; empty without a gate.
    """

    record_id: str | int
    repeat: int
    truth: str
    predicted: str
    error: str
    weights: tuple[tuple[str, str], ...]


def choose_examples(
    details: RunDetails, task: str, experts: Sequence[str]
) -> tuple[list[Example], list[Example]]:
    """Choose test records with the largest errors, and with errors close to the median.

    The error is the absolute error for a regression task, and the cross-entropy for other tasks
    (mean over the labels of a multilabel task). A record that is in several repeats is chosen once.

    Args:
        details: Details of the run.
        task: Name of the task.
        experts: Names of the experts, in the order of the gate's weights.

    Returns:
        The records with the largest errors, in decreasing order, and those with the errors closest
        to the median, in increasing order of the error.
    """
    repeats = details.ensemble(task)
    errors = [measure_errors(predictions) for predictions in repeats]
    ranked = sorted(
        (float(error), repeat, row)
        for repeat, repeat_errors in enumerate(errors)
        for row, error in enumerate(repeat_errors)
    )
    median = float(np.median(np.concatenate(errors)))
    seen: set[str | int] = set()

    def take(order: Sequence[tuple[float, int, int]]) -> list[tuple[float, int, int]]:
        taken: list[tuple[float, int, int]] = []
        for error, repeat, row in order:
            record = repeats[repeat].record_id[row].item()
            if len(taken) < COUNT and record not in seen:
                seen.add(record)
                taken.append((error, repeat, row))
        return taken

    largest = take(ranked[::-1])
    typical = sorted(take(sorted(ranked, key=lambda entry: abs(entry[0] - median))))
    build = _ExampleBuilder(details, task, experts)
    return [build(*entry) for entry in largest], [build(*entry) for entry in typical]


def measure_errors(predictions: TaskPredictions) -> Float[np.ndarray, " record"]:
    """Return the error of each record; see `choose_examples`."""
    truth, probability = predictions.truth, predictions.probability
    errors: np.ndarray
    if probability is None:
        errors = np.abs(predictions.predicted - truth)
    elif predictions.labels:
        of_truth = np.where(truth == 1, probability, 1 - probability)
        errors = -np.log(np.maximum(of_truth, 1e-12)).mean(1)
    else:
        of_class = probability[np.arange(len(truth)), truth.astype(int)]
        errors = -np.log(np.maximum(of_class, 1e-12))
    return errors


@dataclass(frozen=True)
class _ExampleBuilder:
    details: RunDetails
    task: str
    experts: Sequence[str]

    def __call__(self, error: float, repeat: int, row: int) -> Example:
        predictions = self.details.ensemble(self.task)[repeat]
        targets = self.details.targets[repeat][self.task]
        truth, predicted = _describe(predictions, targets, row)
        weights = self.details.gate_weights.get(self.task)
        unit = f" {targets.task.unit}".rstrip() if targets.task.kind == "regression" else ""
        kind = "absolute error" if targets.task.kind == "regression" else "cross-entropy"
        return Example(
            record_id=predictions.record_id[row].item(),
            repeat=repeat,
            truth=truth,
            predicted=predicted,
            error=f"{kind} {error:.3g}{unit}",
            weights=()
            if weights is None
            else tuple(
                (name, f"{weight:.2f}")
                for name, weight in zip(self.experts, weights[repeat][row], strict=True)
            ),
        )


def _describe(predictions: TaskPredictions, targets: Targets, row: int) -> tuple[str, str]:
    """Describe the true value and the prediction of a record."""
    truth, predicted = predictions.truth[row], predictions.predicted[row]
    probability = predictions.probability
    if probability is None:
        unit = f" {targets.task.unit}".rstrip()
        return f"{truth:.4g}{unit}", f"{predicted:.4g}{unit}"
    if predictions.labels:
        return _list_labels(predictions.labels, truth), _list_labels(predictions.labels, predicted)
    names, chosen = targets.classes, int(predicted)
    return names[int(truth)], f"{names[chosen]} (probability {probability[row, chosen]:.3f})"


def _list_labels(labels: Sequence[str], present: Float[np.ndarray, " label"]) -> str:
    names = [name for name, value in zip(labels, present, strict=True) if value]
    more = f" and {len(names) - MAX_LABELS} more" if len(names) > MAX_LABELS else ""
    return f"{', '.join(names[:MAX_LABELS])}{more}" if names else "no label"
