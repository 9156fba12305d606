"""Intervals, amplitudes and axes of constructed ECGs."""

import numpy as np
import pytest
from constructed_ecgs import QRS, P, T, make_ecg, measure_one, regular_beats

BEATS = regular_beats(0.9)


def test_intervals_of_a_normal_beat_are_measured():
    values = measure_one(make_ecg(BEATS))
    assert values["has_p_wave"] == 1
    assert values["has_t_wave"] == 1
    # Waves begin and end at about 2.2 standard deviations of the Gaussians.
    assert values["qrs_duration"] == pytest.approx(80, abs=16)
    assert values["pr_interval"] == pytest.approx(1000 * (0.16 + 2.2 * 0.022 - 0.035), abs=20)
    assert values["p_duration"] == pytest.approx(1000 * 4.4 * 0.022, abs=25)
    assert values["qt_interval"] == pytest.approx(1000 * (0.035 + 0.27 + 2.2 * 0.045), abs=20)


@pytest.mark.parametrize("later", [0.05, 0.1, 0.18])
def test_qt_interval_increases_by_the_delay_of_the_t_wave(later: float):
    rr = regular_beats(1.1)
    usual = measure_one(make_ecg(rr))["qt_interval"]
    long = measure_one(make_ecg(rr, t=(T[0] + later, *T[1:])))["qt_interval"]
    assert long - usual == pytest.approx(1000 * later, abs=12)


def test_qtc_intervals_equal_their_formulas():
    values = measure_one(make_ecg(BEATS))
    rr_s = values["rr_median"] / 1000
    assert values["qtc_bazett"] == pytest.approx(values["qt_interval"] / rr_s**0.5, rel=1e-6)
    assert values["qtc_fridericia"] == pytest.approx(values["qt_interval"] / rr_s ** (1 / 3))
    assert values["qtc_framingham"] == pytest.approx(values["qt_interval"] + 154 * (1 - rr_s))


@pytest.mark.parametrize("earlier", [0.04, 0.1])
def test_pr_interval_increases_if_the_p_wave_is_earlier(earlier: float):
    usual = measure_one(make_ecg(BEATS))["pr_interval"]
    long = measure_one(make_ecg(BEATS, p=(P[0] - earlier, *P[1:])))["pr_interval"]
    assert long - usual == pytest.approx(1000 * earlier, abs=10)


@pytest.mark.parametrize("factor", [1.4, 1.8])
def test_qrs_duration_is_proportional_to_the_width_of_the_complex(factor: float):
    wide = [(factor * at, factor * width, height) for at, width, height in QRS]
    usual = measure_one(make_ecg(BEATS))["qrs_duration"]
    values = measure_one(make_ecg(BEATS, qrs=wide, t=(0.32, 0.05, 0.3)))
    assert values["qrs_duration"] / usual == pytest.approx(factor, abs=0.2)


def test_late_r_prime_is_part_of_the_complex():
    usual = measure_one(make_ecg(BEATS))
    ecg = make_ecg(BEATS)
    time = np.arange(5000)[:, None] / 500 - BEATS
    late = np.exp(-0.5 * ((time - 0.075) / 0.014) ** 2).sum(1)
    ecg[6] += (0.5 * late).astype(np.float32)
    values = measure_one(ecg)
    # R' ends 31 ms, 2.2 standard deviations, after its peak.
    assert values["qrs_duration"] - usual["qrs_duration"] == pytest.approx(60, abs=16)


def test_p_wave_is_not_reported_for_atrial_fibrillation():
    rng = np.random.default_rng(0)
    for seed in range(5):
        beats = 0.4 + np.cumsum(rng.uniform(0.5, 1.1, 11))
        ecg = make_ecg(beats[beats < 9.8], p=None, seed=seed)
        time = np.arange(5000) / 500
        phase = 2 * np.pi * 6 * time + 2 * np.cumsum(rng.normal(0, 0.05, 5000))
        waves = 0.06 * np.sin(phase).astype(np.float32)
        ecg[1] += waves
        ecg[5] += waves
        ecg[6] += 1.5 * waves
        values = measure_one(ecg)
        assert values["has_p_wave"] == 0
        assert values["pr_interval"] == 155  # the default
        assert values["rr_irregular"] > 0.3


def test_p_wave_is_not_reported_for_beats_without_one():
    assert measure_one(make_ecg(BEATS, p=None))["has_p_wave"] == 0


def test_amplitudes_equal_those_of_the_constructed_waves():
    qrs = ((-0.035, 0.006, -0.2), (0.0, 0.010, 1.0), (0.04, 0.008, -0.4))
    values = measure_one(make_ecg(BEATS, qrs=qrs))
    assert values["r_amplitude_II"] == pytest.approx(1.0, abs=0.08)
    assert values["q_amplitude_II"] == pytest.approx(-0.2, abs=0.05)
    assert values["s_amplitude_II"] == pytest.approx(-0.4, abs=0.06)
    assert values["r_prime_amplitude_II"] == 0
    # V1 is inverted: the first deflection is R, the main one S, and the last one R'.
    assert values["r_amplitude_V1"] == pytest.approx(0.8 * 0.2, abs=0.05)
    assert values["s_amplitude_V1"] == pytest.approx(-0.8, abs=0.08)
    assert values["r_prime_amplitude_V1"] == pytest.approx(0.8 * 0.4, abs=0.06)
    assert values["q_amplitude_V1"] == 0
    assert values["t_amplitude_II"] == pytest.approx(0.3, abs=0.03)
    assert values["p_amplitude_II"] == pytest.approx(0.12, abs=0.03)
    assert values["sokolow_lyon"] == pytest.approx(
        -values["s_amplitude_V1"] + max(values["r_amplitude_V5"], values["r_amplitude_V6"])
    )
    assert values["cornell_voltage"] == pytest.approx(
        values["r_amplitude_aVL"] - values["s_amplitude_V3"]
    )


def test_qs_complex_counts_as_s():
    values = measure_one(make_ecg(BEATS, qrs=((0.0, 0.015, -1.2),)))
    assert values["s_amplitude_II"] == pytest.approx(-1.2, abs=0.1)
    assert values["q_amplitude_II"] == values["r_amplitude_II"] == 0


def test_st_elevation_is_measured():
    ecg = make_ecg(BEATS)
    time = np.arange(5000)[:, None] / 500 - BEATS
    plateau = ((time > 0.05) & (time < 0.35)).any(1)
    ecg[8] += 0.25 * np.convolve(plateau, np.hanning(15) / np.hanning(15).sum(), "same")
    values = measure_one(ecg)
    assert values["st_j60_V3"] - measure_one(make_ecg(BEATS))["st_j60_V3"] == pytest.approx(
        0.25, abs=0.06
    )
    assert abs(values["st_j60_V6"] - measure_one(make_ecg(BEATS))["st_j60_V6"]) < 0.02


def test_axes_agree_with_the_amplitudes_of_the_limb_leads():
    values = measure_one(make_ecg(BEATS))
    # I = 0.7 and II = 1 give aVF = 0.65, hence atan2(0.65 * 2 / sqrt(3), 0.7).
    assert values["qrs_axis"] == pytest.approx(47, abs=4)
    inverted = measure_one(-make_ecg(BEATS))
    assert abs(abs(values["qrs_axis"] - inverted["qrs_axis"]) - 180) < 1
    assert values["qrs_t_angle_frontal"] == pytest.approx(
        abs(values["qrs_axis"] - values["t_axis"]), abs=1e-3
    )
    opposite = measure_one(make_ecg(BEATS, t=(*T[:2], -T[2])))
    assert opposite["qrs_t_angle_frontal"] > 165 - values["qrs_t_angle_frontal"]
    assert opposite["qrs_t_angle_spatial"] == pytest.approx(
        180 - values["qrs_t_angle_spatial"], abs=15
    )


def test_limb_residual_is_the_deviation_of_a_limb_lead_from_the_others():
    ecg = make_ecg(BEATS)
    assert measure_one(ecg)["limb_residual"] < 1e-6
    ecg[2] += 0.2
    assert measure_one(ecg)["limb_residual"] == pytest.approx(0.2, abs=1e-3)
