import statistics
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from enecg.errors import UserError
from enecg.metrics import Metric
from enecg.tasks import OTHER_CLASS, TASKS
from pipeline.evaluation.bootstrap import draw as draw_patients
from pipeline.evaluation.evaluate import Predicted, bootstrap, choose_threshold, decide, score
from pipeline.labels.targets import fit_constant, fit_targets
from pipeline.training.cohorts import draw


def test_split_is_by_patient():
    patient = np.repeat(np.arange(100), 3)
    cohort = draw(np.arange(300), patient, patients=50, seed=4)
    parts = [set(patient[ids]) for ids in (cohort.train, cohort.validation, cohort.test)]
    assert [len(part) for part in parts] == [35, 10, 5]
    assert len(set.union(*parts)) == 50
    assert len(cohort.everyone) == 150


def test_cohort_depends_on_seed_only():
    patient = np.arange(100)
    first, again, other = (draw(patient, patient, patients=60, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first.everyone, again.everyone)
    assert not np.array_equal(first.test, other.test)


def test_too_few_patients_are_an_error():
    with pytest.raises(UserError, match="2 patients are too few"):
        draw(np.arange(2), np.arange(2), patients=10, seed=0)


def test_regression_labels_are_standardized_and_decoded():
    labels = pd.Series([600.0, 800.0, np.nan, 1000.0])
    targets = fit_targets(TASKS["rr_interval"], labels)
    encoded = targets.encode(labels)
    assert np.nanmean(encoded) == pytest.approx(0)
    assert np.nanstd(encoded) == pytest.approx(1)
    assert np.isnan(encoded[2])
    np.testing.assert_allclose(targets.decode(encoded), labels)


def test_classes_are_14_most_frequent_diagnoses_and_others():
    words = [f"rhythm {number:02}" for number in range(20)]
    training = pd.Series([word for place, word in enumerate(words) for _ in range(30 - place)])
    targets = fit_targets(TASKS["arrhythmia"], training.sample(frac=1, random_state=0))
    assert targets.classes == (*words[:14], OTHER_CLASS)
    seen = targets.encode(pd.Series(["rhythm 01", "rhythm 19", "unknown", None]))
    np.testing.assert_array_equal(seen, [1, 14, 14, np.nan])


def test_single_class_is_an_error():
    with pytest.raises(UserError, match=r"sex has 1 distinct labels .* \(3 of 4 records"):
        fit_targets(TASKS["sex"], pd.Series([1.0, 1.0, np.nan, 1.0]))


def test_constant_is_median_or_most_frequent_class():
    ages = pd.Series([20.0, 30.0, 90.0])
    targets = fit_targets(TASKS["age"], ages)
    assert targets.constant == 30
    encoded = fit_constant("regression", targets.encode(ages), targets.outputs)
    assert targets.decode(np.asarray(encoded.value)) == pytest.approx(30)
    targets = fit_targets(TASKS["sex"], pd.Series([0.0, 1.0, 1.0, np.nan]))
    assert targets.constant == 1
    np.testing.assert_allclose(targets.shares, [1 / 3, 2 / 3])


def predicted(task: str, truth: np.ndarray, answer: np.ndarray, patient: np.ndarray) -> Predicted:
    ids = np.arange(len(truth))
    return Predicted(TASKS[task], "x", 0, ids, patient, truth.astype(float), answer.astype(float))


@pytest.mark.parametrize("task", ["age", "sex", "arrhythmia"])
def test_interval_matches_plain_bootstrap_over_patients(task: str):
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(60), 2)
    truth = rng.integers(0, 2 if task == "sex" else 5, 120)
    answer = np.where(rng.random(120) < 0.7, truth, 1)
    one = predicted(task, truth, answer, patient)
    metric = Metric("", TASKS[task].metric, True)
    fast = bootstrap(one, metric, draw_patients(60, 1000, np.random.default_rng(1)))
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
    made = score(repeats)
    assert made.deviation == pytest.approx(statistics.stdev([0, 1, 5]), rel=1e-6)
    (alone,) = (score([one]) for one in repeats[:1])
    assert alone.high - alone.low == pytest.approx(2 * 1.96 * error.std() / 400**0.5, rel=0.08)


def test_patient_in_every_repeat_counts_once():
    rng = np.random.default_rng(0)
    error = rng.normal(size=80)
    same = [
        replace(predicted("age", np.zeros(80), error, np.arange(80)), repeat=number)
        for number in range(3)
    ]
    three, one = score(same), score(same[:1])
    assert (three.low, three.high) == pytest.approx((one.low, one.high))


def test_class_1_is_predicted_from_the_threshold_up():
    sexes = fit_targets(TASKS["sex"], pd.Series([0.0, 1.0]))
    predictions = decide(sexes, np.array([[0.6, 0.4], [0.5, 0.5], [0.4, 0.6]]), 0.5)
    assert predictions.tolist() == [0, 1, 1]


def test_diagnosis_named_others_joins_class_others():
    words = pd.Series(["a", "a", "Others", "Others", "Others", "b"])
    assert fit_targets(TASKS["arrhythmia"], words).classes == ("a", "b", "Others")


def test_repeated_records_of_a_patient_do_not_narrow_interval():
    rng = np.random.default_rng(0)
    error = rng.normal(size=50)
    alone = predicted("age", np.zeros(50), error, np.arange(50))
    repeated = predicted("age", np.zeros(500), np.repeat(error, 10), np.repeat(np.arange(50), 10))
    one, ten = score([alone]), score([repeated])
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


def test_one_ecg_per_patient_depends_on_seed():
    patients = np.repeat(np.arange(20), 5)
    records = np.arange(100)
    cohort = draw(records, patients, patients=20, seed=0, ecgs="one")
    assert sorted(patients[cohort.everyone]) == list(range(20))
    same, other = (draw(records, patients, patients=20, seed=s, ecgs="one") for s in (0, 1))
    assert np.array_equal(same.everyone, cohort.everyone)
    assert set(other.everyone) != set(cohort.everyone)
    # The split of patients does not depend on `ecgs`.
    every = draw(records, patients, patients=20, seed=0)
    assert set(patients[every.train]) == set(patients[cohort.train])
