import statistics
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from enecg.metrics import Metric
from enecg.tasks import TASKS
from pipeline.evaluation.bootstrap import RANK_DRAWS
from pipeline.evaluation.chance import DRAWS_PER_SAMPLE
from pipeline.evaluation.predictions import CHANCE, CONSTANT, TaskPredictions
from pipeline.evaluation.resamples import DRAWS, draw_counts
from pipeline.evaluation.scores import (
    Measure,
    Score,
    bootstrap_metric,
    compute_score,
    compute_scores,
)

SAMPLES, RANK_SAMPLES = DRAWS // DRAWS_PER_SAMPLE, RANK_DRAWS // DRAWS_PER_SAMPLE


def make_predictions(
    task: str, truth: np.ndarray, predicted: np.ndarray, patient: np.ndarray, repeat: int = 0
) -> TaskPredictions:
    ids = np.arange(len(truth))
    return TaskPredictions(
        TASKS[task], "x", repeat, ids, patient, truth.astype(float), predicted.astype(float)
    )


def make_errors(error: np.ndarray, patient: np.ndarray, repeat: int = 0) -> TaskPredictions:
    """Return age predictions with the given errors."""
    return make_predictions("age", np.zeros(len(error)), error, patient, repeat)


@pytest.mark.parametrize("task", ["age", "sex", "arrhythmia"])
def test_interval_matches_plain_bootstrap_over_patients(task: str):
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(60), 2)
    truth = rng.integers(0, 2 if task == "sex" else 5, 120)
    predicted = np.where(rng.random(120) < 0.7, truth, 1)
    predictions = make_predictions(task, truth, predicted, patient)
    metric = Metric("", TASKS[task].metric, True)
    vectorized = bootstrap_metric(
        predictions, metric, draw_counts(60, 1000, np.random.default_rng(1))
    )
    plain = []
    for _ in range(1000):
        patients = rng.choice(60, 60)
        rows = np.concatenate([np.flatnonzero(patient == number) for number in patients])
        plain.append(TASKS[task].metric(predictions.truth[rows], predictions.predicted[rows]))
    assert np.mean(vectorized) == pytest.approx(np.mean(plain), abs=4 * np.std(plain) / 1000**0.5)
    assert np.std(vectorized) == pytest.approx(np.std(plain), rel=0.1)


def test_interval_has_width_of_95_percent_and_deviation_is_sample_sd():
    rng = np.random.default_rng(0)
    error = rng.normal(10, 1, 400)
    repeats = [
        make_errors(error + shift, np.arange(400), repeat)
        for repeat, shift in enumerate((0.0, 1.0, 5.0))
    ]
    deviation = compute_score(repeats).deviation
    assert deviation == pytest.approx(statistics.stdev([0, 1, 5]), rel=1e-6)
    single = compute_score(repeats[:1])
    assert single.deviation is None
    assert single.high - single.low == pytest.approx(2 * 1.96 * error.std() / 400**0.5, rel=0.08)


def test_interval_is_the_same_if_all_repeats_have_the_same_patients():
    error = np.random.default_rng(0).normal(size=80)
    predictions = make_errors(error, np.arange(80))
    three = compute_score([replace(predictions, repeat=repeat) for repeat in range(3)])
    single = compute_score([predictions])
    assert (three.low, three.high) == pytest.approx((single.low, single.high))


def test_interval_has_a_similar_width_with_more_records_per_patient():
    error = np.random.default_rng(0).normal(size=50)
    one = compute_score([make_errors(error, np.arange(50))])
    ten = compute_score([make_errors(np.repeat(error, 10), np.repeat(np.arange(50), 10))])
    assert ten.high - ten.low == pytest.approx(one.high - one.low, rel=0.15)


def make_constant(
    task: str, truth: np.ndarray, shares: tuple[float, ...], repeat: int = 0
) -> TaskPredictions:
    """Return constant predictions, one record per patient."""
    one = make_predictions(task, truth, np.zeros(len(truth)), np.arange(len(truth)), repeat)
    probability = np.tile(shares, (len(truth), 1))
    return replace(one, method=CONSTANT, probability=probability)


def score_chance(*constant: TaskPredictions) -> tuple[Score, dict[str, Measure]]:
    """Return the score of the chance level, and its other measures by metric name."""
    (score,) = (candidate for candidate in compute_scores(constant) if candidate.method == CHANCE)
    return score, {measure.metric: measure for measure in score.others}


@pytest.mark.parametrize(
    "share",
    [0.2, pytest.param(0.5, marks=pytest.mark.slow), pytest.param(0.05, marks=pytest.mark.slow)],
)
def test_chance_is_the_expected_score_of_predictions_drawn_by_training_shares(share: float):
    rng = np.random.default_rng(0)
    truth = (rng.random(400) < share).astype(int)
    score, others = score_chance(make_constant("sex", truth, (1 - share, share)))
    drawn = [TASKS["sex"].metric(truth, rng.random(400) < share) for _ in range(2000)]
    assert score.mean == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / SAMPLES**0.5)
    # The interval covers random predictions for this test set.
    assert np.mean([score.low <= value <= score.high for value in drawn]) > 0.93
    assert others["AUROC"].mean == pytest.approx(0.5, abs=1e-9)
    assert others["AUROC"].low < 0.49
    assert others["AUROC"].high > 0.51
    areas = [average_precision_score(truth, rng.random(400)) for _ in range(500)]
    expected = pytest.approx(np.mean(areas), abs=4 * np.std(areas) / RANK_SAMPLES**0.5)
    assert others["AUPRC"].mean == expected
    assert "ECE" not in others


def test_chance_of_several_classes_is_the_probability_of_a_match():
    truth = np.repeat([0, 1, 2], [500, 300, 200])
    shares = (0.6, 0.3, 0.1)
    score, others = score_chance(make_constant("arrhythmia", truth, shares))
    assert score.mean == pytest.approx(0.5 * 0.6 + 0.3 * 0.3 + 0.2 * 0.1, abs=0.003)
    assert others["balanced accuracy"].mean == pytest.approx(1 / 3, abs=0.003)
    assert others["macro AUROC"].mean == pytest.approx(0.5, abs=1e-9)


def test_no_share_of_random_predictions_has_a_higher_expected_macro_f1_than_chance():
    truth = np.repeat([0, 1], [300, 100])
    means = {
        share: score_chance(make_constant("sex", truth, (1 - share, share)))[0].mean
        for share in (0.0, 0.1, 0.25, 0.5, 0.9)
    }
    assert max(means, key=lambda share: means[share]) == 0.25
    assert means[0.0] == pytest.approx(TASKS["sex"].metric(truth, np.zeros(400)))


def test_chance_follows_the_constant_predictor_and_is_reproducible():
    truth = np.repeat([0, 1], 30)
    constant = [make_constant("sex", truth, (0.5, 0.5), repeat) for repeat in (0, 1)]
    other = [replace(prediction, method="x") for prediction in constant]
    regression = replace(make_errors(np.ones(60), np.arange(60)), method=CONSTANT)
    scores = compute_scores([*constant, *other, regression])
    assert [(score.method, score.task) for score in scores] == [
        (CONSTANT, "sex"),
        (CONSTANT, "age"),
        (CHANCE, "sex"),
        ("x", "sex"),
    ]
    assert scores == compute_scores([*constant, *other, regression])
    assert scores[2].n == (60, 60)


def test_chance_does_not_depend_on_the_order_of_records():
    constant = make_constant("sex", np.arange(50) % 2, (0.5, 0.5))
    order = np.random.default_rng(0).permutation(50)
    fields = {name: getattr(constant, name)[order] for name in ("record_id", "patient_id", "truth")}
    assert score_chance(replace(constant, **fields)) == score_chance(constant)


def test_auroc_of_chance_is_undefined_if_a_class_has_no_test_record():
    _, others = score_chance(make_constant("sex", np.zeros(20, int), (0.5, 0.5)))
    assert np.isnan(others["AUROC"].mean)
    assert others["AUROC"].draws == 0
