"""Beat detection in constructed ECGs with artifacts, and in noise."""

import numpy as np
import pytest
from constructed_ecgs import QRS, SECONDS, make_ecg, measure_one, regular_beats, twelve_leads

from enecg.experts.measurements.analysis import analyze
from enecg.experts.measurements.pacing import remove_spikes

BEATS = regular_beats()


def beat_times(ecg: np.ndarray) -> np.ndarray:
    """Return the times of the detected beats in s."""
    return analyze(ecg[None].astype(np.float32)).beats.position / 500


def assert_found(ecg: np.ndarray, expected: np.ndarray = BEATS, tolerance: float = 0.012) -> None:
    found = beat_times(ecg)
    assert len(found) == len(expected), found
    # The fiducial point may be elsewhere in the complex, but it must be the same in all beats.
    offset = found - expected
    assert np.abs(offset - np.median(offset)).max() < tolerance
    assert abs(np.median(offset)) < 0.03


def test_beats_and_rr_intervals_are_exact():
    assert_found(make_ecg(BEATS), tolerance=0.002)
    values = measure_one(make_ecg(BEATS))
    assert values["beat_count"] == len(BEATS)
    assert values["rr_mean"] == pytest.approx(800, abs=0.5)
    assert values["rr_sd"] < 2
    assert values["heart_rate"] == pytest.approx(75, abs=0.1)


def test_irregular_intervals_are_measured():
    rr = np.array([0.6, 0.9, 0.7, 1.1, 0.65, 1.0, 0.8, 0.55, 0.95, 0.7])
    beats = 0.5 + np.append(0, np.cumsum(rr))
    values = measure_one(make_ecg(beats))
    assert values["rr_mean"] == pytest.approx(1000 * rr.mean(), abs=1)
    assert values["rr_sd"] == pytest.approx(1000 * rr.std(), abs=3)
    assert values["rr_rmssd"] == pytest.approx(1000 * np.sqrt((np.diff(rr) ** 2).mean()), abs=3)


@pytest.mark.parametrize("rr", [0.3, 0.4, 1.2, 1.9])
def test_beats_of_fast_and_slow_rhythms_are_found(rr: float):
    beats = regular_beats(rr)
    t = (0.17, 0.03, 0.25) if rr < 0.5 else (0.27, 0.045, 0.3)
    p = None if rr < 0.35 else (-0.12, 0.02, 0.12)
    assert_found(make_ecg(beats, t=t, p=p), beats)


@pytest.mark.parametrize("scale", [0.02, 0.1, 5.0])
def test_beat_times_do_not_depend_on_the_voltage(scale: float):
    ecg = make_ecg(BEATS)
    np.testing.assert_allclose(beat_times(scale * ecg), beat_times(ecg), atol=2e-3)


def test_beats_are_found_in_inverted_leads():
    assert_found(-make_ecg(BEATS))
    swapped = make_ecg(BEATS)
    swapped[0] *= -1
    assert_found(swapped)


@pytest.mark.parametrize("before_s", [(0.06,), (0.2, 0.06)], ids=["ventricular", "two-chamber"])
def test_pacemaker_spikes_are_removed(before_s: tuple[float, ...]):
    ecg = make_ecg(BEATS)
    for at in before_s:
        rows = np.rint((BEATS - at) * 500).astype(int)
        ecg[:, rows] += 2.0
        ecg[:, rows + 1] += 0.6
        ecg[:, rows + 2] += 0.2
    assert_found(ecg)
    values = measure_one(ecg)
    assert values["removed_spikes"] == len(before_s) * len(BEATS)
    assert values["qrs_duration"] == pytest.approx(
        measure_one(make_ecg(BEATS))["qrs_duration"], abs=12
    )


def test_signals_without_spikes_are_not_changed():
    leads = make_ecg(BEATS)[None]
    cleaned, count = remove_spikes(leads)
    assert count.tolist() == [0]
    assert np.array_equal(cleaned, leads)


def test_beats_are_found_despite_a_burst_in_one_lead():
    ecg = make_ecg(BEATS)
    rng = np.random.default_rng(1)
    ecg[8, 2000:3000] += 1.5 * rng.standard_normal(1000)
    ecg[10, 4000:4020] += 3.0
    assert_found(ecg, tolerance=0.02)


def test_noise_of_one_lead_is_not_removed_as_spikes():
    ecg = make_ecg(BEATS)
    ecg[7, 2000:3000] += np.random.default_rng(1).standard_normal(1000)
    leads = ecg[None].astype(np.float32)
    cleaned, count = remove_spikes(leads)
    assert count[0] > 30
    assert np.array_equal(cleaned[:, 0, 2100:2900], leads[:, 0, 2100:2900])
    assert_found(ecg, tolerance=0.02)


def test_burst_in_all_leads_between_beats_is_not_detected_as_a_beat():
    ecg = make_ecg(regular_beats(1.2))
    rng = np.random.default_rng(1)
    ecg[:, 900:1020] += 0.25 * rng.standard_normal((12, 120)).astype(np.float32)
    assert_found(ecg, regular_beats(1.2))


def test_beats_are_found_despite_flat_leads():
    ecg = make_ecg(BEATS)
    ecg[6:9] = 0
    assert_found(ecg)
    assert measure_one(ecg)["flat_leads"] == 3


@pytest.mark.parametrize("hz", [50, 60])
def test_beats_are_found_despite_mains_interference(hz: float):
    hum = 0.5 * np.sin(2 * np.pi * hz * SECONDS)
    assert_found(make_ecg(BEATS) + hum.astype(np.float32))


def test_beats_are_found_despite_baseline_wander():
    wander = 1.5 * np.sin(2 * np.pi * 0.3 * SECONDS)
    assert_found(make_ecg(BEATS) + wander.astype(np.float32))


def test_beats_are_found_despite_muscle_noise():
    assert_found(make_ecg(BEATS, noise_mv=0.12), tolerance=0.014)


def test_tall_t_waves_are_not_detected_as_beats():
    assert_found(make_ecg(BEATS, t=(0.25, 0.03, 1.2)))


def test_ectopic_beat_of_another_shape_is_found():
    ventricular = make_ecg(
        [4.1], p=None, qrs=((0.0, 0.03, -1.5), (0.07, 0.03, 0.8)), t=(0.35, 0.06, 0.5), noise_mv=0
    )
    sinus = np.delete(BEATS, 5)  # the beat at 4.4 s
    beats = np.sort(np.append(sinus, 4.1))
    found = beat_times(make_ecg(sinus) + ventricular)
    assert len(found) == len(beats)
    assert np.abs(found - beats).max() < 0.06
    values = measure_one(make_ecg(sinus) + ventricular)
    assert values["dominant_share"] == pytest.approx(len(sinus) / len(beats))


def test_wide_smooth_complexes_are_found():
    """These ECGs have T waves that resemble the QRS complexes."""
    rng = np.random.default_rng(3)
    beats = 0.5 + np.cumsum(rng.uniform(0.5, 0.9, 12))
    wide = ((0.0, 0.032, 1.0), (0.06, 0.03, 0.3))
    assert_found(make_ecg(beats, p=None, qrs=wide, t=(0.34, 0.05, -0.5)), beats, tolerance=0.02)


def test_t_wave_at_the_start_is_not_detected_as_a_beat():
    beats = regular_beats(1.0, first=-0.25)
    ecg = make_ecg(beats, qrs=((0.0, 0.02, 1.0),), t=(0.27, 0.05, 0.8))
    assert_found(ecg, beats[1:], tolerance=0.02)


@pytest.mark.parametrize("beats", [[3.0, 7.5], [1.0, 4.5, 8.5]])
def test_two_or_three_beats_are_found(beats: list[float]):
    found = beat_times(make_ecg(beats))
    assert len(found) == len(beats)
    values = measure_one(make_ecg(beats))
    assert values["has_beats"] == 1
    assert values["has_rr"] == 1
    assert values["has_rr_changes"] == (len(beats) > 2)


def noise(kind: str, rng: np.random.Generator) -> np.ndarray:
    white = rng.standard_normal((8, 5000))
    if kind == "white":
        return twelve_leads(0.1 * white)
    if kind == "wander":
        return twelve_leads(0.02 * white.cumsum(1))
    if kind == "common":
        return twelve_leads(np.outer(rng.standard_normal(8), 0.1 * white[0]) + 0.01 * white)
    return twelve_leads(np.outer(rng.standard_normal(8), np.sin(2 * np.pi * 50 * SECONDS)))


@pytest.mark.parametrize("kind", ["white", "wander", "common", "mains"])
def test_no_beats_are_found_in_noise(kind: str):
    rng = np.random.default_rng(0)
    ecgs = np.stack([noise(kind, rng) for _ in range(40)]).astype(np.float32)
    assert analyze(ecgs).beats.count.tolist() == [0] * 40


def test_flat_record_has_no_beats_and_finite_features():
    values = measure_one(np.zeros((12, 5000), np.float32))
    assert values["has_beats"] == 0
    assert values["qt_interval"] == 390  # the default
    assert np.isfinite(list(values.values())).all()


def test_beat_times_do_not_depend_on_gains_of_single_leads():
    ecg = make_ecg(BEATS)
    louder = ecg * np.array([1, 1, 1, 1, 1, 1, 0.05, 8, 1, 1, 0.1, 1])[:, None]
    np.testing.assert_allclose(beat_times(louder), beat_times(ecg), atol=4e-3)


def test_beats_with_inverted_qrs_complexes_are_found():
    assert_found(make_ecg(BEATS, qrs=[(at, width, -height) for at, width, height in QRS]))
