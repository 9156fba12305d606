"""Records and encoded labels of one repeat, on which its heads and gate are trained."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from enecg.ensembles.base import is_labeled, task_loss
from enecg.errors import UserError
from pipeline.labels.targets import Targets, fit_targets
from pipeline.training.cohorts import Cohort
from pipeline.training.features import Features
from pipeline.training.inputs import Inputs
from stores.record_ids import RecordIds, as_ids


@dataclass(frozen=True)
class LabeledRepeat:
    """Records and encoded labels of one repeat.

    Attributes:
        targets: Encoding of each task's labels, fitted on the training records.
        rows: Row of each record in `Features`: all training, then all validation, then all test
            records.
        encoded: Labels by task, in the order of `rows`: standardized values, class indices, or
            indicators of labels; NaN where unknown.
        train: Indices into `rows` of the training records.
        validation: Indices into `rows` of the validation records.
        test: Indices into `rows` of the test records.
        folds: `train`, split in two by patient.
        patients: Patient of each record, in the order of `rows`, as numbers from 0.
        seed: Seed of the repeat.
        learning_rate: Learning rate; None for that of the settings.
    """

    targets: dict[str, Targets]
    rows: Int[Tensor, " record"]
    encoded: dict[str, Float[Tensor, "record *label"]]
    train: Int[Tensor, " row"]
    validation: Int[Tensor, " row"]
    test: Int[Tensor, " row"]
    folds: tuple[Int[Tensor, " row"], Int[Tensor, " row"]]
    patients: Int[Tensor, " record"]
    seed: int
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        parts = torch.cat([self.train, self.validation, self.test]).tolist()
        assert parts == list(range(len(self.rows)))


def check_labels(cohort: Cohort, inputs: Inputs) -> None:
    """Check that every part of a cohort has labels for every task.

    Args:
        cohort: The cohort.
        inputs: Inputs with the tasks and labels.

    Raises:
        UserError: A part has no label for a task, only one training patient has one, or all
            training labels are equal; see `fit_targets`.
    """
    for task in inputs.tasks:
        training = inputs.labels.loc[cohort.train]
        targets = fit_targets(task, training[task.column])
        labeled = ~np.isnan(targets.encode(training[task.column]))
        if training["patient_id"][labeled.reshape(len(training), -1).any(1)].nunique() < 2:
            raise UserError(
                f"Repeat with seed {cohort.seed}: only one training patient has a label for "
                f"{task.name}; remove the task, or use more records."
            )
        for part, ids in (("validation", cohort.validation), ("test", cohort.test)):
            if np.isnan(targets.encode(inputs.labels.loc[ids, task.column])).all():
                raise UserError(
                    f"Repeat with seed {cohort.seed}: no {part} patient has a label for "
                    f"{task.name}; remove the task, or use more records."
                )


def label_repeat(cohort: Cohort, inputs: Inputs, features: Features) -> LabeledRepeat:
    """Fit the targets on a cohort's training records and encode the labels of all its records.

    Args:
        cohort: The cohort.
        inputs: Inputs with the tasks and labels.
        features: Embeddings of the records of the cohort.

    Returns:
        The labeled records.

    Raises:
        UserError: The training labels of a task cannot be fitted; see `fit_targets`.
    """
    training = inputs.labels.loc[cohort.train]
    labels = inputs.labels.loc[cohort.record_id]
    targets = {task.name: fit_targets(task, training[task.column]) for task in inputs.tasks}
    device = features.leads.device
    sizes = [len(cohort.train), len(cohort.validation), len(cohort.test)]
    train, validation, test = torch.arange(sum(sizes), device=device).split(sizes)
    encoded = {
        name: torch.from_numpy(fitted.encode(labels[fitted.task.column])).float().to(device)
        for name, fitted in targets.items()
    }
    return LabeledRepeat(
        targets,
        features.find_rows(cohort.record_id),
        encoded,
        train,
        validation,
        test,
        _split_in_half(cohort.seed, as_ids(training["patient_id"]), train),
        torch.from_numpy(pd.factorize(labels["patient_id"])[0]).long().to(device),
        cohort.seed,
    )


def validation_loss(
    repeat: LabeledRepeat, task: str, output: Float[Tensor, "record output"]
) -> float:
    """Compute the loss of predictions for the labeled validation records.

    Args:
        repeat: Records and labels.
        task: Name of the task.
        output: Standardized values, or probabilities of classes or labels, in the order of
            `repeat.rows`.

    Returns:
        The loss; see `task_loss`.
    """
    rows = repeat.validation[is_labeled(repeat.encoded[task][repeat.validation])]
    kind = repeat.targets[task].task.kind
    return float(task_loss(kind, output[rows], repeat.encoded[task][rows]))


def _split_in_half(seed: int, patient_id: RecordIds, train: Tensor) -> tuple[Tensor, Tensor]:
    """Split the training rows at random into two halves with disjoint patients."""
    patients = np.random.default_rng(seed).permutation(np.unique(patient_id))
    first = torch.from_numpy(np.isin(patient_id, patients[: len(patients) // 2])).to(train.device)
    return train[first], train[~first]
