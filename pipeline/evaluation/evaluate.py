"""From predictions to scores: the paper's metrics and others, over repeats, with intervals by
patient.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from enecg import metrics
from enecg.metrics import NAN
from enecg.tasks import Task
from pipeline.evaluation.bootstrap import (
    DRAWS,
    Sample,
    divide,
    draw,
    draws_of,
    macro_f1_of_counts,
    of_draws,
)
from pipeline.labels.targets import Targets
from stores.record_ids import RecordIds

INTERVAL = (2.5, 97.5)
"""Percentiles of the bootstrap: a 95 % interval."""

CONSTANT = "constant predictor"
ENSEMBLE = "EnECG"
ZERO_SHOT = "zero-shot:"
"""Before an expert's name: this expert under heads that nobody trained."""


@dataclass(frozen=True)
class Predicted:
    """One method's answers on the test records of one repeat, those with a known label.

    `truth`, `predicted`: in the task's unit, or class numbers. `probability`: of each class, in
    the order of the classes; None for a regression, and where a method has none.
    """

    task: Task
    method: str
    repeat: int
    record_id: RecordIds
    patient_id: RecordIds
    truth: Float[np.ndarray, " record"]
    predicted: Float[np.ndarray, " record"]
    probability: Float[np.ndarray, "record class"] | None = None


@dataclass(frozen=True)
class Measure:
    """One metric: mean and sample standard deviation over repeats, and the bootstrap 95 % interval
    of the mean.

    `values`: of each repeat, NaN where it is not defined; the mean is that of the others.
    `deviation` is None where fewer than two are. `draws` have a value and make the interval.
    """

    metric: str
    mean: float
    deviation: float | None
    low: float
    high: float
    values: tuple[float, ...]
    draws: int


@dataclass(frozen=True)
class Score(Measure):
    """A method's metric on a task as the paper judges it, the `others`, and the test records and
    patients they rest on.

    `n`, `patients`: of each repeat. `reliability`: over all repeats, none for regressions.
    """

    task: str
    method: str
    n: tuple[int, ...]
    patients: tuple[int, ...]
    others: tuple[Measure, ...] = ()
    reliability: tuple[metrics.Bin, ...] = ()


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
    f1 = macro_f1_of_counts(hit, extra, hit[-1] - hit, extra[-1] - extra)
    between = np.append(True, ranked[1:] < ranked[:-1])
    cuts = np.flatnonzero(np.append(between, True))
    edges = np.append(np.inf, ranked)  # the first k are those from the k-th probability on
    return float(edges[cuts[np.argmax(f1[cuts])]])


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


Drawn = Mapping[int, Float[np.ndarray, "draw patient"]]
"""How often each test patient is drawn, by repeat: the same for all methods and metrics."""


def scores(predictions: Sequence[Predicted], seed: int = 0) -> tuple[Score, ...]:
    """A score for every method on every task, in the order in which the predictions name them."""
    together: dict[tuple[str, str], list[Predicted]] = {}
    for one in predictions:
        together.setdefault((one.method, one.task.name), []).append(one)
    made: dict[tuple[str, str], Score] = {}
    for task in dict.fromkeys(task for _, task in together):
        keys = [key for key in together if key[1] == task]
        longest = max((together[key] for key in keys), key=len)
        drawn = _draw(longest, seed)
        made |= {key: score(together[key], drawn) for key in keys}
    return tuple(made[key] for key in together)


def score(repeats: Sequence[Predicted], drawn: Drawn | None = None) -> Score:
    """One method's score on one task, from its predictions in every repeat."""
    task = repeats[0].task
    drawn = _draw(repeats, 0) if drawn is None else drawn
    probable = [one.probability for one in repeats if one.probability is not None]
    whole = len(probable) == len(repeats)
    main = metrics.Metric(task.metric_name, task.metric, task.higher_is_better)
    return Score(
        **vars(_measure(main, repeats, drawn)),
        task=task.name,
        method=repeats[0].method,
        n=tuple(len(one.truth) for one in repeats),
        patients=tuple(len(np.unique(one.patient_id)) for one in repeats),
        others=tuple(
            _measure(metric, repeats, drawn)
            for metric in metrics.SECONDARY_METRICS[task.kind]
            if metric.name != main.name and (whole or not metric.by_probability)
        ),
        reliability=_reliability(repeats, probable) if whole else (),
    )


def _draw(repeats: Sequence[Predicted], seed: int) -> Drawn:
    """A patient of several repeats is drawn as often in each: they are the same person."""
    everyone = np.unique(np.concatenate([one.patient_id for one in repeats]))
    drawn = draw(len(everyone), DRAWS, np.random.default_rng(seed))
    return {one.repeat: drawn[:, np.isin(everyone, one.patient_id)] for one in repeats}


def _measure(metric: metrics.Metric, repeats: Sequence[Predicted], drawn: Drawn) -> Measure:
    values = []
    for one in repeats:
        given = one.probability if metric.by_probability else one.predicted
        assert given is not None
        values.append(metric.compute(one.truth, given))
    resampled = _mean(np.stack([bootstrap(one, metric, drawn[one.repeat]) for one in repeats]))
    resampled = resampled[~np.isnan(resampled)]
    defined = [value for value in values if not np.isnan(value)]
    if metric.biased and defined:
        # Less the bias that the bootstrap itself tells (Efron and Tibshirani 1993, chapter 10).
        resampled = np.clip(resampled - resampled.mean() + np.mean(defined), 0, 1)
    there = bool(defined) and len(resampled) > 0
    low, high = np.percentile(resampled, INTERVAL).tolist() if there else (NAN, NAN)
    return Measure(
        metric=metric.name,
        mean=float(np.mean(defined)) if defined else NAN,
        deviation=float(np.std(defined, ddof=1)) if len(defined) > 1 else None,
        low=low,
        high=high,
        values=tuple(NAN if np.isnan(value) else value for value in values),
        draws=len(resampled),
    )


def bootstrap(
    one: Predicted, metric: metrics.Metric, drawn: Float[np.ndarray, "draw patient"]
) -> Float[np.ndarray, " draw"]:
    """The metric of test sets made by drawing patients with replacement."""
    _, place = np.unique(one.patient_id, return_inverse=True)
    drawn = drawn[: draws_of(metric.compute)]
    # A draw may have none of a repeat's patients.
    there = drawn.any(1)
    sample = Sample(one.truth, one.predicted, one.probability, place, drawn[there])
    resampled = np.full(len(drawn), NAN)
    resampled[there] = of_draws(metric.compute, sample)
    return resampled


def _mean(of_repeats: Float[np.ndarray, "repeat draw"]) -> Float[np.ndarray, " draw"]:
    """The mean over the repeats that have a value; NaN where none has."""
    return divide(np.nansum(of_repeats, 0), (~np.isnan(of_repeats)).sum(0), NAN)


def _reliability(
    repeats: Sequence[Predicted], probable: Sequence[np.ndarray]
) -> tuple[metrics.Bin, ...]:
    """Over all repeats together; for more than two classes each repeat's list is its own, so the
    pairs of probability and truth are joined, not the classes.
    """
    pairs = [
        metrics.calibration_pairs(one.truth, what)
        for one, what in zip(repeats, probable, strict=True)
    ]
    believed, came_true = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return metrics.reliability_bins(came_true, np.stack([1 - believed, believed], 1))


def predictions_table(predictions: Sequence[Predicted]) -> pa.Table:
    """All predictions, a row each: task, method, repeat, record_id, patient_id, truth, predicted,
    and probability, the list of the classes' (null where there is none).
    """
    return pa.concat_tables(
        [
            pa.table(
                {
                    "task": pa.repeat(one.task.name, len(one.truth)),
                    "method": pa.repeat(one.method, len(one.truth)),
                    "repeat": np.full(len(one.truth), one.repeat),
                    "record_id": pa.array(one.record_id),
                    "patient_id": pa.array(one.patient_id),
                    "truth": one.truth,
                    "predicted": one.predicted,
                    "probability": _lists(one.probability, len(one.truth)),
                }
            )
            for one in predictions
        ]
    )


def _lists(probability: np.ndarray | None, rows: int) -> pa.Array:
    if probability is None:
        return pa.nulls(rows, pa.list_(pa.float32()))
    classes = probability.shape[1]
    ends = np.arange(0, (rows + 1) * classes, classes, dtype=np.int32)
    return pa.ListArray.from_arrays(ends, pa.array(probability.astype(np.float32).ravel()))
