"""From predictions to a table: the paper's metrics, over repeats, with intervals by patient."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from enecg.metrics import macro_f1
from enecg.tasks import Task
from pipeline.targets import Targets

BOOTSTRAPS = 1000
INTERVAL = (2.5, 97.5)
"""Percentiles of the bootstrap: a 95 % interval."""

CONSTANT = "constant predictor"
ENSEMBLE = "EnECG"


@dataclass(frozen=True)
class Predicted:
    """One method's answers on the test records of one repeat, those with a known label.

    `truth`, `predicted`: in the task's unit, or class numbers.
    """

    task: Task
    method: str
    repeat: int
    record_id: Int[np.ndarray, " record"]
    patient_id: Int[np.ndarray, " record"]
    truth: Float[np.ndarray, " record"]
    predicted: Float[np.ndarray, " record"]


@dataclass(frozen=True)
class Score:
    """A method's metric on a task: mean and sample standard deviation over repeats, the bootstrap
    95 % interval of the mean, and the test records and patients it rests on.

    `deviation` is None for a single repeat. `n`, `patients`: of each repeat.
    """

    task: str
    method: str
    mean: float
    deviation: float | None
    low: float
    high: float
    values: tuple[float, ...]
    n: tuple[int, ...]
    patients: tuple[int, ...]


def choose_threshold(
    probability: Float[np.ndarray, " record"], truth: Int[np.ndarray, " record"]
) -> float:
    """The probability from which class 1 is said, for the best macro-F1 on validation records."""
    values = np.unique(probability)
    middles = (values[1:] + values[:-1]) / 2
    # Some 200 candidates tell as much as thousands.
    candidates = np.append(np.quantile(middles, np.linspace(0, 1, 200)) if len(middles) else [], 0.5)
    scores = [macro_f1(truth, (probability >= one).astype(int)) for one in candidates]
    return float(candidates[int(np.argmax(scores))])


def decide(
    targets: Targets, output: Float[np.ndarray, "record output"], threshold: float
) -> Float[np.ndarray, " record"]:
    """Answers from predictions: values in the task's unit, or class numbers."""
    if targets.task.kind == "regression":
        return targets.decode(output[:, 0])
    if targets.task.kind == "binary":
        return (output[:, 1] >= threshold).astype(np.float64)
    return output.argmax(1).astype(np.float64)


def score(repeats: Sequence[Predicted], seed: int = 0) -> Score:
    """One method's score on one task, from its predictions in every repeat."""
    first = repeats[0]
    values = tuple(one.task.metric(one.truth, one.predicted) for one in repeats)
    rng = np.random.default_rng(seed)
    resampled = np.mean([_bootstrap(one, rng) for one in repeats], axis=0)
    low, high = np.percentile(resampled, INTERVAL)
    return Score(
        task=first.task.name,
        method=first.method,
        mean=float(np.mean(values)),
        deviation=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        low=float(low),
        high=float(high),
        values=values,
        n=tuple(len(one.truth) for one in repeats),
        patients=tuple(len(np.unique(one.patient_id)) for one in repeats),
    )


def _bootstrap(one: Predicted, rng: np.random.Generator) -> Float[np.ndarray, " draw"]:
    """The metric of test sets made by drawing patients with replacement."""
    _, place = np.unique(one.patient_id, return_inverse=True)
    patients = place.max() + 1
    drawn = rng.multinomial(patients, np.full(patients, 1 / patients), size=BOOTSTRAPS)
    counts = drawn[:, place]  # how often each draw holds each record
    if one.task.kind == "binary":
        truth, predicted = one.truth == 1, one.predicted == 1
        # scikit-learn takes one set at a time; over 1,000 draws the same sums as a product.
        hit, extra, missed, rest = (
            counts @ mask.astype(float)
            for mask in (truth & predicted, ~truth & predicted, truth & ~predicted,
                         ~truth & ~predicted)
        )
        f1 = [
            np.divide(2 * right, 2 * right + extra + missed,
                      out=np.zeros(BOOTSTRAPS), where=2 * right + extra + missed > 0)
            for right in (hit, rest)
        ]
        return np.mean(f1, axis=0)
    error = (
        np.abs(one.truth - one.predicted)
        if one.task.kind == "regression"
        else (one.truth == one.predicted).astype(float)
    )
    total = counts.sum(1)
    result: np.ndarray = counts @ error / total
    return result


def predictions_table(predictions: Sequence[Predicted]) -> pd.DataFrame:
    """All predictions, a row each: task, method, repeat, record, patient, truth, predicted."""
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "task": one.task.name,
                    "method": one.method,
                    "repeat": one.repeat,
                    "record_id": one.record_id,
                    "patient_id": one.patient_id,
                    "truth": one.truth,
                    "predicted": one.predicted,
                }
            )
            for one in predictions
        ],
        ignore_index=True,
    )
