"""Training of heads, gate and ensembles in all repeats, and their predictions for test records."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from enecg.ensembles import ENSEMBLES, HeadOutputs
from enecg.gate import Mixture
from pipeline.evaluation.predictions import ENSEMBLE, RIDGE, ZERO_SHOT, TaskPredictions
from pipeline.evaluation.thresholds import Threshold
from pipeline.labels.targets import Targets
from pipeline.training.cohorts import Cohort
from pipeline.training.features import Features
from pipeline.training.fit_heads import fit_heads
from pipeline.training.fitted_models import FittedHeads, FittedModel
from pipeline.training.inputs import Inputs
from pipeline.training.labeled_repeat import LabeledRepeat, label_repeat, validation_loss
from pipeline.training.mixtures import (
    compute_gate_weights,
    fit_mixtures,
    mix_outputs,
    stack_outputs,
)
from pipeline.training.parallel import map_in_threads
from pipeline.training.predictions import PredictionBuilder
from pipeline.training.ridge_baseline import RidgeBaseline, choose_ridge
from pipeline.training.settings import FitSettings

MAX_STACKED_RECORDS = 4096
"""Number of records of a repeat above which the heads of each repeat are trained separately."""

BEST_EXPERT = "best expert"
"""The expert with the lowest validation loss, in each repeat."""

_Outputs = dict[str, dict[str, Tensor]]
"""Outputs for all records of a repeat by method and task, of shape (record, output)."""

LogFit = Callable[[str, Sequence[FittedModel]], None]
"""Called with a name (an expert, ``"gate"`` or ``"ensembles"``) and its trained models, one per
repeat; without models for ensembles."""


@dataclass(frozen=True)
class Repeat:
    """Trained models and test predictions of one repeat.

    Attributes:
        cohort: The repeat's records.
        targets: Fitted targets, by task.
        heads: Heads, by expert.
        gate: The gate; `SingleExpertGate` without losses if there is only one expert.
        thresholds: Decision thresholds of binary and multilabel tasks, by method and task.
        gate_weights: Weights of the experts for each test record, by task. The second axis has
            length 1 if all outputs of a task share the weights.
        predictions: Predictions of every method for every task that it supports.
        validation: EnECG's predictions for the validation records, used to calibrate new
            predictions. They are from the saved heads, except that linear paths are fitted without
            the record's patient.
        parameters: Numbers of trainable and of all parameters, by method.
        ridge: The ridge regression baseline.
        validation_loss: Loss on validation records, by method and task.
    """

    cohort: Cohort
    targets: dict[str, Targets]
    heads: dict[str, FittedHeads]
    gate: FittedModel
    thresholds: dict[str, dict[str, Threshold]]
    gate_weights: dict[str, Float[np.ndarray, "record output expert"]]
    predictions: tuple[TaskPredictions, ...]
    validation: tuple[TaskPredictions, ...]
    parameters: dict[str, tuple[int, int]]
    ridge: RidgeBaseline
    validation_loss: dict[str, dict[str, float]]


def run_repeats(
    cohorts: Sequence[Cohort],
    inputs: Inputs,
    features: Features,
    settings: FitSettings,
    log: LogFit,
    bases: Mapping[str, Sequence[nn.Linear]] | None = None,
    *,
    threads: int = 1,
) -> list[Repeat]:
    """Train the models of every cohort and predict its test records.

    With one expert, no gate and no ensembles are trained, because they would equal the expert.

    Args:
        cohorts: The cohort of each repeat.
        inputs: Inputs with the tasks and labels.
        features: Embeddings of the records of all cohorts.
        settings: Hyperparameters.
        log: Called after each expert's heads, after the gates and after the ensembles.
        bases: Frozen hidden layer of each repeat, by expert; see `fit_heads`.
        threads: Maximum number of threads. Each trains the heads of one expert or, with more than
            `MAX_STACKED_RECORDS` records, of one expert and repeat. Then, gates and ensembles are
            trained in parallel. The results do not depend on the number of threads.

    Returns:
        The trained repeats, in the order of `cohorts`.

    Raises:
        UserError: The labels of a cohort do not suffice, or a temporary file cannot be allocated.
    """
    labeled = [label_repeat(cohort, inputs, features) for cohort in cohorts]
    parts = _split_repeats(labeled, threads)
    names = list(features.experts)

    def fit(unit: tuple[str, Sequence[int]]) -> list[FittedHeads]:
        name, part = unit
        layers = None if bases is None else [bases[name][index] for index in part]
        repeats = [labeled[index] for index in part]
        combined = len(names) > 1
        return fit_heads(features.experts[name], repeats, settings, layers, combined=combined)

    fitted = map_in_threads(fit, list(product(names, parts)), threads)
    heads: dict[str, list[FittedHeads]] = {}
    for name in names:
        heads[name] = [fit for fits in islice(fitted, len(parts)) for fit in fits]
        log(name, heads[name])
    by_repeat = [dict(zip(heads, fits, strict=True)) for fits in zip(*heads.values(), strict=True)]

    def fit_gates() -> list[FittedModel]:
        return fit_mixtures(features.leads, labeled, by_repeat, settings)

    def fit_ensembles() -> list[_Outputs]:
        return [
            _compute_ensembles(repeat, fits)
            for repeat, fits in zip(labeled, by_repeat, strict=True)
        ]

    steps: Sequence[Callable[[], Any]] = (fit_gates, fit_ensembles)
    done = map_in_threads(lambda step: step(), steps, threads)
    gates = next(done)
    if len(heads) > 1:
        log("gate", gates)
    (ensembles,) = done
    repeats = []
    for index, (cohort, repeat, fits, gate) in enumerate(
        zip(cohorts, labeled, by_repeat, gates, strict=True)
    ):
        builder = PredictionBuilder(index, cohort.record_id, inputs.labels, repeat)
        weights = compute_gate_weights(gate, features.leads, repeat.rows)
        ridge = choose_ridge(fits, repeat)
        outputs: _Outputs = {RIDGE: ridge.outputs} | {
            name: fit.outputs for name, fit in fits.items()
        }
        outputs |= ensembles[index]
        outputs[ENSEMBLE] = mix_outputs(repeat, stack_outputs(fits), weights, settings.mixture)
        thresholds = builder.choose_thresholds(outputs)
        repeats.append(
            Repeat(
                cohort,
                repeat.targets,
                fits,
                gate,
                thresholds,
                {task: weight[repeat.test].cpu().numpy() for task, weight in weights.items()},
                tuple(_predict(builder, fits, outputs, thresholds)),
                tuple(
                    _predict_validation(
                        builder,
                        _mix_validation(repeat, fits, weights, settings.mixture),
                        thresholds[ENSEMBLE],
                    )
                ),
                _count_parameters(fits, gate)
                | {RIDGE: (ridge.count_parameters(), ridge.count_parameters())},
                ridge,
                {
                    method: {
                        task: validation_loss(repeat, task, output)
                        for task, output in by_task.items()
                    }
                    for method, by_task in outputs.items()
                },
            )
        )
    if len(heads) > 1:
        log("ensembles", ())
    return repeats


def _split_repeats(repeats: Sequence[LabeledRepeat], threads: int) -> list[Sequence[int]]:
    """Divide the repeats into parts whose heads are trained in one pass each.

    With few records, training in one pass is faster, because calling torch takes longer than the
    arithmetic. With many, it is not, and more parts occupy several threads more evenly. Repeats
    with different numbers of records are not divided, because the largest number determines the
    features of all heads that are trained in one pass; see `fit_heads`.

    Args:
        repeats: The repeats.
        threads: Number of threads.

    Returns:
        Indices of the repeats of each part.
    """
    sizes = {len(repeat.rows) for repeat in repeats}
    if threads > 1 and len(sizes) == 1 and min(sizes) > MAX_STACKED_RECORDS:
        return [[index] for index in range(len(repeats))]
    return [range(len(repeats))]


def choose_references(repeats: Sequence[Repeat]) -> dict[str, dict[str, list[str]]]:
    """Choose the methods that EnECG is compared with, by their validation loss.

    Args:
        repeats: The trained repeats.

    Returns:
        Name of the chosen method in each repeat, by reference and task. The references are the best
        of several experts, the best ensemble besides EnECG, and ridge regression. References
        without a candidate are omitted.
    """
    experts = list(repeats[0].heads)
    candidates = {
        BEST_EXPERT: experts if len(experts) > 1 else [],
        "best other ensemble": [name for name in ENSEMBLES if name in repeats[0].validation_loss],
        RIDGE: [RIDGE],
    }
    chosen: dict[str, dict[str, list[str]]] = {}
    for reference, methods in candidates.items():
        for task in repeats[0].targets if methods else ():
            chosen.setdefault(reference, {})[task] = [
                min(
                    (method for method in methods if task in repeat.validation_loss[method]),
                    key=lambda method: repeat.validation_loss[method][task],
                )
                for repeat in repeats
            ]
    return chosen


def _compute_ensembles(repeat: LabeledRepeat, heads: dict[str, FittedHeads]) -> _Outputs:
    """Return the outputs of every ensemble for the tasks that it supports."""
    ensembles: _Outputs = {name: {} for name in ENSEMBLES} if len(heads) > 1 else {}
    stacked = stack_outputs(heads)
    for task, targets in repeat.targets.items() if ensembles else ():
        head_outputs = HeadOutputs(
            targets.task.name,
            targets.task.kind,
            stacked[task],
            repeat.encoded[task],
            repeat.train,
            repeat.validation,
        )
        for name, ensemble in ENSEMBLES.items():
            combined = ensemble(head_outputs, repeat.seed)
            if combined is not None:
                ensembles[name][task] = combined.prediction
    return ensembles


def _predict(
    builder: PredictionBuilder,
    heads: dict[str, FittedHeads],
    outputs: _Outputs,
    thresholds: dict[str, dict[str, Threshold]],
) -> list[TaskPredictions]:
    """Predict the test records with every method, the baselines first."""
    predictions = [builder.predict_constant(task) for task in builder.targets]
    for name, fit in heads.items():
        for task, output in fit.untrained.items():
            predictions.append(builder.predict_untrained(ZERO_SHOT + name, task, output))
    return [*predictions, *builder.predict_methods(outputs, thresholds)]


def _mix_validation(
    repeat: LabeledRepeat,
    heads: dict[str, FittedHeads],
    weights: dict[str, Float[Tensor, "record output expert"]],
    mixture: Mixture,
) -> dict[str, Float[Tensor, "record output"]]:
    """Compute EnECG's outputs for the validation records; those of other records are 0."""
    stacked = {
        task: torch.stack([fit.validation[task] for fit in heads.values()]) for task in weights
    }
    validation = {task: weight[repeat.validation] for task, weight in weights.items()}
    outputs = {}
    for task, mixed in mix_outputs(repeat, stacked, validation, mixture).items():
        outputs[task] = mixed.new_zeros((len(repeat.rows), mixed.shape[1]))
        outputs[task][repeat.validation] = mixed
    return outputs


def _predict_validation(
    builder: PredictionBuilder, outputs: dict[str, Tensor], thresholds: dict[str, Threshold]
) -> list[TaskPredictions]:
    """Predict the validation records with EnECG."""
    return [
        builder.predict(ENSEMBLE, task, output, thresholds.get(task, float("nan")), "validation")
        for task, output in outputs.items()
    ]


def _count_parameters(
    heads: dict[str, FittedHeads], gate: FittedModel
) -> dict[str, tuple[int, int]]:
    """Count trainable and all parameters by method: those of heads and, for EnECG, of the gate."""
    by_expert = {name: (fit.trainable, fit.total) for name, fit in heads.items()}
    trainable = sum(fit.trainable for fit in heads.values())
    total = sum(fit.total for fit in heads.values())
    return (
        by_expert
        | {ZERO_SHOT + name: (0, fit.total) for name, fit in heads.items()}
        | dict.fromkeys(ENSEMBLES if len(heads) > 1 else (), (trainable, total))
        | {ENSEMBLE: (trainable + gate.trainable, total + gate.total)}
    )
