"""Hyperparameter search on the embeddings in the stores.

Trials are compared by their loss on validation patients; test patients are not evaluated. Trials of
a batch that differ only in the learning rate are trained in one pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from enecg.checked_fields import Count, check_fields
from enecg.ensembles.base import is_labeled, task_loss
from enecg.errors import UserError
from pipeline.datasets.base import Dataset
from pipeline.extraction.request import resolve_device
from pipeline.labels.targets import fit_constant
from pipeline.training.features import Features, read_features
from pipeline.training.fit_gates import fit_gates
from pipeline.training.fit_heads import fit_heads
from pipeline.training.fitted_models import FittedModel
from pipeline.training.inputs import Inputs, prepare_inputs
from pipeline.training.labeled_repeat import LabeledRepeat, check_labels, label_repeat
from pipeline.training.mixtures import stack_outputs
from pipeline.training.pretraining_check import check_pretraining
from pipeline.training.settings import FitSettings, TrainSettings
from pipeline.training.splits import Splits, make_splits
from pipeline.training.sweep_space import Space, check_space, group_by_shape, suggest
from pipeline.training.sweep_study import (
    count_finished,
    open_study,
    tabulate_trials,
    translate_write_errors,
)
from pipeline.training.torch_state import single_thread

TABLE = "trials.csv"


@dataclass(frozen=True)
class SweepSettings:
    """Search space and number of trials of a sweep.

    Attributes:
        train: Tasks, experts, patients, and the hyperparameters that are not searched. Trials are
            trained on the cohort of the first repeat.
        space: Values to search. Default: those of `Space`.
        trials: Number of trials, including existing ones in the folder, at least 1. Default: 40.
        batch: Number of trials that are sampled together, at least 1. Default: 8.

    Raises:
        UserError: A value has the wrong type or is out of range.
    """

    train: TrainSettings
    space: Space = field(default_factory=Space)
    trials: Count = 40
    batch: Count = 8

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class SweepSummary:
    """Data, tasks and experts of a sweep.

    Attributes:
        dataset: Namespace of the data set.
        tasks: Titles of the tasks.
        records: Number of records in the cohort, including those of the unused test patients.
        patients: Number of patients in the cohort, including the unused test patients.
        weights: Weights by expert, such as ``"checkpoint"`` or ``"random:0"``.
        notes: Notes on the labels and the split.
        split: How patients are split into training, validation and test patients.
        finished: Time of completion in ISO 8601 format.
    """

    dataset: str
    tasks: tuple[str, ...]
    records: int
    patients: int
    weights: dict[str, str]
    notes: tuple[str, ...]
    split: str
    finished: str

    @property
    def untrained(self) -> list[str]:
        """Names of experts with random weights."""
        return [name for name, label in self.weights.items() if label.startswith("random:")]


@dataclass(frozen=True)
class Sweep:
    """Results of a sweep.

    Attributes:
        folder: Folder of the sweep.
        trials: All finished trials, sorted by loss; see `tabulate_trials`.
        best: Hyperparameters of the best trial, by name.
        loss: Loss of the best trial: EnECG's validation loss divided by that of the constant
            predictor, mean over tasks. 0 is perfect; 1 is no better than the constant predictor.
        summary: Data, tasks and experts.
    """

    folder: Path
    trials: pd.DataFrame
    best: dict[str, Any]
    loss: float
    summary: SweepSummary


def sweep(
    dataset: str | Dataset,
    store: str | Path,
    out: Path,
    settings: SweepSettings,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Sweep:
    """Run trials until the folder contains the requested number.

    Existing trials count towards that number, so an interrupted sweep resumes.

    Args:
        dataset: A data set, or its spec such as ``"mimic-iv-ecg:/data/mimic"``.
        store: Root folder or URL of the stores.
        out: Folder of the sweep, to which the study and the table of trials are written.
        settings: Search space, number of trials and fixed settings.
        progress: Called as ``progress(done, total)`` after each trial.

    Returns:
        All trials and the best settings.

    Raises:
        UserError: The folder is not writable or contains a different sweep, an option is invalid,
            stores or labels are missing or invalid, or an expert was pretrained on a test patient.
        StoreError: A store is incomplete or damaged.
    """
    device = resolve_device(settings.train.device)
    check_space(settings.space)
    inputs = {
        pooling: prepare_inputs(dataset, store, replace(settings.train, pooling=(pooling,)))
        for pooling in settings.space.pooling
    }
    _check_experts(inputs)
    splits = {
        pooling: check_pretraining(
            make_splits(replace(settings.train, repeats=1), pooling_inputs),
            pooling_inputs,
            settings.train,
        )[0]
        for pooling, pooling_inputs in inputs.items()
    }
    folds = next(iter(splits.values())).folds or {}
    study = open_study(out, settings.train, settings.space, inputs, folds.get("sha256", ""))
    features: dict[str, Features] = {}
    labeled: dict[str, LabeledRepeat] = {}
    for pooling, pooling_inputs in inputs.items():
        cohort = splits[pooling].cohorts[0]
        check_labels(cohort, pooling_inputs)
        record_id = np.sort(cohort.record_id)
        features[pooling] = read_features(pooling_inputs.cache, record_id, device)
        labeled[pooling] = label_repeat(cohort, pooling_inputs, features[pooling])
    while (done := count_finished(study)) < settings.trials:
        with translate_write_errors(out):
            batch = [study.ask() for _ in range(min(settings.batch, settings.trials - done))]
            suggested = [suggest(trial, settings.train.fit, settings.space) for trial in batch]
        with single_thread():
            for positions in group_by_shape(suggested):
                pooling = suggested[positions[0]][0]
                fits = [suggested[position][1] for position in positions]
                losses = _train_trials(features[pooling], labeled[pooling], fits)
                for position, loss in zip(positions, losses, strict=True):
                    with translate_write_errors(out):
                        study.tell(batch[position], loss)
                    if progress is not None:
                        progress(count_finished(study), settings.trials)
    table = tabulate_trials(study.get_trials(deepcopy=False))
    with translate_write_errors(out):
        table.to_csv(out / TABLE, index=False)
    pooling = settings.space.pooling[0]
    summary = _summarize(inputs[pooling], splits[pooling])
    return Sweep(out, table, study.best_params, study.best_value, summary)


def _summarize(inputs: Inputs, splits: Splits) -> SweepSummary:
    """Summarize the inputs of one pooling; all have the same data set, tasks and experts."""
    cohort = splits.cohorts[0]
    return SweepSummary(
        dataset=inputs.dataset.namespace,
        tasks=tuple(task.title for task in inputs.tasks),
        records=len(cohort.record_id),
        patients=int(inputs.labels.loc[cohort.record_id, "patient_id"].nunique()),
        weights={name: store.provenance["weights"] for name, store in inputs.cache.experts.items()},
        notes=(*inputs.notes, *splits.notes),
        split="by folds" if splits.folds else "70/20/10",
        finished=datetime.now().astimezone().isoformat(timespec="seconds"),
    )


def _check_experts(inputs: dict[str, Inputs]) -> None:
    """Check that all poolings have the same experts, so that their losses are comparable."""
    experts = {
        pooling: set(pooling_inputs.cache.experts) for pooling, pooling_inputs in inputs.items()
    }
    common = set.intersection(*experts.values())
    complete = ", ".join(sorted(common)) or "none"
    for pooling, available in experts.items():
        if available != common:
            raise UserError(
                f"{', '.join(sorted(available - common))}: stores exist for pooling {pooling}, but "
                "not for every pooling in --poolings; extract the missing stores, or select "
                f"experts that have all of them with --experts (available: {complete})."
            )


def _train_trials(
    features: Features, repeat: LabeledRepeat, fits: Sequence[FitSettings]
) -> list[float]:
    """Train trials that differ only in the learning rate and return their relative losses."""
    trials = [replace(repeat, learning_rate=fit.learning_rate) for fit in fits]
    heads = {
        name: fit_heads(embedding, trials, fits[0]) for name, embedding in features.experts.items()
    }
    outputs = [
        stack_outputs({name: fitted[index] for name, fitted in heads.items()})
        for index in range(len(trials))
    ]
    gates = fit_gates(features.leads, trials, outputs, fits[0])
    constant_losses = _compute_constant_losses(repeat)
    return [_compute_relative_loss(gate, constant_losses) for gate in gates]


def _compute_relative_loss(gate: FittedModel, constant_losses: dict[str, float]) -> float:
    """Return the mean ratio of the gate's best validation loss to the constant predictor's."""
    ratios = [
        np.nanmin(losses) / constant_losses[task] for task, losses in gate.validation_loss.items()
    ]
    return float(np.mean(ratios))


def _compute_constant_losses(repeat: LabeledRepeat) -> dict[str, float]:
    """Return the validation loss of the constant predictor by task."""
    losses = {}
    for task, targets in repeat.targets.items():
        encoded = repeat.encoded[task].cpu()
        training, truth = encoded[repeat.train.cpu()], encoded[repeat.validation.cpu()]
        training, truth = training[is_labeled(training)], truth[is_labeled(truth)]
        value, class_frequencies = fit_constant(
            targets.task.kind, training.numpy(), targets.outputs
        )
        if targets.task.kind == "regression":
            loss = torch.nn.functional.smooth_l1_loss(torch.full_like(truth, float(value)), truth)
        elif targets.task.kind == "multilabel":
            shares = torch.from_numpy(class_frequencies).float()
            loss = task_loss("multilabel", shares.expand_as(truth), truth)
        else:
            # Clamping keeps the logarithm finite for classes without training records.
            probability = (
                torch.from_numpy(class_frequencies).float().clamp_min(1e-7 / len(training))
            )
            loss = -probability.log()[truth.long()].mean()
        # The lower bound keeps the ratio finite if the constant predictor has no error.
        losses[task] = max(float(loss), 1e-6)
    return losses
