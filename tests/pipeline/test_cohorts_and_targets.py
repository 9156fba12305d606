import numpy as np
import pandas as pd
import pytest

from enecg.errors import UserError
from enecg.tasks import OTHER_CLASS, TASKS
from pipeline.labels.targets import fit_constant, fit_targets
from pipeline.training.cohorts import draw_cohort


def test_split_is_by_patient():
    patient = np.repeat(np.arange(100), 3)
    cohort = draw_cohort(np.arange(300), patient, patients=50, seed=4)
    parts = [set(patient[ids]) for ids in (cohort.train, cohort.validation, cohort.test)]
    assert [len(part) for part in parts] == [35, 10, 5]
    assert len(set.union(*parts)) == 50
    assert len(cohort.record_id) == 150


def test_cohort_depends_only_on_the_seed():
    patient = np.arange(100)
    first, again, other = (draw_cohort(patient, patient, patients=60, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first.record_id, again.record_id)
    assert not np.array_equal(first.test, other.test)


def test_too_few_patients_are_an_error():
    with pytest.raises(UserError, match="2 patients are too few"):
        draw_cohort(np.arange(2), np.arange(2), patients=10, seed=0)


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
    training = pd.Series(
        [word for position, word in enumerate(words) for _ in range(30 - position)]
    )
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


def test_diagnosis_named_others_joins_class_others():
    words = pd.Series(["a", "a", "Others", "Others", "Others", "b"])
    assert fit_targets(TASKS["arrhythmia"], words).classes == ("a", "b", "Others")


def test_one_ecg_per_patient_depends_on_seed():
    patients = np.repeat(np.arange(20), 5)
    records = np.arange(100)
    cohort = draw_cohort(records, patients, patients=20, seed=0, ecgs="one")
    assert sorted(patients[cohort.record_id]) == list(range(20))
    same, other = (draw_cohort(records, patients, patients=20, seed=s, ecgs="one") for s in (0, 1))
    assert np.array_equal(same.record_id, cohort.record_id)
    assert set(other.record_id) != set(cohort.record_id)
    # The split of patients does not depend on `ecgs`.
    every = draw_cohort(records, patients, patients=20, seed=0)
    assert set(patients[every.train]) == set(patients[cohort.train])
