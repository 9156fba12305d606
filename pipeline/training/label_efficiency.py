"""Label efficiency: training again on fractions of the training and validation patients."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from enecg.ensembles.base import is_labeled
from enecg.errors import UserError
from enecg.tasks import Task
from pipeline.evaluation.label_fractions import LabelFraction, format_fraction
from pipeline.evaluation.predictions import CHANCE, CONSTANT, ENSEMBLE, RIDGE, TaskPredictions
from pipeline.evaluation.scores import compute_scores
from pipeline.training.cohorts import Cohort
from pipeline.training.features import Features
from pipeline.training.inputs import Inputs
from pipeline.training.labeled_repeat import check_labels, label_repeat
from pipeline.training.repeat import (
    BEST_EXPERT,
    LogFit,
    Repeat,
    choose_references,
    run_repeats,
)
from pipeline.training.settings import FitSettings
from stores.record_ids import RecordIds, as_ids

MIN_LABELS = 3
"""Minimum number of labeled records in each half of the training records, and of validation
records."""


@dataclass(frozen=True)
class LabelEfficiency:
    """The label-efficiency curves of a run.

    Attributes:
        fractions: Scores by fraction, in ascending order; the last one is the run itself.
        notes: Notes on tasks with too few labels.
    """

    fractions: tuple[LabelFraction, ...] = ()
    notes: tuple[str, ...] = ()


def parse_fractions(values: Iterable[str | float]) -> tuple[float, ...]:
    """Parse fractions of patients.

    Args:
        values: Fractions above 0 and at most 1.

    Returns:
        The fractions in ascending order, without duplicates.

    Raises:
        UserError: A value is not such a fraction.
    """
    fractions = set()
    for value in values:
        try:
            fraction = float(value)
        except ValueError:
            fraction = 0.0
        if not 0 < fraction <= 1:
            raise UserError(
                f"{value!r} is not valid in --label-fractions; use fractions above 0 and at most "
                "1, such as 0.01,0.1,1."
            )
        fractions.add(fraction)
    return tuple(sorted(fractions))


def draw_fraction(cohort: Cohort, patient_id: pd.Series, fraction: float) -> Cohort:
    """Draw a fraction of the training and of the validation patients of a cohort.

    A smaller fraction is a subset of a larger one. All test records are kept.

    Args:
        cohort: The cohort.
        patient_id: Patient by record id.
        fraction: Fraction of the patients of each part, in (0, 1]; at least one patient is drawn.

    Returns:
        The reduced cohort.
    """
    rng = np.random.default_rng(cohort.seed)

    def draw(records: RecordIds) -> RecordIds:
        patients = as_ids(patient_id.loc[records])
        shuffled = rng.permutation(np.unique(patients))
        kept = shuffled[: max(1, round(fraction * len(shuffled)))]
        drawn: RecordIds = records[np.isin(patients, kept)]
        return drawn

    return replace(cohort, train=draw(cohort.train), validation=draw(cohort.validation))


def train_fractions(
    fractions: Sequence[float],
    repeats: Sequence[Repeat],
    inputs: Inputs,
    features: Features,
    settings: FitSettings,
    log: LogFit,
    *,
    threads: int = 1,
) -> LabelEfficiency:
    """Train on each fraction of the patients and evaluate on all test patients.

    Args:
        fractions: Fractions below 1; see `parse_fractions`.
        repeats: The repeats that are trained on all patients.
        inputs: Inputs with the tasks and labels.
        features: Embeddings of the records of all cohorts.
        settings: Hyperparameters.
        log: Called after each training step; see `run_repeats`.
        threads: Maximum number of threads; see `run_repeats`.

    Returns:
        Scores of EnECG, the constant predictor, ridge regression and, if there are several experts,
        the best expert on validation patients.
    """
    patient_id = inputs.labels["patient_id"]
    curves, notes = [], []
    for fraction in fractions:
        cohorts = [draw_fraction(repeat.cohort, patient_id, fraction) for repeat in repeats]
        name = format_fraction(fraction)
        tasks = tuple(task for task in inputs.tasks if _has_labels(task, cohorts, inputs, features))
        missing = [task.title for task in inputs.tasks if task not in tasks]
        if missing:
            notes.append(f"Too few labels in {name} of the patients: {', '.join(missing)}.")
        if tasks:
            trained = run_repeats(
                cohorts,
                replace(inputs, tasks=tasks),
                features,
                settings,
                lambda step, fits, name=name: log(f"{name} of the patients, {step}", fits),  # type: ignore[misc]
                threads=threads,
            )
            curves.append(_score(fraction, trained, patient_id))
    return LabelEfficiency((*curves, _score(1.0, repeats, patient_id)), tuple(notes))


def _has_labels(task: Task, cohorts: Sequence[Cohort], inputs: Inputs, features: Features) -> bool:
    """Return whether a task can be trained on every cohort."""
    one_task = replace(inputs, tasks=(task,))
    for cohort in cohorts:
        try:
            check_labels(cohort, one_task)
        except UserError:
            return False
        repeat = label_repeat(cohort, one_task, features)
        labeled = is_labeled(repeat.encoded[task.name])
        parts = (*repeat.folds, repeat.validation)
        if any(int(labeled[rows].sum()) < MIN_LABELS for rows in parts):
            return False
    return True


def _score(fraction: float, repeats: Sequence[Repeat], patient_id: pd.Series) -> LabelFraction:
    references = choose_references(repeats).get(BEST_EXPERT, {})
    selected: list[TaskPredictions] = []
    for index, repeat in enumerate(repeats):
        for prediction in repeat.predictions:
            best = references.get(prediction.task.name, {index: ""})[index]
            if prediction.method in (CONSTANT, RIDGE, ENSEMBLE):
                selected.append(prediction)
            if prediction.method == best:
                selected.append(replace(prediction, method=BEST_EXPERT))
    scores = (score for score in compute_scores(selected) if score.method != CHANCE)
    patients = tuple(
        patient_id.loc[np.concatenate([repeat.cohort.train, repeat.cohort.validation])].nunique()
        for repeat in repeats
    )
    return LabelFraction(fraction, patients, tuple(scores))
