"""Which settings do best on validation patients: many trainings from the stores, by Optuna.

Trials that are asked for together and have FFNs of one shape are trained in one pass, with a
learning rate each. No test patient is ever looked at.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from enecg.errors import UserError
from pipeline.datasets.base import Dataset
from pipeline.extraction.request import resolve_device
from pipeline.labels.targets import fit_constant
from pipeline.training.cache import Features, read_features
from pipeline.training.cohorts import Cohort, draw
from pipeline.training.fit import Fit, FitSettings, fit_heads
from pipeline.training.fit_gate import fit_gates
from pipeline.training.gather import gather
from pipeline.training.repeat import Inputs, by_task, check_labels, label_repeat
from pipeline.training.stack import one_thread
from pipeline.training.stack_data import Labelled
from pipeline.training.sweep_space import Space, check_space, of_one_shape, suggest
from pipeline.training.train_settings import TrainSettings
from stores.record_ids import as_ids

JOURNAL = "trials.journal"
QUESTION = "question.json"
TABLE = "trials.csv"


@dataclass(frozen=True)
class Origin:
    """What a sweep was made from: the data set, the tasks by title, the ECGs and patients drawn of
    whom the test patients' are set aside, the weights by expert, and sentences on the labels.
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
        """The experts whose weights were drawn at random."""
        return [name for name, told in self.weights.items() if told.startswith("random:")]


@dataclass(frozen=True)
class Sweep:
    """A finished sweep: the folder, every trial in a table, and the best trial's settings.

    `loss`: the mean over tasks of the mixture's validation loss, as a share of the constant
    predictor's: 1 is no better, 0 is without error. `origin`: of whom.
    """

    folder: Path
    trials: pd.DataFrame
    best: dict[str, Any]
    loss: float
    origin: Origin


def sweep(
    dataset: str | Dataset,
    store: str | Path,
    out: Path,
    settings: TrainSettings,
    space: Space,
    *,
    trials: int,
    at_once: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> Sweep:
    """Try settings until there are `trials` trials in the folder; those that are there count.

    `settings` give the tasks, experts and patients, and whatever is not tried. Raises UserError
    where the folder is of a sweep that asked something else.
    """
    device = resolve_device(settings.device)
    check_space(space)
    inputs = {
        pooling: gather(dataset, store, replace(settings, pooling=(pooling,)))
        for pooling in space.pooling
    }
    _refuse_other_experts(inputs)
    study = _study(out, settings, space, inputs)
    features: dict[str, Features] = {}
    labelled: dict[str, Labelled] = {}
    for pooling, given in inputs.items():
        cohort = draw(
            given.record_id,
            as_ids(given.labels["patient_id"]),
            patients=settings.patients,
            seed=settings.seed,
            ecgs=settings.ecgs,
        )
        check_labels(cohort, given)
        features[pooling] = read_features(given.cache, np.sort(cohort.everyone), device)
        labelled[pooling] = label_repeat(cohort, given, features[pooling])
    while (done := _finished(study)) < trials:
        asked = [study.ask() for _ in range(min(at_once, trials - done))]
        tried = [suggest(trial, settings.fit, space) for trial in asked]
        with one_thread():
            for together in of_one_shape(tried):
                pooling = tried[together[0]][0]
                fits = [tried[number][1] for number in together]
                losses = _try(features[pooling], labelled[pooling], fits)
                for number, loss in zip(together, losses, strict=True):
                    study.tell(asked[number], loss)
                    if progress is not None:
                        progress(_finished(study), trials)
    table = _table(study.get_trials(deepcopy=False))
    table.to_csv(out / TABLE, index=False)
    return Sweep(out, table, study.best_params, study.best_value, _origin(given, cohort))


def _origin(inputs: Inputs, cohort: Cohort) -> Origin:
    """Told of the pooling tried last: all are of the same data set, tasks and experts."""
    return Origin(
        dataset=inputs.dataset.namespace,
        tasks=tuple(task.title for task in inputs.tasks),
        records=len(cohort.everyone),
        patients=int(inputs.labels.loc[cohort.everyone, "patient_id"].nunique()),
        weights={name: store.provenance["weights"] for name, store in inputs.cache.experts.items()},
        notes=inputs.notes,
        finished=datetime.now().astimezone().isoformat(timespec="seconds"),
    )


def _refuse_other_experts(inputs: dict[str, Inputs]) -> None:
    """Raises UserError where the poolings are not there of the same experts: they would be what
    is compared.
    """
    experts = {pooling: set(given.cache.experts) for pooling, given in inputs.items()}
    common = set.intersection(*experts.values())
    for pooling, there in experts.items():
        if there != common:
            raise UserError(
                f"With the pooling {pooling} there are {', '.join(sorted(there - common))} too, "
                f"which other --poolings are not there of; name --experts "
                f"{','.join(sorted(common)) or 'that have all'}, or extract the others."
            )


def _study(
    out: Path, settings: TrainSettings, space: Space, inputs: dict[str, Inputs]
) -> optuna.Study:
    """The study of a folder, begun or gone on with."""
    question = {
        "settings": asdict(replace(settings, device="")),
        "space": asdict(space),
        "stores": {
            pooling: [store.identity for store in given.cache.stores]
            for pooling, given in inputs.items()
        },
        "labels": {pooling: _digest(given) for pooling, given in inputs.items()},
        "versions": {name: version(name) for name in ("enecg", "torch")},
    }
    text = json.dumps(question, indent=1)
    file = out / QUESTION
    try:
        out.mkdir(parents=True, exist_ok=True)
        if file.exists() and file.read_text() != text:
            raise UserError(
                f"{out} is a sweep that asked something else ({QUESTION} tells what); give the "
                "same options to go on with it, or another --out."
            )
        if not file.exists() and any(out.iterdir()):
            raise UserError(f"{out} is no sweep, and not empty; give another --out.")
        file.write_text(text)
    except OSError as error:
        raise UserError(
            f"{out} cannot be written ({error.strerror}); give another --out."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name="sweep",
        storage=JournalStorage(JournalFileBackend(str(out / JOURNAL))),
        load_if_exists=True,
    )
    # Trials that are asked for together know nothing of each other's outcome; those that go on
    # where others were stopped are drawn anew.
    seed = settings.seed + len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    return study


def _digest(inputs: Inputs) -> str:
    """SHA-256 of the records that can be drawn and all that is known of them."""
    columns = ["patient_id", *(task.column for task in inputs.tasks)]
    hashed = pd.util.hash_pandas_object(inputs.labels[columns])
    return hashlib.sha256(hashed.to_numpy().tobytes()).hexdigest()


def _finished(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def _try(features: Features, labelled: Labelled, fits: Sequence[FitSettings]) -> list[float]:
    """The loss that each of these settings leaves, all of one shape."""
    copies = [labelled] * len(fits)
    rates = [fit.learning_rate for fit in fits]
    heads = {
        name: fit_heads(embedding, copies, fits[0], rates)
        for name, embedding in features.experts.items()
    }
    out_of_fold = [
        by_task({name: of_trials[number].out_of_fold for name, of_trials in heads.items()})
        for number in range(len(fits))
    ]
    gates = fit_gates(features.leads, copies, out_of_fold, fits[0], rates)
    flat = _constant_loss(labelled)
    return [_left(gate, flat) for gate in gates]


def _left(gate: Fit, flat: dict[str, float]) -> float:
    return float(
        np.mean([np.nanmin(losses) / flat[task] for task, losses in gate.validation_loss.items()])
    )


def _constant_loss(labelled: Labelled) -> dict[str, float]:
    """The validation loss of the training records' median, or of their shares of the classes."""
    losses = {}
    for task, targets in labelled.targets.items():
        encoded = labelled.encoded[task].cpu()
        of_training, truth = encoded[labelled.train.cpu()], encoded[labelled.validation.cpu()]
        of_training, truth = of_training[~of_training.isnan()], truth[~truth.isnan()]
        if targets.task.kind == "regression":
            best = float(fit_constant("regression", of_training.numpy(), 1).value)
            loss = torch.nn.functional.smooth_l1_loss(torch.full_like(truth, best), truth)
        else:
            shares = torch.bincount(of_training.long(), minlength=targets.outputs) + 1e-7
            loss = -(shares / shares.sum()).log()[truth.long()].mean()
        # Where it is without error already, a share of it would not be defined.
        losses[task] = max(float(loss), 1e-6)
    return losses


def _table(trials: Sequence[FrozenTrial]) -> pd.DataFrame:
    """Every finished trial, a row each, the best first."""
    rows = [
        {"trial": trial.number, "loss": trial.value} | trial.params
        for trial in trials
        if trial.state == TrialState.COMPLETE
    ]
    table = pd.DataFrame(rows)
    if "rank" in table:
        # Trials without a rank would make it a column of floats.
        table["rank"] = table["rank"].astype("Int64")
    return table.sort_values("loss", kind="stable").reset_index(drop=True)
