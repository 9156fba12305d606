"""The repeats of the protocol, trained side by side: targets, heads, gate and ensembles fitted on
each cohort, and their answers for its test patients.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from enecg.ensembles import ENSEMBLES, HeadOutputs
from enecg.errors import UserError
from enecg.gate import mix
from enecg.tasks import Task
from pipeline.datasets.base import Dataset
from pipeline.evaluation.predictions import ENSEMBLE, ZERO_SHOT, TaskPredictions
from pipeline.labels.targets import Targets, fit_targets
from pipeline.training.answers import Judge
from pipeline.training.cache import Cache, Features
from pipeline.training.cohorts import Cohort
from pipeline.training.fit import Fit, FitSettings, HeadsFit, fit_heads
from pipeline.training.fit_gate import fit_gates
from pipeline.training.stack_data import RECORDS_AT_ONCE, Labelled
from stores.record_ids import RecordIds, as_ids

Step = Callable[[str, Sequence[Fit]], None]
"""Takes what has been trained, and what came of it for each repeat."""


@dataclass(frozen=True)
class Inputs:
    """What every repeat draws from: the stores, the records they have whole, and the labels.

    `left_out`: records asked for that some expert has no embedding of. `labels`: of `record_id`.
    `notes`: sentences on the labels, for below the tables.
    """

    dataset: Dataset
    cache: Cache
    record_id: RecordIds
    left_out: int
    labels: pd.DataFrame
    tasks: tuple[Task, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Repeat:
    """What one repeat came to.

    `thresholds`: of binary tasks, by method and task. `gate_weights`: by task, (test record,
    output or 1, expert). `predictions`: of every method on every task that it can do.
    `parameters`: of every method with any, how many are trained and how many there are.
    """

    cohort: Cohort
    targets: dict[str, Targets]
    heads: dict[str, HeadsFit]
    gate: Fit
    thresholds: dict[str, dict[str, float]]
    gate_weights: dict[str, Float[np.ndarray, "record output expert"]]
    predictions: tuple[TaskPredictions, ...]
    parameters: dict[str, tuple[int, int]]


def check_labels(cohort: Cohort, inputs: Inputs) -> None:
    """Raises UserError where a part of the cohort cannot bear a task, before any training."""
    for task in inputs.tasks:
        targets = fit_targets(task, inputs.labels.loc[cohort.train, task.column])
        for part, ids in (("validation", cohort.validation), ("test", cohort.test)):
            if np.isnan(targets.encode(inputs.labels.loc[ids, task.column])).all():
                raise UserError(
                    f"No {part} patient drawn by seed {cohort.seed} has a label for {task.name}; "
                    "leave it out of --tasks, or take more records."
                )


def run_repeats(
    cohorts: Sequence[Cohort],
    inputs: Inputs,
    features: Features,
    settings: FitSettings,
    step: Step,
    bases: Mapping[str, Sequence[nn.Linear]] | None = None,
) -> list[Repeat]:
    """Train on each cohort's training records and answer for its test records.

    `step` is called after each expert's heads, after the gates, and after the ensembles. `bases`:
    by expert, as `fit_heads` takes them.
    """
    labelled = [label_repeat(cohort, inputs, features) for cohort in cohorts]
    heads: dict[str, list[HeadsFit]] = {}
    for name, embedding in features.experts.items():
        given = None if bases is None else bases[name]
        heads[name] = fit_heads(embedding, labelled, settings, bases=given)
        step(name, heads[name])
    out_of_fold = [
        by_task({name: fits[number].out_of_fold for name, fits in heads.items()})
        for number in range(len(cohorts))
    ]
    gates = fit_gates(features.leads, labelled, out_of_fold, settings)
    step("gate", gates)
    repeats = [
        _answer(
            number,
            cohort,
            inputs,
            labelled[number],
            {name: fits[number] for name, fits in heads.items()},
            out_of_fold[number],
            gates[number],
            features,
        )
        for number, cohort in enumerate(cohorts)
    ]
    step("ensembles", ())
    return repeats


def _answer(
    number: int,
    cohort: Cohort,
    inputs: Inputs,
    labelled: Labelled,
    heads: dict[str, HeadsFit],
    out_of_fold: dict[str, Float[Tensor, "expert record output"]],
    gate: Fit,
    features: Features,
) -> Repeat:
    """All methods' answers on one repeat's test records."""
    outputs: dict[str, dict[str, Tensor]] = {name: fit.outputs for name, fit in heads.items()}
    stacked = by_task(outputs)
    combined: dict[str, dict[str, Tensor]] = {name: {} for name in ENSEMBLES}
    for task, targets in labelled.targets.items():
        given = HeadOutputs(
            targets.task.kind,
            stacked[task],
            out_of_fold[task],
            labelled.encoded[task],
            labelled.train,
            labelled.validation,
        )
        for name, ensemble in ENSEMBLES.items():
            made = ensemble(given, labelled.seed)
            if made is not None:
                combined[name][task] = made.prediction
    weights = _gate_weights(gate, features.leads[labelled.rows])
    mixed = {task: mix(weight, stacked[task]) for task, weight in weights.items()}
    judge = Judge(number, cohort.everyone, inputs.labels, labelled)
    thresholds: dict[str, dict[str, float]] = {}
    predictions = [judge.constant(task) for task in labelled.targets]
    for name, fit in heads.items():
        for task, output in fit.untrained.items():
            predictions.append(judge.untrained(ZERO_SHOT + name, task, output))
    for method, of_tasks in (outputs | combined | {ENSEMBLE: mixed}).items():
        thresholds[method] = {}
        for task, output in of_tasks.items():
            if labelled.targets[task].task.kind == "binary":
                thresholds[method][task] = judge.threshold(task, output)
            threshold = thresholds[method].get(task, float("nan"))
            predictions.append(judge.answers(method, task, output, threshold))
    return Repeat(
        cohort,
        labelled.targets,
        heads,
        gate,
        thresholds,
        {task: weight[labelled.test].cpu().numpy() for task, weight in weights.items()},
        tuple(predictions),
        _parameters(heads, gate),
    )


def _parameters(heads: dict[str, HeadsFit], gate: Fit) -> dict[str, tuple[int, int]]:
    """Trainable and all parameters of each expert's heads, of the ensembles (all heads, and not
    what joins them), and of EnECG: all heads and the gate.
    """
    of_heads = {name: (fit.trainable, fit.total) for name, fit in heads.items()}
    trainable = sum(one[0] for one in of_heads.values())
    total = sum(one[1] for one in of_heads.values())
    return (
        of_heads
        | {ZERO_SHOT + name: (0, size) for name, (_, size) in of_heads.items()}
        | dict.fromkeys(ENSEMBLES, (trainable, total))
        | {ENSEMBLE: (trainable + gate.trainable, total + gate.total)}
    )


def _gate_weights(
    gate: Fit, leads: Float[Tensor, "record feature"]
) -> dict[str, Float[Tensor, "record output expert"]]:
    gate.module.eval()
    with torch.no_grad():
        parts = [gate.module(part) for part in leads.split(RECORDS_AT_ONCE)]
    return {task: torch.cat([part[task] for part in parts]) for task in parts[0]}


def by_task(
    outputs: dict[str, dict[str, Tensor]],
) -> dict[str, Float[Tensor, "expert record output"]]:
    """Every expert's answers on each task, stacked."""
    tasks = next(iter(outputs.values()))
    return {task: torch.stack([of_tasks[task] for of_tasks in outputs.values()]) for task in tasks}


def label_repeat(cohort: Cohort, inputs: Inputs, features: Features) -> Labelled:
    """Fit the targets on the training records, and encode every record's labels by them."""
    of_training = inputs.labels.loc[cohort.train]
    of_all = inputs.labels.loc[cohort.everyone]
    targets = {task.name: fit_targets(task, of_training[task.column]) for task in inputs.tasks}
    device = features.leads.device
    sizes = [len(cohort.train), len(cohort.validation), len(cohort.test)]
    train, validation, test = torch.arange(sum(sizes), device=device).split(sizes)
    return Labelled(
        targets,
        features.rows_of(cohort.everyone),
        {
            name: torch.from_numpy(one.encode(of_all[one.task.column])).float().to(device)
            for name, one in targets.items()
        },
        train,
        validation,
        test,
        _halves(cohort.seed, as_ids(of_training["patient_id"]), train),
        cohort.seed,
    )


def _halves(seed: int, patient_id: RecordIds, train: Tensor) -> tuple[Tensor, Tensor]:
    """The training rows of one half of the patients, and of the other half."""
    patients = np.random.default_rng(seed).permutation(np.unique(patient_id))
    first = torch.from_numpy(np.isin(patient_id, patients[: len(patients) // 2])).to(train.device)
    return train[first], train[~first]
