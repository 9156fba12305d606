"""Measurements of synthetic ECGs, compared with the values from which they were simulated."""

import numpy as np
import pytest

from enecg.experts.measurements.analysis import analyze
from enecg.experts.measurements.measure import FEATURES, measure
from pipeline.synthetic.patient import draw_patient
from pipeline.synthetic.rhythms import draw_rhythm
from pipeline.synthetic.simulation import Recording, simulate

COUNT = 60


@pytest.fixture(scope="module")
def recordings() -> list[Recording]:
    rng = np.random.default_rng(7)
    drawn = []
    for number in range(COUNT):
        age = int(rng.integers(20, 90))
        rhythm = draw_rhythm(rng, age)
        patient = draw_patient(rng, age=age, male=bool(number % 2))
        drawn.append(simulate(patient, rhythm, float(rng.uniform(3, 6)), rng))
    return drawn


@pytest.fixture(scope="module")
def ecgs(recordings: list[Recording]) -> np.ndarray:
    return np.stack([recording.ecg_mv for recording in recordings])


@pytest.fixture(scope="module")
def measured(ecgs: np.ndarray) -> dict[str, np.ndarray]:
    values = measure(ecgs)
    return {feature.name: values[:, column] for column, feature in enumerate(FEATURES)}


def test_few_beats_are_missed_or_false(recordings: list[Recording], ecgs: np.ndarray):
    beats = analyze(ecgs).beats
    missed = false = total = 0
    for row, recording in enumerate(recordings):
        found, true = beats.position[beats.record == row] / 500, recording.beats_s
        inner = true[(true > 0.1) & (true < 9.9)]
        total += len(inner)
        missed += sum(np.abs(found - beat).min(initial=9) > 0.15 for beat in inner)
        false += sum(np.abs(true - beat).min() > 0.15 for beat in found)
    assert missed <= 0.005 * total
    assert false <= 0.005 * total


def errors(
    recordings: list[Recording], measured: dict[str, np.ndarray], feature: str, name: str
) -> np.ndarray:
    true = np.array([getattr(recording, name) for recording in recordings])
    known = np.isfinite(true) & ((measured["has_p_wave"] > 0) | (name not in ("pr_ms", "p_axis")))
    return measured[feature][known] - true[known]


@pytest.mark.parametrize(
    ("feature", "name", "offset", "spread"),
    [
        ("rr_mean", "rr_ms", 0.5, 0.5),
        # Simulated waves have no sharp ends, so the two definitions of an end differ by an offset.
        ("pr_interval", "pr_ms", 20, 5),
        ("qrs_duration", "qrs_ms", 20, 5),
        ("qt_interval", "qt_ms", 20, 8),
        ("p_axis", "p_axis", 5, 4),
        ("qrs_axis", "qrs_axis", 3, 3),
        ("t_axis", "t_axis", 5, 5),
    ],
)
def test_measured_values_agree_with_simulated_ones(
    recordings: list[Recording],
    measured: dict[str, np.ndarray],
    feature: str,
    name: str,
    offset: float,
    spread: float,
):
    error = errors(recordings, measured, feature, name)
    middle = np.median(error)
    assert abs(middle) < offset
    assert np.median(np.abs(error - middle)) < spread


def test_presence_of_p_waves_is_mostly_detected(
    recordings: list[Recording], measured: dict[str, np.ndarray]
):
    present = np.isfinite([recording.p_ms for recording in recordings])
    found = measured["has_p_wave"] > 0
    assert (found == present)[present].mean() > 0.95
    assert (found == present)[~present].mean() > 0.6  # flutter waves resemble P waves
