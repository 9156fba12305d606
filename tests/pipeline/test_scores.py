import statistics
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from enecg.metrics import Metric
from enecg.tasks import TASKS
from pipeline.evaluation.bootstrap import draw
from pipeline.evaluation.predictions import TaskPredictions
from pipeline.evaluation.scores import bootstrap_metric, compute_score
from pipeline.evaluation.thresholds import choose_threshold, decide
from pipeline.labels.targets import fit_targets


def predicted(
    task: str, truth: np.ndarray, answer: np.ndarray, patient: np.ndarray
) -> TaskPredictions:
    ids = np.arange(len(truth))
    return TaskPredictions(
        TASKS[task], "x", 0, ids, patient, truth.astype(float), answer.astype(float)
    )


@pytest.mark.parametrize("task", ["age", "sex", "arrhythmia"])
def test_interval_matches_plain_bootstrap_over_patients(task: str):
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(60), 2)
    truth = rng.integers(0, 2 if task == "sex" else 5, 120)
    answer = np.where(rng.random(120) < 0.7, truth, 1)
    one = predicted(task, truth, answer, patient)
    metric = Metric("", TASKS[task].metric, True)
    fast = bootstrap_metric(one, metric, draw(60, 1000, np.random.default_rng(1)))
    plain = []
    for _ in range(1000):
        drawn = rng.choice(60, 60)
        rows = np.concatenate([np.flatnonzero(patient == p) for p in drawn])
        plain.append(TASKS[task].metric(one.truth[rows], one.predicted[rows]))
    assert np.mean(fast) == pytest.approx(np.mean(plain), abs=4 * np.std(plain) / 1000**0.5)
    assert np.std(fast) == pytest.approx(np.std(plain), rel=0.1)


def test_interval_covers_95_percent_and_deviation_is_sample_sd():
    rng = np.random.default_rng(0)
    error = rng.normal(10, 1, 400)
    repeats = [
        replace(predicted("age", np.zeros(400), error + shift, np.arange(400)), repeat=number)
        for number, shift in enumerate((0.0, 1.0, 5.0))
    ]
    made = compute_score(repeats)
    assert made.deviation == pytest.approx(statistics.stdev([0, 1, 5]), rel=1e-6)
    (alone,) = (compute_score([one]) for one in repeats[:1])
    assert alone.high - alone.low == pytest.approx(2 * 1.96 * error.std() / 400**0.5, rel=0.08)


def test_patient_in_every_repeat_counts_once():
    rng = np.random.default_rng(0)
    error = rng.normal(size=80)
    same = [
        replace(predicted("age", np.zeros(80), error, np.arange(80)), repeat=number)
        for number in range(3)
    ]
    three, one = compute_score(same), compute_score(same[:1])
    assert (three.low, three.high) == pytest.approx((one.low, one.high))


def test_class_1_is_predicted_from_the_threshold_up():
    sexes = fit_targets(TASKS["sex"], pd.Series([0.0, 1.0]))
    predictions = decide(sexes, np.array([[0.6, 0.4], [0.5, 0.5], [0.4, 0.6]]), 0.5)
    assert predictions.tolist() == [0, 1, 1]


def test_repeated_records_of_a_patient_do_not_narrow_interval():
    rng = np.random.default_rng(0)
    error = rng.normal(size=50)
    alone = predicted("age", np.zeros(50), error, np.arange(50))
    repeated = predicted("age", np.zeros(500), np.repeat(error, 10), np.repeat(np.arange(50), 10))
    one, ten = compute_score([alone]), compute_score([repeated])
    assert ten.high - ten.low == pytest.approx(one.high - one.low, rel=0.15)
    assert one.deviation is None


@pytest.mark.parametrize("seed", range(5))
def test_threshold_maximizes_validation_macro_f1(seed: int):
    rng = np.random.default_rng(seed)
    truth = (rng.random(80) < 0.1).astype(int)
    probability = np.round(np.clip(0.1 + 0.2 * truth + 0.2 * rng.normal(size=80), 0, 1), 2)

    def macro(threshold: float) -> float:
        predictions = (probability >= threshold).astype(int)
        return float(f1_score(truth, predictions, average="macro", labels=[0, 1], zero_division=0))

    best = max(macro(threshold) for threshold in np.append(np.linspace(0, 1.005, 202), np.inf))
    assert macro(choose_threshold(probability, truth)) == pytest.approx(best)
