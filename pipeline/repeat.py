"""One repeat of the protocol: fit targets, heads and gate on one cohort, and answer for its test
patients.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from enecg.errors import UserError
from enecg.gate import mix
from enecg.tasks import Task
from pipeline.cache import Cache, Features
from pipeline.cohorts import Cohort
from pipeline.datasets.base import Dataset
from pipeline.evaluate import CONSTANT, ENSEMBLE, Predicted, choose_threshold, decide
from pipeline.fit import (
    Fit,
    FitSettings,
    Labelled,
    fit_gate,
    fit_heads,
    predict_heads,
    predict_unseen,
)
from pipeline.targets import Targets, constant
from pipeline.targets import fit as fit_targets


@dataclass(frozen=True)
class Inputs:
    """What every repeat draws from: the stores, the records they have whole, and the labels.

    `left_out`: records asked for that some expert has no embedding of. `labels`: of `record_id`.
    """

    dataset: Dataset
    cache: Cache
    record_id: np.ndarray
    left_out: int
    labels: pd.DataFrame
    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class Repeat:
    """What one repeat came to.

    `thresholds`: of binary tasks, by method and task. `gate_weights`: by task, (test record,
    expert). `predictions`: of every method on every task.
    """

    cohort: Cohort
    targets: dict[str, Targets]
    heads: dict[str, Fit]
    gate: Fit
    thresholds: dict[str, dict[str, float]]
    gate_weights: dict[str, Float[np.ndarray, "record expert"]]
    predictions: tuple[Predicted, ...]


def check_labels(cohort: Cohort, inputs: Inputs) -> None:
    """Raises UserError where a part of the cohort cannot bear a task, before any training."""
    for task in inputs.tasks:
        fit_targets(task, inputs.labels.loc[cohort.train, task.column])
        for part, ids in (("validation", cohort.validation), ("test", cohort.test)):
            if inputs.labels.loc[ids, task.column].isna().all():
                raise UserError(
                    f"No {part} patient drawn by seed {cohort.seed} has a label for {task.name}; "
                    "leave it out of --tasks, or take more records."
                )


def run_repeat(
    number: int,
    cohort: Cohort,
    inputs: Inputs,
    features: Features,
    settings: FitSettings,
    step: Callable[[], None],
) -> Repeat:
    """Train on the cohort's training records and answer for its test records.

    `step` is called after each expert's heads and after the gate.
    """
    labelled = _label(cohort, inputs, features)
    heads: dict[str, Fit] = {}
    outputs: dict[str, dict[str, Tensor]] = {}
    unseen: dict[str, dict[str, Tensor]] = {}
    for name, embedding in features.experts.items():
        heads[name] = fit_heads(embedding, labelled, settings, cohort.seed)
        outputs[name] = predict_heads(heads[name].module, embedding, labelled.targets)
        unseen[name] = predict_unseen(embedding, labelled, outputs[name], settings, cohort.seed)
        step()
    gate = fit_gate(features.leads, _stack(unseen), labelled, settings, cohort.seed)
    gate.module.eval()
    with torch.inference_mode():
        weights = gate.module(features.leads)
    stacked = _stack(outputs)
    outputs[ENSEMBLE] = {task: mix(weights[task], stacked[task]) for task in weights}
    step()

    judge = _Judge(number, cohort, inputs, features, labelled)
    thresholds: dict[str, dict[str, float]] = {method: {} for method in outputs}
    predictions = [judge.constant(task) for task in labelled.targets]
    for method, of_tasks in outputs.items():
        for task, output in of_tasks.items():
            if labelled.targets[task].task.kind == "binary":
                thresholds[method][task] = judge.threshold(task, output)
            predictions.append(
                judge.answers(method, task, output, thresholds[method].get(task, float("nan")))
            )
    test = features.rows_of(cohort.test)
    return Repeat(
        cohort,
        labelled.targets,
        heads,
        gate,
        thresholds,
        {task: weight[test].cpu().numpy() for task, weight in weights.items()},
        tuple(predictions),
    )


def _stack(
    outputs: dict[str, dict[str, Tensor]],
) -> dict[str, Float[Tensor, "expert record output"]]:
    tasks = next(iter(outputs.values()))
    return {task: torch.stack([of_tasks[task] for of_tasks in outputs.values()]) for task in tasks}


def _label(cohort: Cohort, inputs: Inputs, features: Features) -> Labelled:
    """Fit the targets on the training records, and encode every record's labels by them."""
    of_training = inputs.labels.loc[cohort.train]
    of_all = inputs.labels.loc[features.record_id]
    targets = {task.name: fit_targets(task, of_training[task.column]) for task in inputs.tasks}
    device = features.leads.device
    return Labelled(
        targets,
        {
            name: torch.from_numpy(one.encode(of_all[one.task.column])).float().to(device)
            for name, one in targets.items()
        },
        features.rows_of(cohort.train),
        features.rows_of(cohort.validation),
        _halves(cohort, of_training["patient_id"].to_numpy(), features),
    )


def _halves(cohort: Cohort, patient_id: np.ndarray, features: Features) -> tuple[Tensor, Tensor]:
    """Rows of the training records of one half of the patients, and of the other half."""
    patients = np.random.default_rng(cohort.seed).permutation(np.unique(patient_id))
    first = np.isin(patient_id, patients[: len(patients) // 2])
    return features.rows_of(cohort.train[first]), features.rows_of(cohort.train[~first])


class _Judge:
    """Turns outputs over all records into answers on the test records with a known label."""

    def __init__(
        self, number: int, cohort: Cohort, inputs: Inputs, features: Features, labelled: Labelled
    ) -> None:
        self.number = number
        self.cohort = cohort
        self.targets = labelled.targets
        self.labels = inputs.labels
        self.record_id = features.record_id
        self.encoded = {name: one.cpu().numpy() for name, one in labelled.encoded.items()}
        self.rows = {
            "train": labelled.train.cpu().numpy(),
            "validation": labelled.validation.cpu().numpy(),
            "test": features.rows_of(cohort.test).cpu().numpy(),
        }

    def _known(self, task: str, part: str) -> np.ndarray:
        rows = self.rows[part]
        known: np.ndarray = rows[~np.isnan(self.encoded[task][rows])]
        return known

    def threshold(self, task: str, output: Tensor) -> float:
        rows = self._known(task, "validation")
        probability = output[:, 1].cpu().numpy()[rows]
        return choose_threshold(probability, self.encoded[task][rows].astype(int))

    def constant(self, task: str) -> Predicted:
        best = constant(self.targets[task], self.encoded[task][self._known(task, "train")])
        if self.targets[task].task.kind == "regression":
            best = self.targets[task].decode(best)
        rows = self._known(task, "test")
        return self._predicted(CONSTANT, task, rows, np.full(len(rows), float(best)))

    def answers(self, method: str, task: str, output: Tensor, threshold: float) -> Predicted:
        rows = self._known(task, "test")
        decided = decide(self.targets[task], output.cpu().numpy()[rows], threshold)
        return self._predicted(method, task, rows, decided)

    def _predicted(
        self, method: str, task: str, rows: np.ndarray, predicted: np.ndarray
    ) -> Predicted:
        targets = self.targets[task]
        truth = self.encoded[task][rows].astype(np.float64)
        if targets.task.kind == "regression":
            truth = targets.decode(truth)
        record_id = self.record_id[rows]
        return Predicted(
            task=targets.task,
            method=method,
            repeat=self.number,
            record_id=record_id,
            patient_id=self.labels.loc[record_id, "patient_id"].to_numpy(),
            truth=truth,
            predicted=predicted.astype(np.float64),
        )
