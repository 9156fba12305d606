"""Metrics of test sets made by drawing patients with replacement, all draws at once.

A draw is how often each patient was drawn: a record counts as often as its patient. Every
function here equals the one of the same name in `enecg.metrics` with these counts as weights.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from enecg import metrics

Draws = Float[np.ndarray, " draw"]

DRAWS = 1000
RANK_DRAWS = 200
"""Draws of what needs the records ranked, or a metric of the user's own, which cost more each."""
DRAWS_AT_ONCE = 20


@dataclass(frozen=True)
class Sample:
    """Test records, and how often each patient was drawn.

    `place`: of each record's patient in `drawn`. `probability`: None where there is none.
    """

    truth: Float[np.ndarray, " record"]
    predicted: Float[np.ndarray, " record"]
    probability: Float[np.ndarray, "record class"] | None
    place: Int[np.ndarray, " record"]
    drawn: Float[np.ndarray, "draw patient"]

    def total(self, value: np.ndarray) -> Draws:
        """The sum over each draw's records, patient by patient."""
        sums: np.ndarray = self.drawn @ np.bincount(
            self.place, weights=value, minlength=self.drawn.shape[1]
        )
        return sums

    def cells(
        self, cell: Int[np.ndarray, " pick"], cells: int, rows: Int[np.ndarray, " pick"]
    ) -> csr_array:
        """(cell, patient): how many of these records each patient has in each cell."""
        ones = np.ones(len(rows), np.float32)
        return csr_array((ones, (cell, self.place[rows])), shape=(cells, self.drawn.shape[1]))


def draw(patients: int, draws: int, rng: np.random.Generator) -> Float[np.ndarray, "draw patient"]:
    """How often each of the patients is drawn, as many times as there are of them."""
    counts: np.ndarray = rng.multinomial(patients, np.full(patients, 1 / patients), size=draws)
    return counts.astype(np.float64)


def divide(above: np.ndarray, below: np.ndarray, otherwise: float) -> np.ndarray:
    """A quotient where it is defined."""
    result: np.ndarray = np.divide(
        above,
        below,
        out=np.full(np.shape(above), otherwise, np.float64),
        where=np.asarray(below) > 0,
    )
    return result


def mean_absolute_error(sample: Sample) -> Draws:
    """See `metrics.mean_absolute_error`."""
    return _mean(sample, np.abs(sample.truth - sample.predicted))


def root_mean_squared_error(sample: Sample) -> Draws:
    """See `metrics.root_mean_squared_error`."""
    root: np.ndarray = np.sqrt(_mean(sample, (sample.truth - sample.predicted) ** 2))
    return root


def r2(sample: Sample) -> Draws:
    """See `metrics.r2`."""
    # About the mean, or the difference of large numbers would leave nothing.
    centred = sample.truth - sample.truth.mean()
    spread = _mean(sample, centred**2) - _mean(sample, centred) ** 2
    spread[spread < 1e-12 * (centred**2).max()] = 0
    error = _mean(sample, (sample.truth - sample.predicted) ** 2)
    return 1 - divide(error, spread, metrics.NAN)


def accuracy(sample: Sample) -> Draws:
    """See `metrics.accuracy`."""
    return _mean(sample, (sample.truth == sample.predicted).astype(float))


def macro_f1(sample: Sample) -> Draws:
    """See `metrics.macro_f1`."""
    truth, predicted = sample.truth == 1, sample.predicted == 1
    outcomes = (truth & predicted, ~truth & predicted, truth & ~predicted, ~truth & ~predicted)
    return macro_f1_of_counts(*(sample.total(outcome.astype(float)) for outcome in outcomes))


def macro_f1_of_counts(
    hit: np.ndarray, extra: np.ndarray, missed: np.ndarray, rest: np.ndarray
) -> Draws:
    """`metrics.macro_f1` of many binary tables at once, from their four counts."""

    def f1(right: np.ndarray) -> np.ndarray:
        return divide(2 * right, 2 * right + extra + missed, 0)

    mean: np.ndarray = (f1(hit) + f1(rest)) / 2
    return mean


def macro_f1_of_present(sample: Sample) -> Draws:
    """See `metrics.macro_f1_of_present`."""
    true, said, right = _by_class(sample)
    f1 = divide(2 * right, true + said, 0)
    return _mean_of_present(f1, true)


def balanced_accuracy(sample: Sample) -> Draws:
    """See `metrics.balanced_accuracy`."""
    true, _, right = _by_class(sample)
    return _mean_of_present(divide(right, true, 0), true)


def auroc(sample: Sample, which: int = 1) -> Draws:
    """See `metrics.auroc`; of any class against all others."""
    won, own = np.zeros((2, len(sample.drawn)))
    for part, mine, below, tied in _ranked(sample, which):
        won[part] = np.einsum("sd,sd->d", mine, below + tied / 2, dtype=np.float64)
        own[part] = mine.sum(0, dtype=np.float64)
    all_of_them = sample.total(np.ones(len(sample.truth)))
    return divide(won, own * (all_of_them - own), metrics.NAN)


def auprc(sample: Sample) -> Draws:
    """See `metrics.auprc`."""
    average = np.full(len(sample.drawn), metrics.NAN)
    all_of_them = sample.total(np.ones(len(sample.truth)))
    for part, mine, below, _ in _ranked(sample, 1):
        own = mine.sum(0)
        above = np.cumsum(mine[::-1], axis=0)[::-1]
        precision = divide(above, above + (all_of_them[part] - own) - below, 0)
        found = np.einsum("sd,sd->d", mine, precision, dtype=np.float64)
        average[part] = divide(found, own * (all_of_them[part] > own), metrics.NAN)
    return average


def macro_auroc(sample: Sample) -> Draws:
    """See `metrics.macro_auroc`."""
    present = np.unique(sample.truth).astype(int)
    areas = np.stack([auroc(sample, one) for one in present])
    return _mean_of_present(areas, ~np.isnan(areas))


def calibration_error(sample: Sample) -> Draws:
    """See `metrics.calibration_error`."""
    probable, came_true = metrics.calibration_pairs(sample.truth, _probability(sample))
    place = metrics.bin_indices(probable)
    gaps = [
        np.abs(sample.total((probable - came_true) * (place == one))) for one in range(metrics.BINS)
    ]
    result: np.ndarray = np.sum(gaps, axis=0) / sample.total(np.ones(len(place)))
    return result


def any_metric(metric: Callable[[np.ndarray, np.ndarray], float], sample: Sample) -> Draws:
    """A metric of the user's own, draw by draw on the records repeated."""
    repeated = [
        np.repeat(np.arange(len(sample.place)), counts[sample.place].astype(int))
        for counts in sample.drawn
    ]
    return np.array([metric(sample.truth[rows], sample.predicted[rows]) for rows in repeated])


FAST: dict[Callable[[np.ndarray, np.ndarray], float], Callable[[Sample], Draws]] = {
    metrics.mean_absolute_error: mean_absolute_error,
    metrics.root_mean_squared_error: root_mean_squared_error,
    metrics.r2: r2,
    metrics.macro_f1: macro_f1,
    metrics.accuracy: accuracy,
    metrics.macro_f1_of_present: macro_f1_of_present,
    metrics.balanced_accuracy: balanced_accuracy,
    metrics.auroc: auroc,
    metrics.auprc: auprc,
    metrics.macro_auroc: macro_auroc,
    metrics.calibration_error: calibration_error,
}
"""The metrics that are computed for all draws at once."""

RANKED = (metrics.auroc, metrics.auprc, metrics.macro_auroc)


def draws_of(metric: Callable[[np.ndarray, np.ndarray], float]) -> int:
    """How many draws a metric's interval rests on."""
    return DRAWS if metric in FAST and metric not in RANKED else RANK_DRAWS


def of_draws(metric: Callable[[np.ndarray, np.ndarray], float], sample: Sample) -> Draws:
    """A metric of every draw; NaN in draws where it is not defined."""
    return FAST[metric](sample) if metric in FAST else any_metric(metric, sample)


def _mean(sample: Sample, value: np.ndarray) -> Draws:
    result: np.ndarray = sample.total(value) / sample.total(np.ones(len(value)))
    return result


def _probability(sample: Sample) -> Float[np.ndarray, "record class"]:
    assert sample.probability is not None
    return sample.probability


def _by_class(sample: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(class, draw): the records of each class, those given it, and those rightly so."""
    truth, said = sample.truth.astype(int), sample.predicted.astype(int)
    classes = int(max(truth.max(), said.max())) + 1
    every, right = np.arange(len(truth)), np.flatnonzero(truth == said)
    counted = ((truth, every), (said, every), (truth[right], right))
    true, given, rightly = (
        sample.cells(cell, classes, rows) @ sample.drawn.T for cell, rows in counted
    )
    return true, given, rightly


def _mean_of_present(value: np.ndarray, there: np.ndarray) -> Draws:
    """The mean over the classes that a draw has; NaN where it has none."""
    present = there > 0
    return divide(np.where(present, value, 0).sum(0), present.sum(0), metrics.NAN)


def _ranked(
    sample: Sample, which: int
) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
    """One class against all others: (score, draw) its own records at each of its scores, and the
    others' below and at it; as many draws at once as a processor's cache may hold.

    Only the others' places among the class's own scores matter: cell 2j + 1 holds those equal to
    its j-th smallest score, and cell 2j those between it and the one before.
    """
    score = _probability(sample)[:, which]
    own = sample.truth == which
    scores = np.unique(score[own])
    cell = np.searchsorted(scores, score, "left") + np.searchsorted(scores, score, "right")
    mine, others = np.flatnonzero(own), np.flatnonzero(~own)
    of_mine = sample.cells(cell[mine] // 2, len(scores), mine)
    of_others = sample.cells(cell[others], 2 * len(scores) + 1, others)
    for first in range(0, len(sample.drawn), DRAWS_AT_ONCE):
        part = slice(first, first + DRAWS_AT_ONCE)
        # Counts are exact in float32 up to 16 million records.
        drawn = np.ascontiguousarray(sample.drawn[part].T.astype(np.float32))
        other = of_others @ drawn
        tied = other[1::2].copy()
        yield part, of_mine @ drawn, np.cumsum(other, axis=0)[:-1:2], tied
