"""Scores of methods over repeats, with bootstrap intervals by patient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from enecg import metrics
from enecg.metrics import NAN
from pipeline.evaluation.bootstrap import DRAWS, Sample, divide, draw, draws_of, of_draws
from pipeline.evaluation.predictions import TaskPredictions

INTERVAL = (2.5, 97.5)
"""Percentiles of the bootstrap: a 95 % interval."""


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


Drawn = Mapping[int, Float[np.ndarray, "draw patient"]]
"""How often each test patient is drawn, by repeat: the same for all methods and metrics."""


def compute_scores(predictions: Sequence[TaskPredictions], seed: int = 0) -> tuple[Score, ...]:
    """A score for every method on every task, in the order in which the predictions name them."""
    together: dict[tuple[str, str], list[TaskPredictions]] = {}
    for one in predictions:
        together.setdefault((one.method, one.task.name), []).append(one)
    made: dict[tuple[str, str], Score] = {}
    for task in dict.fromkeys(task for _, task in together):
        keys = [key for key in together if key[1] == task]
        longest = max((together[key] for key in keys), key=len)
        drawn = _draw(longest, seed)
        made |= {key: compute_score(together[key], drawn) for key in keys}
    return tuple(made[key] for key in together)


def compute_score(repeats: Sequence[TaskPredictions], drawn: Drawn | None = None) -> Score:
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


def _draw(repeats: Sequence[TaskPredictions], seed: int) -> Drawn:
    """A patient of several repeats is drawn as often in each: they are the same person."""
    everyone = np.unique(np.concatenate([one.patient_id for one in repeats]))
    drawn = draw(len(everyone), DRAWS, np.random.default_rng(seed))
    return {one.repeat: drawn[:, np.isin(everyone, one.patient_id)] for one in repeats}


def _measure(metric: metrics.Metric, repeats: Sequence[TaskPredictions], drawn: Drawn) -> Measure:
    values = []
    for one in repeats:
        given = one.probability if metric.by_probability else one.predicted
        assert given is not None
        values.append(metric.compute(one.truth, given))
    resampled = _mean(
        np.stack([bootstrap_metric(one, metric, drawn[one.repeat]) for one in repeats])
    )
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


def bootstrap_metric(
    one: TaskPredictions, metric: metrics.Metric, drawn: Float[np.ndarray, "draw patient"]
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
    repeats: Sequence[TaskPredictions], probable: Sequence[np.ndarray]
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
