"""Conformal prediction covers new patients as often as requested."""

import numpy as np
import pytest

from pipeline.evaluation.conformal import ConformalScores, patients_needed


@pytest.mark.parametrize(("patients", "expected"), [(9, 0.9), (19, 0.9), (50, 46 / 51)])
def test_quantile_covers_new_patients(patients: int, expected: float):
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(4000):
        score = rng.exponential(size=patients + 1)
        scores = ConformalScores.of(score[:-1], np.arange(patients))
        hits.append(score[-1] <= scores.quantile(0.9))
    assert np.mean(hits) == pytest.approx(expected, abs=0.015)


def test_p_value_and_quantile_accept_the_same_scores():
    rng = np.random.default_rng(1)
    for patients in (3, 9, 10, 37):
        patient = rng.integers(0, patients, 4 * patients)
        scores = ConformalScores.of(rng.normal(size=len(patient)), patient)
        new = rng.normal(size=200)
        accepted = scores.p_value(new) > 0.2 + 1e-9
        assert (accepted == (new <= scores.quantile(0.8))).all()


def test_patient_with_many_records_counts_once():
    """Without weights, the 900 records of one patient would determine the quantile."""
    score = np.concatenate([np.full(900, 100.0), np.arange(19.0)])
    patient = np.concatenate([np.zeros(900, int), np.arange(1, 20)])
    scores = ConformalScores.of(score, patient)
    assert scores.patients == 20
    assert scores.quantile(0.8) == 16.0


def test_too_few_patients_accept_every_value():
    assert patients_needed(0.9) == 9
    assert ConformalScores.of(np.zeros(8), np.arange(8)).quantile(0.9) == np.inf
    assert ConformalScores.of(np.zeros(9), np.arange(9)).quantile(0.9) == 0.0
    assert ConformalScores.of(np.empty(0), np.empty(0, int)).quantile(0.5) == np.inf
