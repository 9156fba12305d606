"""Hyperparameter search on validation patients, from the stores alone.

Trials of a batch whose FFNs have one shape are trained in one pass, each with its own learning
rate. Test patients are never read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from enecg.errors import UserError
from pipeline.datasets.base import Dataset
from pipeline.extraction.request import resolve_device
from pipeline.labels.targets import fit_constant
from pipeline.training.cohorts import Cohort, draw_cohort
from pipeline.training.features import Features, read_features
from pipeline.training.fit_gates import fit_gates
from pipeline.training.fit_heads import FittedModel, fit_heads
from pipeline.training.inputs import Inputs, prepare_inputs
from pipeline.training.labeled_repeat import LabeledRepeat, check_labels, label_repeat
from pipeline.training.repeat import stack_out_of_fold
from pipeline.training.settings import FitSettings, TrainSettings
from pipeline.training.sweep_space import Space, check_space, group_by_shape, suggest
from pipeline.training.sweep_study import count_finished, open_study, tabulate_trials
from pipeline.training.torch_state import single_thread
from stores.record_ids import as_ids

TABLE = "trials.csv"


@dataclass(frozen=True)
class SweepSettings:
    """What to search, and how long.

    Attributes:
        train: Tasks, experts, patients, and the hyperparameters that are not searched. Only the
            first repeat is used.
        space: Values to try. Default: `Space`'s.
        trials: Total number of trials in the folder, at least 1. Default: 40.
        batch: Trials suggested together, at least 1. Default: 8.
    """

    train: TrainSettings
    space: Space = field(default_factory=Space)
    trials: int = 40
    batch: int = 8


@dataclass(frozen=True)
class SweepSummary:
    """What a sweep was made from.

    Attributes:
        dataset: Namespace of the data set.
        tasks: Titles of the tasks.
        records: Number of records drawn, including those of the unused test patients.
        patients: Number of patients drawn, including the test patients.
        weights: Weights by expert.
        notes: Remarks on the labels.
        finished: Time in ISO 8601 format.
    """

    dataset: str
    tasks: tuple[str, ...]
    records: int
    patients: int
    weights: dict[str, str]
    notes: tuple[str, ...]
    finished: str

    @property
    def untrained(self) -> list[str]:
        """Experts with random weights."""
        return [name for name, label in self.weights.items() if label.startswith("random:")]


@dataclass(frozen=True)
class Sweep:
    """A finished sweep.

    Attributes:
        folder: Folder of the sweep.
        trials: All finished trials, the lowest loss first.
        best: Settings of the best trial.
        loss: Loss of the best trial: EnECG's validation loss divided by that of the constant
            predictor, mean over tasks. 0 is perfect; 1 is no better than the constant predictor.
        summary: What the sweep was made from.
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
    """Try hyperparameters until the folder has the requested number of trials.

    Existing trials count, so an interrupted sweep resumes.

    Args:
        dataset: A data set, or its spec such as ``"mimic-iv-ecg:/data/mimic"``.
        store: Root folder or URL of the stores.
        out: Folder of the sweep.
        settings: What to search.
        progress: Called as ``progress(done, total)`` after each trial.

    Returns:
        All trials, and the best settings.

    Raises:
        UserError: The folder holds a different sweep, or an option, store or label is invalid.
        StoreError: A store is incomplete or damaged.
    """
    device = resolve_device(settings.train.device)
    check_space(settings.space)
    inputs = {
        pooling: prepare_inputs(dataset, store, replace(settings.train, pooling=(pooling,)))
        for pooling in settings.space.pooling
    }
    _check_experts(inputs)
    study = open_study(out, settings.train, settings.space, inputs)
    features: dict[str, Features] = {}
    labeled: dict[str, LabeledRepeat] = {}
    for pooling, given in inputs.items():
        cohort = draw_cohort(
            given.record_id,
            as_ids(given.labels["patient_id"]),
            patients=settings.train.patients,
            seed=settings.train.seed,
            ecgs=settings.train.ecgs,
        )
        check_labels(cohort, given)
        features[pooling] = read_features(given.cache, np.sort(cohort.record_id), device)
        labeled[pooling] = label_repeat(cohort, given, features[pooling])
    while (done := count_finished(study)) < settings.trials:
        batch = [study.ask() for _ in range(min(settings.batch, settings.trials - done))]
        suggested = [suggest(trial, settings.train.fit, settings.space) for trial in batch]
        with single_thread():
            for numbers in group_by_shape(suggested):
                pooling = suggested[numbers[0]][0]
                fits = [suggested[number][1] for number in numbers]
                losses = _train_trials(features[pooling], labeled[pooling], fits)
                for number, loss in zip(numbers, losses, strict=True):
                    study.tell(batch[number], loss)
                    if progress is not None:
                        progress(count_finished(study), settings.trials)
    table = tabulate_trials(study.get_trials(deepcopy=False))
    table.to_csv(out / TABLE, index=False)
    return Sweep(out, table, study.best_params, study.best_value, _summarize(given, cohort))


def _summarize(inputs: Inputs, cohort: Cohort) -> SweepSummary:
    """Describe the inputs; data set, tasks and experts are the same for all poolings."""
    return SweepSummary(
        dataset=inputs.dataset.namespace,
        tasks=tuple(task.title for task in inputs.tasks),
        records=len(cohort.record_id),
        patients=int(inputs.labels.loc[cohort.record_id, "patient_id"].nunique()),
        weights={name: store.provenance["weights"] for name, store in inputs.cache.experts.items()},
        notes=inputs.notes,
        finished=datetime.now().astimezone().isoformat(timespec="seconds"),
    )


def _check_experts(inputs: dict[str, Inputs]) -> None:
    """Check that all poolings have the same experts, since otherwise experts are compared too."""
    experts = {pooling: set(given.cache.experts) for pooling, given in inputs.items()}
    common = set.intersection(*experts.values())
    for pooling, available in experts.items():
        if available != common:
            raise UserError(
                f"Only pooling {pooling} has stores of {', '.join(sorted(available - common))}; "
                f"select experts that have stores with every pooling in --poolings "
                f"({', '.join(sorted(common)) or 'none'}) with --experts, or extract the others."
            )


def _train_trials(
    features: Features, repeat: LabeledRepeat, fits: Sequence[FitSettings]
) -> list[float]:
    """Train trials that differ in the learning rate only; return their relative losses."""
    trials = [replace(repeat, learning_rate=fit.learning_rate) for fit in fits]
    heads = {
        name: fit_heads(embedding, trials, fits[0]) for name, embedding in features.experts.items()
    }
    out_of_fold = [
        stack_out_of_fold({name: fitted[number] for name, fitted in heads.items()})
        for number in range(len(trials))
    ]
    gates = fit_gates(features.leads, trials, out_of_fold, fits[0])
    constant = _constant_loss(repeat)
    return [_relative_loss(gate, constant) for gate in gates]


def _relative_loss(gate: FittedModel, constant: dict[str, float]) -> float:
    """Divide the gate's best validation losses by the constant predictor's; mean over tasks."""
    return float(
        np.mean(
            [np.nanmin(losses) / constant[task] for task, losses in gate.validation_loss.items()]
        )
    )


def _constant_loss(repeat: LabeledRepeat) -> dict[str, float]:
    """Return the validation loss of the constant predictor by task."""
    losses = {}
    for task, targets in repeat.targets.items():
        encoded = repeat.encoded[task].cpu()
        training, truth = encoded[repeat.train.cpu()], encoded[repeat.validation.cpu()]
        training, truth = training[~training.isnan()], truth[~truth.isnan()]
        value, shares = fit_constant(targets.task.kind, training.numpy(), targets.outputs)
        if targets.task.kind == "regression":
            loss = torch.nn.functional.smooth_l1_loss(torch.full_like(truth, float(value)), truth)
        else:
            # The minimum keeps the logarithm finite for classes without a training record.
            probability = torch.from_numpy(shares).float().clamp_min(1e-7 / len(training))
            loss = -probability.log()[truth.long()].mean()
        # The minimum keeps the ratio finite if the constant predictor makes no error.
        losses[task] = max(float(loss), 1e-6)
    return losses
