"""From predictions to a table: the paper's metrics, over repeats, with intervals by patient."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from enecg.tasks import Task
from pipeline.targets import Targets

BOOTSTRAPS = 1000
INTERVAL = (2.5, 97.5)
"""Percentiles of the bootstrap: a 95 % interval."""

CONSTANT = "constant predictor"
ENSEMBLE = "EnECG"
ZERO_SHOT = "zero-shot:"
"""Before an expert's name: this expert under heads that nobody trained."""


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
    probability: Float[np.ndarray, "record class"] | None = None


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
    """The probability from which class 1 is said, for the best macro-F1 on validation records.

    It is a probability that occurs, or infinity where class 1 is best never said.
    """
    order = np.argsort(-probability, kind="stable")
    ranked, positive = probability[order], truth[order] == 1
    # Saying class 1 of the first k, for every k from 0 to all.
    hit = np.append(0, np.cumsum(positive))
    extra = np.append(0, np.cumsum(~positive))
    f1 = _macro_f1(hit, extra, hit[-1] - hit, extra[-1] - extra)
    between = np.append(True, ranked[1:] < ranked[:-1])
    cuts = np.flatnonzero(np.append(between, True))
    edges = np.append(np.inf, ranked)  # the first k are those from the k-th probability on
    return float(edges[cuts[np.argmax(f1[cuts])]])


def _macro_f1(
    hit: np.ndarray, extra: np.ndarray, missed: np.ndarray, rest: np.ndarray
) -> Float[np.ndarray, " draw"]:
    """`metrics.macro_f1` of many binary tables at once, from their four counts."""

    def f1(right: np.ndarray) -> np.ndarray:
        total = 2 * right + extra + missed
        result: np.ndarray = np.divide(2 * right, total, out=np.zeros(len(total)), where=total > 0)
        return result

    mean: np.ndarray = (f1(hit) + f1(rest)) / 2
    return mean


def decide(
    targets: Targets, output: Float[np.ndarray, "record output"], threshold: float
) -> Float[np.ndarray, " record"]:
    """Answers from predictions: values in the task's unit, or class numbers."""
    if targets.task.kind == "regression":
        return targets.decode(output[:, 0])
    if targets.task.kind == "binary":
        said: np.ndarray = output[:, 1] >= threshold
    else:
        said = output.argmax(1)
    return said.astype(np.float64)


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

    def of_draws(value: np.ndarray) -> np.ndarray:
        """The sum over each draw's records, patient by patient."""
        total: np.ndarray = drawn @ np.bincount(place, weights=value)
        return total

    if one.task.kind == "binary":
        truth, predicted = one.truth == 1, one.predicted == 1
        outcomes = (truth & predicted, ~truth & predicted, truth & ~predicted, ~truth & ~predicted)
        return _macro_f1(*(of_draws(outcome.astype(float)) for outcome in outcomes))
    error = (
        np.abs(one.truth - one.predicted)
        if one.task.kind == "regression"
        else (one.truth == one.predicted).astype(float)
    )
    result: np.ndarray = of_draws(error) / of_draws(np.ones(len(error)))
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
