"""Combination of the outputs of several repeats into one prediction per ECG.

Values, probabilities, interval bounds, p-values and gate weights are means over the repeats. A
class that a repeat does not have has probability 0 in that repeat. Class 1 of a binary task, or a
label, is predicted if at least half of the repeats predict it, each with its own threshold. For a
multiclass task, the class with the largest mean probability is predicted.

With one repeat, the intervals and sets are those of split conformal prediction, except that a set
always contains the prediction. The mean of several p-values is below a level with at most twice the
probability of a single one (Vovk and Wang 2020). Over several repeats, sets therefore guarantee
only 80 % if 90 % is requested, and intervals with averaged bounds do not even guarantee 80 %. The
measured coverage is close to the requested one (docs/predict.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from pipeline.evaluation.predictions import ENSEMBLE
from pipeline.labels.targets import Targets
from pipeline.prediction.calibrated_repeat import CalibratedRepeat
from pipeline.prediction.calibration import Calibration
from pipeline.prediction.predicted import TaskPrediction
from pipeline.training.features import Features

_TOLERANCE = 1e-9
"""Margin by which a mean p-value must exceed ``1 - coverage``, for rounding errors."""


@dataclass(frozen=True)
class _Repeat:
    """Outputs of one repeat for the records of a batch and one task.

    Attributes:
        targets: Fitted targets.
        output: Values in the task's unit, shape (record, 1), or probabilities.
        predicted: Values, class indices, or indicators of labels.
        weights: Gate weights, averaged over outputs.
        calibration: Calibration; None for runs of earlier versions.
    """

    targets: Targets
    output: Float[np.ndarray, "record output"]
    predicted: Float[np.ndarray, "record *label"]
    weights: Float[np.ndarray, "record expert"]
    calibration: Calibration | None


def combine(
    repeats: Sequence[CalibratedRepeat], features: Features, tasks: Sequence[str], coverage: float
) -> list[dict[str, TaskPrediction]]:
    """Predict tasks for a batch of records.

    Args:
        repeats: Models of the repeats.
        features: Embeddings by all experts, and the gate's input.
        tasks: Names of the tasks.
        coverage: Coverage of intervals and sets, between 0 and 1.

    Returns:
        Predictions by task, one mapping per record.
    """
    outputs = [_compute(repeat, features) for repeat in repeats]
    experts = tuple(repeats[0].predictor.heads)
    predictions: list[dict[str, TaskPrediction]] = [{} for _ in features.record_id]
    for task in tasks:
        parts = [by_task[task] for by_task in outputs]
        regression = parts[0].targets.task.kind == "regression"
        build = _combine_values if regression else _combine_classes
        for row, prediction in enumerate(build(parts, coverage, experts)):
            predictions[row][task] = prediction
    return predictions


def relative_distances(
    repeats: Sequence[CalibratedRepeat], features: Features
) -> dict[str, Float[np.ndarray, " record"]]:
    """Compute the mean relative distance from the training embeddings over the repeats.

    Args:
        repeats: Models of the repeats.
        features: Embeddings by all experts.

    Returns:
        Distances by expert; see `EmbeddingDomain.relative_distance`. Empty for runs of earlier
        versions.
    """
    return {
        expert: torch.stack(
            [repeat.domains[expert].relative_distance(embedding) for repeat in repeats]
        )
        .mean(0)
        .cpu()
        .numpy()
        for expert, embedding in features.experts.items()
        if all(expert in repeat.domains for repeat in repeats)
    }


def _compute(repeat: CalibratedRepeat, features: Features) -> dict[str, _Repeat]:
    predictor = repeat.predictor
    outputs = predictor.outputs(features)
    decoded = predictor.decode({ENSEMBLE: outputs[ENSEMBLE]})[ENSEMBLE]
    weights = predictor.gate_weights(features)
    computed = {}
    for task, targets in predictor.targets.items():
        output = outputs[ENSEMBLE][task].cpu().numpy().astype(np.float64)
        computed[task] = _Repeat(
            targets,
            targets.decode(output) if targets.task.kind == "regression" else output,
            decoded[task],
            weights[task].mean(1).cpu().numpy(),
            repeat.calibrations.get(task),
        )
    return computed


def _combine_values(
    parts: Sequence[_Repeat], coverage: float, experts: tuple[str, ...]
) -> list[TaskPrediction]:
    """Average the values of a regression."""
    task = parts[0].targets.task
    values = np.mean([part.output[:, 0] for part in parts], axis=0)
    widths = [part.calibration.half_width(coverage) for part in parts if part.calibration]
    width = float(np.mean(widths)) if len(widths) == len(parts) else float("inf")
    return [
        TaskPrediction(
            task=task.name,
            title=task.title,
            kind=task.kind,
            unit=task.unit,
            value=float(value),
            interval=(float(value - width), float(value + width)) if np.isfinite(width) else None,
            labels=(),
            probabilities={},
            prediction_set=None,
            weights=weights,
        )
        for value, weights in zip(values, _mean_weights(parts, experts), strict=True)
    ]


def _combine_classes(
    parts: Sequence[_Repeat], coverage: float, experts: tuple[str, ...]
) -> list[TaskPrediction]:
    """Average the probabilities of classes or labels."""
    task = parts[0].targets.task
    names = tuple(dict.fromkeys(name for part in parts for name in part.targets.classes))
    probability = np.mean([_align(part, part.output, names) for part in parts], axis=0)
    chosen = _choose(parts, probability, names)
    accepted = np.zeros_like(chosen)
    calibrations = [part.calibration for part in parts]
    calibrated = all(calibrations)
    if calibrated:
        p_values = [
            _align(part, part.calibration.p_values(part.output), names)
            for part in parts
            if part.calibration
        ]
        accepted = np.mean(p_values, axis=0) > 1 - coverage + _TOLERANCE
    # The predicted class or label is never excluded.
    accepted = accepted | chosen

    def select(mask: np.ndarray) -> tuple[str, ...]:
        return tuple(name for name, selected in zip(names, mask, strict=True) if selected)

    return [
        TaskPrediction(
            task=task.name,
            title=task.title,
            kind=task.kind,
            unit="",
            value=None,
            interval=None,
            labels=select(chosen[row]),
            probabilities=dict(zip(names, map(float, probability[row]), strict=True)),
            prediction_set=select(accepted[row]) if calibrated else None,
            weights=weights,
        )
        for row, weights in enumerate(_mean_weights(parts, experts))
    ]


def _choose(
    parts: Sequence[_Repeat], probability: Float[np.ndarray, "record class"], names: tuple[str, ...]
) -> np.ndarray:
    """Return a mask of the predicted class, or of the predicted labels, of each record."""
    kind = parts[0].targets.task.kind
    if kind == "multilabel":
        votes = np.mean([_align(part, part.predicted, names) for part in parts], axis=0)
        return np.asarray(votes >= 0.5)
    if kind == "binary":
        chosen = (np.mean([part.predicted for part in parts], axis=0) >= 0.5).astype(int)
    else:
        chosen = probability.argmax(1)
    return np.asarray(np.arange(len(names)) == chosen[:, None])


def _align(
    part: _Repeat, values: Float[np.ndarray, "record output"], names: tuple[str, ...]
) -> Float[np.ndarray, "record class"]:
    """Reorder the columns of a repeat to the classes of all repeats; 0 for missing ones."""
    if part.targets.classes == names:
        return values
    aligned = np.zeros((len(values), len(names)))
    aligned[:, [names.index(name) for name in part.targets.classes]] = values
    return aligned


def _mean_weights(parts: Sequence[_Repeat], experts: tuple[str, ...]) -> list[dict[str, float]]:
    mean = np.mean([part.weights for part in parts], axis=0)
    return [dict(zip(experts, map(float, row), strict=True)) for row in mean]
