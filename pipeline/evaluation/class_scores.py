"""AUROC of each class or label, with bootstrap intervals by patient."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from enecg.metrics import Metric, auroc
from pipeline.evaluation.predictions import TaskPredictions
from pipeline.evaluation.scores import Measure, draw_patients, measure

AUROC = Metric("AUROC", auroc, True, uses_probability=True)


def measure_classes(
    repeats: Sequence[TaskPredictions], classes: Sequence[Sequence[str]]
) -> dict[str, Measure]:
    """Measure the AUROC of each class against the other classes, or of each label.

    Args:
        repeats: Predictions of one method for a multiclass or multilabel task in each repeat.
        classes: Names of the classes or labels in each repeat.

    Returns:
        AUROC by name, averaged over the repeats in which it is defined. Classes without an AUROC,
        for example because they have no test record, are omitted.
    """
    counts = draw_patients(repeats, 0)
    by_name: dict[str, list[TaskPredictions]] = {}
    for predictions, names in zip(repeats, classes, strict=True):
        for name, one in zip(names, _split_classes(predictions), strict=True):
            by_name.setdefault(name, []).append(one)
    measured = {name: measure(AUROC, parts, counts) for name, parts in by_name.items()}
    return {name: one for name, one in measured.items() if not np.isnan(one.mean)}


def _split_classes(predictions: TaskPredictions) -> Iterator[TaskPredictions]:
    """Yield binary predictions for each class or label."""
    if predictions.labels:
        yield from predictions.by_label()
        return
    assert predictions.probability is not None
    for number in range(predictions.probability.shape[1]):
        positive = predictions.probability[:, number]
        yield replace(
            predictions,
            truth=(predictions.truth == number).astype(np.float64),
            predicted=(predictions.predicted == number).astype(np.float64),
            probability=np.stack([1 - positive, positive], 1),
        )
