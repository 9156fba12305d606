import statistics
from dataclasses import replace

import numpy as np
import pytest

from enecg.metrics import Metric
from enecg.tasks import TASKS
from pipeline.evaluation.bootstrap import draw_counts
from pipeline.evaluation.predictions import TaskPredictions
from pipeline.evaluation.scores import bootstrap_metric, compute_score


def make_predictions(
    task: str, truth: np.ndarray, predicted: np.ndarray, patient: np.ndarray, repeat: int = 0
) -> TaskPredictions:
    ids = np.arange(len(truth))
    return TaskPredictions(
        TASKS[task], "x", repeat, ids, patient, truth.astype(float), predicted.astype(float)
    )


def make_errors(error: np.ndarray, patient: np.ndarray, repeat: int = 0) -> TaskPredictions:
    """Age predictions with the given absolute errors."""
    return make_predictions("age", np.zeros(len(error)), error, patient, repeat)


@pytest.mark.parametrize("task", ["age", "sex", "arrhythmia"])
def test_interval_matches_plain_bootstrap_over_patients(task: str):
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(60), 2)
    truth = rng.integers(0, 2 if task == "sex" else 5, 120)
    predicted = np.where(rng.random(120) < 0.7, truth, 1)
    one = make_predictions(task, truth, predicted, patient)
    metric = Metric("", TASKS[task].metric, True)
    vectorized = bootstrap_metric(one, metric, draw_counts(60, 1000, np.random.default_rng(1)))
    plain = []
    for _ in range(1000):
        patients = rng.choice(60, 60)
        rows = np.concatenate([np.flatnonzero(patient == number) for number in patients])
        plain.append(TASKS[task].metric(one.truth[rows], one.predicted[rows]))
    assert np.mean(vectorized) == pytest.approx(np.mean(plain), abs=4 * np.std(plain) / 1000**0.5)
    assert np.std(vectorized) == pytest.approx(np.std(plain), rel=0.1)


def test_interval_covers_95_percent_and_deviation_is_sample_sd():
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


def test_patient_in_every_repeat_counts_once():
    error = np.random.default_rng(0).normal(size=80)
    single = make_errors(error, np.arange(80))
    three = compute_score([replace(single, repeat=repeat) for repeat in range(3)])
    one = compute_score([single])
    assert (three.low, three.high) == pytest.approx((one.low, one.high))


def test_repeated_records_of_a_patient_do_not_narrow_interval():
    error = np.random.default_rng(0).normal(size=50)
    one = compute_score([make_errors(error, np.arange(50))])
    ten = compute_score([make_errors(np.repeat(error, 10), np.repeat(np.arange(50), 10))])
    assert ten.high - ten.low == pytest.approx(one.high - one.low, rel=0.15)
