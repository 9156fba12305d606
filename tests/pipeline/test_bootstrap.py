import time

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)

from enecg import metrics
from enecg.tasks import TASKS, Task
from pipeline.evaluation.bootstrap import DRAWS, FAST, RANK_DRAWS, Sample, draw, of_draws
from pipeline.evaluation.predictions import TaskPredictions
from pipeline.evaluation.scores import compute_score, compute_scores


def sample(classes: int, seed: int = 0, *, records: int = 300, draws: int = 12) -> Sample:
    """Two or so records a patient; scores with ties; a class of few records."""
    rng = np.random.default_rng(seed)
    place = rng.integers(0, records // 2, records)
    place = np.unique(place, return_inverse=True)[1]
    share = np.linspace(1, 0.1, classes)
    truth = rng.choice(classes, records, p=share / share.sum())
    logits = rng.normal(size=(records, classes)) + 1.5 * np.eye(classes)[truth]
    probability = np.round(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), 2)
    drawn = draw(place.max() + 1, draws, rng)
    predicted = probability.argmax(1).astype(float)
    return Sample(truth.astype(float), predicted, probability, place, drawn)


def weighted(of: Sample, number: int) -> np.ndarray:
    weights: np.ndarray = of.drawn[number][of.place]
    return weights


@pytest.mark.parametrize("seed", range(4))
def test_ranks_of_all_draws_are_those_of_scikit_learn_with_the_draws_as_weights(seed: int):
    of = sample(2, seed)
    assert of.probability is not None
    told = of.probability[:, 1]
    areas, averages = of_draws(metrics.auroc, of), of_draws(metrics.auprc, of)
    for number in range(len(of.drawn)):
        weights = weighted(of, number)
        area = roc_auc_score(of.truth, told, sample_weight=weights)
        average = average_precision_score(of.truth, told, sample_weight=weights)
        assert areas[number] == pytest.approx(area, rel=1e-6)
        assert averages[number] == pytest.approx(average, rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_metrics_of_classes_are_those_of_scikit_learn_with_the_draws_as_weights(seed: int):
    of = sample(6, seed, records=40)
    assert of.probability is not None
    fast = {metric: of_draws(metric, of) for metric in FAST if metric is not metrics.r2}
    for number in range(len(of.drawn)):
        weights = weighted(of, number)
        kept = weights > 0
        truth, said, weights = of.truth[kept], of.predicted[kept], weights[kept]
        present = np.unique(truth).astype(int)
        f1 = f1_score(truth, said, labels=present, average="macro", sample_weight=weights)
        assert fast[metrics.macro_f1_of_present][number] == pytest.approx(f1)
        repeated = np.repeat(np.arange(len(truth)), weights.astype(int))
        recalls = [np.mean(said[repeated][truth[repeated] == one] == one) for one in present]
        assert fast[metrics.balanced_accuracy][number] == pytest.approx(np.mean(recalls))
        areas = [
            roc_auc_score(truth == one, of.probability[kept, one], sample_weight=weights)
            for one in present
        ]
        assert fast[metrics.macro_auroc][number] == pytest.approx(np.mean(areas), rel=1e-6)
        whole = metrics.calibration_error(truth[repeated], of.probability[kept][repeated])
        assert fast[metrics.calibration_error][number] == pytest.approx(whole)


def test_squared_errors_of_all_draws_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth = 1e6 + rng.normal(size=200)
    predicted = truth + rng.normal(size=200)
    of = Sample(truth, predicted, None, np.arange(200), draw(200, 20, rng))
    explained, errors = of_draws(metrics.r2, of), of_draws(metrics.root_mean_squared_error, of)
    for number, weights in enumerate(of.drawn):
        assert explained[number] == pytest.approx(r2_score(truth, predicted, sample_weight=weights))
        error = root_mean_squared_error(truth, predicted, sample_weight=weights)
        assert errors[number] == pytest.approx(error)


def test_undrawn_every_fast_metric_is_the_plain_one():
    for classes in (2, 6):
        of = sample(classes)
        assert of.probability is not None
        once = Sample(of.truth, of.predicted, of.probability, of.place, np.ones_like(of.drawn[:1]))
        kind = "binary" if classes == 2 else "multiclass"
        for metric in metrics.SECONDARY_METRICS[kind]:
            given = of.probability if metric.by_probability else of.predicted
            plain = metric.compute(of.truth, given)
            assert of_draws(metric.compute, once)[0] == pytest.approx(plain, rel=1e-6), metric.name
    assert balanced_accuracy_score(of.truth, of.predicted) == pytest.approx(
        metrics.balanced_accuracy(of.truth, of.predicted)
    )


def test_draws_that_lack_a_class_are_nan_and_the_others_make_the_interval():
    rng = np.random.default_rng(0)
    truth = (np.arange(30) == 0).astype(float)
    told = rng.random(30)
    of = Sample(truth, truth, np.stack([1 - told, told], 1), np.arange(30), draw(30, 200, rng))
    areas = of_draws(metrics.auroc, of)
    lacking = of.drawn[:, 0] == 0
    assert lacking.any()
    np.testing.assert_array_equal(np.isnan(areas), lacking)
    one = answers("sex", truth, np.stack([1 - told, told], 1))
    area = next(other for other in compute_score([one]).others if other.metric == "AUROC")
    assert 0 < area.draws < RANK_DRAWS
    assert area.low <= area.mean <= area.high


def answers(
    task: str | Task, truth: np.ndarray, probability: np.ndarray, repeat: int = 0, method: str = "x"
) -> TaskPredictions:
    ids = np.arange(len(truth))
    told = TASKS[task] if isinstance(task, str) else task
    said = probability.argmax(1).astype(float)
    return TaskPredictions(
        told, method, repeat, ids, ids // 2, truth.astype(float), said, probability
    )


def test_a_repeat_whose_test_records_are_of_one_class_is_left_out_of_the_mean():
    of = sample(2)
    assert of.probability is not None
    one = answers("sex", np.zeros(300), of.probability)
    both = answers("sex", of.truth, of.probability, repeat=1)
    alone, together = compute_score([one]), compute_score([one, both])
    area = {other.metric: other for other in alone.others}["AUROC"]
    assert np.isnan([area.mean, area.low, area.high]).all()
    assert area.draws == 0
    area = {other.metric: other for other in together.others}["AUROC"]
    assert np.isnan(area.values[0])
    assert area.mean == area.values[1] == metrics.auroc(of.truth, of.probability)
    assert area.deviation is None


def test_every_metric_of_a_kind_is_told_and_lies_in_its_interval():
    for task, classes in (("potassium", 2), ("arrhythmia", 9)):
        of = sample(classes, records=400)
        assert of.probability is not None
        told = compute_score([answers(task, of.truth, of.probability)])
        names = [metric.name for metric in metrics.SECONDARY_METRICS[TASKS[task].kind]]
        assert [one.metric for one in told.others] == names
        assert all(one.low <= one.mean <= one.high for one in (told, *told.others))
        assert sum(one.n for one in told.reliability) == 400
        assert told.draws == DRAWS


def test_few_records_and_rare_classes_move_no_interval_away_from_its_mean():
    for seed in range(5):
        of = sample(12, seed, records=30)
        assert of.probability is not None
        # The shares of the classes, told to everyone: calibrated, and right for the commonest.
        shares = np.bincount(of.truth.astype(int), minlength=12) / len(of.truth)
        told = compute_score([answers("arrhythmia", of.truth, np.tile(shares, (len(of.truth), 1)))])
        for one in told.others:
            assert one.low <= one.mean <= one.high, one.metric


def test_a_metric_of_the_users_own_is_drawn_too():
    def share_of_zero(truth: np.ndarray, said: np.ndarray) -> float:
        return float(np.mean(said == 0))

    mine = Task("mine", "Mine", "binary", "sex", "", "share", share_of_zero, ("no", "yes"))
    of = sample(2)
    assert of.probability is not None
    told = compute_score([answers(mine, of.truth, of.probability)])
    assert told.metric == "share"
    assert told.draws == RANK_DRAWS
    assert told.low < told.mean < told.high


def test_methods_are_drawn_alike_and_keep_their_order():
    of = sample(2)
    assert of.probability is not None
    both = [
        answers("sex", of.truth, of.probability, method=method, repeat=repeat)
        for repeat in (0, 1)
        for method in ("b", "a")
    ]
    first, second = compute_scores(both)
    assert (first.method, second.method) == ("b", "a")
    assert (first.low, first.high, first.others) == (second.low, second.high, second.others)


def test_twenty_thousand_records_are_ranked_in_seconds():
    rng = np.random.default_rng(0)
    truth, probability = rng.integers(0, 15, 20_000), rng.dirichlet(np.ones(15), 20_000)
    one = answers("arrhythmia", truth, probability)
    began = time.monotonic()
    compute_score([one])
    assert time.monotonic() - began < 20
