from dataclasses import replace

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
from enecg.rank_metrics import roc_area
from enecg.tasks import TASKS, Task
from pipeline.evaluation import bootstrap
from pipeline.evaluation.bootstrap import RANK_DRAWS, VECTORIZED, compute_draws
from pipeline.evaluation.predictions import TaskPredictions
from pipeline.evaluation.resamples import DRAWS, Resamples, draw_counts
from pipeline.evaluation.scores import compute_score, compute_scores


def make_resamples(
    classes: int, seed: int = 0, *, records: int = 300, draws: int = 12
) -> Resamples:
    """Return resamples with about two records per patient, tied probabilities and a rare class."""
    rng = np.random.default_rng(seed)
    patient = rng.integers(0, records // 2, records)
    patient = np.unique(patient, return_inverse=True)[1]
    share = np.linspace(1, 0.1, classes)
    truth = rng.choice(classes, records, p=share / share.sum())
    logits = rng.normal(size=(records, classes)) + 1.5 * np.eye(classes)[truth]
    probability = np.round(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), 2)
    counts = draw_counts(patient.max() + 1, draws, rng)
    predicted = probability.argmax(1).astype(float)
    return Resamples(truth.astype(float), predicted, probability, patient, counts)


def make_predictions(
    task: str | Task, truth: np.ndarray, probability: np.ndarray, repeat: int = 0, method: str = "x"
) -> TaskPredictions:
    """Predict the most probable class; two records per patient."""
    ids = np.arange(len(truth))
    task = TASKS[task] if isinstance(task, str) else task
    predicted = probability.argmax(1).astype(float)
    return TaskPredictions(
        task, method, repeat, ids, ids // 2, truth.astype(float), predicted, probability
    )


def record_weights(resamples: Resamples, draw: int) -> np.ndarray:
    weights: np.ndarray = resamples.counts[draw][resamples.patient]
    return weights


@pytest.mark.parametrize("seed", range(4))
def test_rank_metrics_match_scikit_learn_with_sample_weights(seed: int):
    resamples = make_resamples(2, seed)
    assert resamples.probability is not None
    probability = resamples.probability[:, 1]
    areas = compute_draws(metrics.auroc, resamples)
    averages = compute_draws(metrics.auprc, resamples)
    for draw in range(len(resamples.counts)):
        weights = record_weights(resamples, draw)
        area = roc_auc_score(resamples.truth, probability, sample_weight=weights)
        average = average_precision_score(resamples.truth, probability, sample_weight=weights)
        assert areas[draw] == pytest.approx(area, rel=1e-6)
        assert averages[draw] == pytest.approx(average, rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_class_metrics_match_scikit_learn_with_sample_weights(seed: int):
    resamples = make_resamples(6, seed, records=40)
    assert resamples.probability is not None
    draws = {
        metric: compute_draws(metric, resamples)
        for metric in VECTORIZED
        if metric is not metrics.r2 and metric.__module__ == metrics.__name__
    }
    for draw in range(len(resamples.counts)):
        weights = record_weights(resamples, draw)
        kept = weights > 0
        truth, predicted, weights = resamples.truth[kept], resamples.predicted[kept], weights[kept]
        present = np.unique(truth).astype(int)
        f1 = f1_score(truth, predicted, labels=present, average="macro", sample_weight=weights)
        assert draws[metrics.macro_f1_of_present][draw] == pytest.approx(f1)
        repeated = np.repeat(np.arange(len(truth)), weights.astype(int))
        recalls = [
            np.mean(predicted[repeated][truth[repeated] == label] == label) for label in present
        ]
        assert draws[metrics.balanced_accuracy][draw] == pytest.approx(np.mean(recalls))
        areas = [
            roc_auc_score(truth == label, resamples.probability[kept, label], sample_weight=weights)
            for label in present
        ]
        assert draws[metrics.macro_auroc][draw] == pytest.approx(np.mean(areas), rel=1e-6)
        error = metrics.calibration_error(truth[repeated], resamples.probability[kept][repeated])
        assert draws[metrics.calibration_error][draw] == pytest.approx(error)


def test_squared_error_metrics_match_scikit_learn_far_from_zero():
    rng = np.random.default_rng(0)
    truth = 1e6 + rng.normal(size=200)
    predicted = truth + rng.normal(size=200)
    resamples = Resamples(truth, predicted, None, np.arange(200), draw_counts(200, 20, rng))
    explained = compute_draws(metrics.r2, resamples)
    errors = compute_draws(metrics.root_mean_squared_error, resamples)
    for draw, weights in enumerate(resamples.counts):
        assert explained[draw] == pytest.approx(r2_score(truth, predicted, sample_weight=weights))
        error = root_mean_squared_error(truth, predicted, sample_weight=weights)
        assert errors[draw] == pytest.approx(error)


def test_vectorized_metrics_match_plain_metrics_when_every_patient_counts_once():
    for classes in (2, 6):
        drawn = make_resamples(classes)
        assert drawn.probability is not None
        once = replace(drawn, counts=np.ones_like(drawn.counts[:1]))
        kind = "binary" if classes == 2 else "multiclass"
        for metric in metrics.SECONDARY_METRICS[kind]:
            output = drawn.probability if metric.uses_probability else drawn.predicted
            plain = metric.compute(drawn.truth, output)
            vectorized = compute_draws(metric.compute, once)[0]
            assert vectorized == pytest.approx(plain, rel=1e-6), metric.name
    assert balanced_accuracy_score(drawn.truth, drawn.predicted) == pytest.approx(
        metrics.balanced_accuracy(drawn.truth, drawn.predicted)
    )


def test_draws_without_a_class_are_nan_and_ignored_by_the_interval():
    rng = np.random.default_rng(0)
    truth = (np.arange(30) == 0).astype(float)
    positive = rng.random(30)
    probability = np.stack([1 - positive, positive], 1)
    counts = draw_counts(30, 200, rng)
    areas = compute_draws(
        metrics.auroc, Resamples(truth, truth, probability, np.arange(30), counts)
    )
    without_positive = counts[:, 0] == 0
    assert without_positive.any()
    np.testing.assert_array_equal(np.isnan(areas), without_positive)
    score = compute_score([make_predictions("sex", truth, probability)])
    area = next(other for other in score.others if other.metric == "AUROC")
    assert 0 < area.draws < RANK_DRAWS
    assert area.low <= area.mean <= area.high


def test_repeat_with_a_single_class_is_ignored_by_the_mean():
    resamples = make_resamples(2)
    assert resamples.probability is not None
    single = make_predictions("sex", np.zeros(300), resamples.probability)
    both = make_predictions("sex", resamples.truth, resamples.probability, repeat=1)
    area = {other.metric: other for other in compute_score([single]).others}["AUROC"]
    assert np.isnan([area.mean, area.low, area.high]).all()
    assert area.draws == 0
    area = {other.metric: other for other in compute_score([single, both]).others}["AUROC"]
    assert np.isnan(area.values[0])
    assert area.mean == area.values[1] == metrics.auroc(resamples.truth, resamples.probability)
    assert area.deviation is None


def test_score_has_every_metric_inside_its_interval():
    for task, classes in (("potassium", 2), ("arrhythmia", 9)):
        resamples = make_resamples(classes, records=400)
        assert resamples.probability is not None
        score = compute_score([make_predictions(task, resamples.truth, resamples.probability)])
        names = [metric.name for metric in metrics.SECONDARY_METRICS[TASKS[task].kind]]
        assert [measure.metric for measure in score.others] == names
        assert all(
            measure.low <= measure.mean <= measure.high for measure in (score, *score.others)
        )
        assert sum(bin_.n for bin_ in score.reliability) == 400
        assert score.draws == DRAWS


def test_interval_contains_the_mean_for_few_records_and_rare_classes():
    for seed in range(5):
        resamples = make_resamples(12, seed, records=30)
        assert resamples.probability is not None
        # Probabilities equal to the class shares are calibrated: the ECE is 0, its minimum.
        shares = np.bincount(resamples.truth.astype(int), minlength=12) / len(resamples.truth)
        probability = np.tile(shares, (len(resamples.truth), 1))
        score = compute_score([make_predictions("arrhythmia", resamples.truth, probability)])
        for measure in score.others:
            assert measure.low <= measure.mean <= measure.high, measure.metric


def test_custom_metric_is_bootstrapped():
    def share_of_zero(truth: np.ndarray, predicted: np.ndarray) -> float:
        return float(np.mean(predicted == 0))

    task = Task("mine", "Mine", "binary", "sex", "", "share", share_of_zero, ("no", "yes"))
    resamples = make_resamples(2)
    assert resamples.probability is not None
    score = compute_score([make_predictions(task, resamples.truth, resamples.probability)])
    assert score.metric == "share"
    assert score.draws == RANK_DRAWS
    assert score.low < score.mean < score.high


def test_methods_share_draws_and_keep_their_order():
    resamples = make_resamples(2)
    assert resamples.probability is not None
    both = [
        make_predictions(
            "sex", resamples.truth, resamples.probability, method=method, repeat=repeat
        )
        for repeat in (0, 1)
        for method in ("b", "a")
    ]
    first, second = compute_scores(both)
    assert (first.method, second.method) == ("b", "a")
    assert (first.low, first.high, first.others) == (second.low, second.high, second.others)


def test_plain_metrics_are_not_called_per_draw(monkeypatch: pytest.MonkeyPatch):
    areas = []

    def area(positive: np.ndarray, score: np.ndarray) -> float:
        areas.append(roc_area(positive, score))
        return areas[-1]

    monkeypatch.setattr(metrics, "roc_area", area)
    monkeypatch.setattr(bootstrap, "loop_over_draws", None)
    rng = np.random.default_rng(0)
    truth, probability = rng.integers(0, 15, 20_000), rng.dirichlet(np.ones(15), 20_000)
    score = compute_score([make_predictions("arrhythmia", truth, probability)])
    # Once per class, for the value itself.
    assert len(areas) == 15
    assert {measure.metric: measure.draws for measure in (score, *score.others)} == {
        "accuracy": DRAWS,
        "macro-F1": DRAWS,
        "balanced accuracy": DRAWS,
        "macro AUROC": RANK_DRAWS,
        "ECE": DRAWS,
    }
