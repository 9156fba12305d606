"""Simulation of a 10 s 12-lead ECG from a moving heart vector.

The heart vector (x to the left, y to the feet, z to the back, in mV) is a sum of Gaussian waves at
each beat (McSharry et al., IEEE Trans Biomed Eng 50:289, 2003; Sameni et al., EURASIP J Adv Signal
Process 2007:43407). A lead matrix projects it to leads I, II and V1-V6 (Dower, Machado and Osborne,
Clin Cardiol 3:87, 1980); the other four leads are derived from I and II, so Einthoven's law holds.

Every label affects the signal: the RR interval and the rhythm determine the beat times; potassium
changes the T, U and P waves, the ST segment and the QRS width; age and sex change voltages, axes,
intervals and T waves. Because patients also vary at random, age and sex cannot be predicted with
certainty. Because the ECGs are simulated, scores on them do not predict performance on real ECGs.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64, Int16
from numpy.random import Generator

from enecg.ecg_format import SAMPLE_RATE_HZ, SAMPLES
from pipeline.synthetic.patient import Patient
from pipeline.synthetic.rhythms import ATRIAL, NORMAL, VENTRICULAR, Rhythm, draw_beats
from pipeline.synthetic.waves import (
    Wave,
    frontal_axis_deg,
    p_waves,
    pacing_spike,
    potassium_effects,
    qrs_waves,
    repolarization_waves,
)

UNITS_PER_MV = 200
"""File units per mV in MIMIC-IV-ECG; one unit is 5 uV."""

_TIME_S = (np.arange(SAMPLES) / SAMPLE_RATE_HZ).astype(np.float32)


class Recording(NamedTuple):
    """A simulated ECG and its true measurements.

    Attributes:
        ecg_mv: The ECG in mV at 500 Hz, leads in the order of `enecg.ecg_format.LEADS`.
        beats_s: Times of the R peaks in seconds.
        rr_ms: Mean interval between `beats_s` in ms.
        p_ms: P duration in ms; NaN without P waves before the QRS complex.
        pr_ms: PR interval in ms; NaN without P waves before the QRS complex.
        qrs_ms: QRS duration of regular beats in ms.
        qt_ms: QT interval of regular beats in ms.
        p_axis: P axis in degrees; NaN without P waves before the QRS complex.
        qrs_axis: QRS axis of regular beats in degrees.
        t_axis: T axis of regular beats in degrees.
    """

    ecg_mv: Float32[np.ndarray, "12 5000"]
    beats_s: Float64[np.ndarray, " beat"]
    rr_ms: float
    p_ms: float
    pr_ms: float
    qrs_ms: float
    qt_ms: float
    p_axis: float
    qrs_axis: float
    t_axis: float


def _render(
    center: np.ndarray, before: np.ndarray, after: np.ndarray, dipole: np.ndarray
) -> Float32[np.ndarray, "3 time"]:
    """Sum Gaussian waves, each within 4.5 standard deviations of its center.

    Args:
        center: Times of the peaks in s, shape (wave,).
        before: Standard deviations before the peaks in s, shape (wave,).
        after: Standard deviations after the peaks in s, shape (wave,).
        dipole: Heart vectors at the peaks in mV, shape (wave, 3).

    Returns:
        The heart vector in mV.
    """
    vector = np.zeros((3, SAMPLES), np.float32)
    first = np.clip(((center - 4.5 * before) * SAMPLE_RATE_HZ).astype(int), 0, SAMPLES)
    last = np.clip(((center + 4.5 * after) * SAMPLE_RATE_HZ).astype(int) + 1, 0, SAMPLES)
    for peak, rise, fall, size, start, stop in zip(
        center, before, after, dipole, first, last, strict=True
    ):
        offset = _TIME_S[start:stop] - peak
        offset /= np.where(offset < 0, rise, fall)
        vector[:, start:stop] += size[:, None] * np.exp(-0.5 * offset**2)
    return vector


def _draw_atrial_waves(
    rng: Generator, rhythm: Rhythm, flutter_hz: float
) -> Float32[np.ndarray, "3 time"]:
    """Draw the sawtooth of atrial flutter, or the irregular waves of atrial fibrillation, in mV."""
    knots = np.linspace(0, _TIME_S[-1], 24)

    def vary(sigma: float) -> np.ndarray:
        return np.interp(_TIME_S, knots, rng.normal(1, sigma, len(knots)))

    if rhythm.atria == "fluttering":
        phase = 2 * np.pi * (flutter_hz * _TIME_S + rng.random())
        sawtooth = sum(np.sin(n * phase) / n for n in (1, 2, 3)) * rng.uniform(0.07, 0.14)
        return np.outer([0.1, 1.0, -0.55], sawtooth).astype(np.float32)
    rate = rng.uniform(5.0, 7.5)
    phase = 2 * np.pi * np.cumsum(rate * vary(0.15)) / SAMPLE_RATE_HZ
    size = rng.uniform(0.03, 0.075)
    shape = np.stack(
        [
            amplitude * vary(0.4) * (np.sin(phase + lag) + 0.35 * np.sin(2 * phase + 2 * lag))
            for amplitude, lag in ((-0.25, 0.4), (0.75, 0.0), (-0.9, 0.9))
        ]
    )
    return (size * shape).astype(np.float32)


def _draw_noise(rng: Generator, breathing_hz: float) -> Float32[np.ndarray, "8 time"]:
    """Draw muscle noise, power-line interference and baseline wander in mV."""
    white = rng.standard_normal((8, SAMPLES + 1), dtype=np.float32)
    sizes = 0.008 * np.exp(rng.normal(0, 0.35) + rng.normal(0, 0.2, (8, 1)))
    muscle = (white[:, 1:] + 0.6 * white[:, :-1]) * sizes.astype(np.float32)
    rates = np.array([*rng.uniform(0.06, 0.4, 3), breathing_hz, 60.0])
    scale = np.array([0.02, 0.02, 0.012, 0.02, 0.0025]) * np.exp(rng.normal(0, 0.4))
    angle = 2 * np.pi * rates[:, None].astype(np.float32) * _TIME_S
    waves = np.concatenate([np.sin(angle), np.cos(angle)])
    weights = rng.standard_normal((8, 10)) * np.concatenate([scale, scale])
    noise: np.ndarray = muscle + weights.astype(np.float32) @ waves
    return noise


def simulate(
    patient: Patient, rhythm: Rhythm, potassium_mmol_l: float, rng: Generator
) -> Recording:
    """Simulate a 10 s ECG.

    Args:
        patient: The patient.
        rhythm: The rhythm during the recording.
        potassium_mmol_l: Potassium concentration in mmol/L.
        rng: Random generator.

    Returns:
        The ECG and its true measurements.
    """
    breathing_hz = rng.uniform(0.18, 0.32)
    beats = draw_beats(rng, rhythm, patient.breathing_depth, breathing_hz)
    effects = potassium_effects(potassium_mmol_l)
    qt_s = patient.qtc_s * float(np.cbrt(beats.mean_rr_s))
    qt_s = min(qt_s, 0.85 * beats.mean_rr_s + 0.05)
    pr_s = max(0.11, patient.pr_s - 0.06 * max(0.0, 0.75 - beats.mean_rr_s)) + rhythm.delay_s
    if rhythm.atria == "ectopic":
        pr_s = max(0.11, pr_s - 0.03)
    conduction = "paced" if rhythm.paced_ventricles else patient.block
    qrs_widening_s = {"": 0.0, "left": 0.055, "right": 0.042, "paced": 0.07, "ectopic": 0.06}
    qrs_s = (patient.qrs_s + qrs_widening_s[conduction]) * effects.qrs_width
    qt_s += 0.6 * qrs_widening_s[conduction]

    atria: list[Wave] = []
    if rhythm.atria in ("sinus", "ectopic", "paced"):
        atria = p_waves(patient, pr_s, effects.p_gain, upward=rhythm.atria == "ectopic")
    elif rhythm.atria == "retrograde":
        atria = p_waves(patient, -(qrs_s + 0.03), 0.8 * effects.p_gain, upward=True)
    spikes = [pacing_spike(pr_s + 0.01)] if rhythm.atria == "paced" else []
    if rhythm.paced_ventricles:
        spikes.append(pacing_spike(0.008))
    qrs = qrs_waves(patient, qrs_s, conduction, 0)
    st_t_u = repolarization_waves(patient, qrs, qrs_s, qt_s, conduction, effects)
    beat_waves = {NORMAL: [*atria, *spikes, *qrs, *st_t_u]}
    peaks = {NORMAL: _r_peak(qrs)}
    if ATRIAL in beats.kind:
        upward = bool(rng.random() < 0.5)
        premature_p = p_waves(patient, pr_s - 0.02, 0.9 * effects.p_gain, upward=upward)
        beat_waves[ATRIAL], peaks[ATRIAL] = [*premature_p, *qrs, *st_t_u], peaks[NORMAL]
    if VENTRICULAR in beats.kind:
        pvc_qrs_s = (patient.qrs_s + qrs_widening_s["ectopic"]) * effects.qrs_width
        pvc_qrs = qrs_waves(patient, pvc_qrs_s, "ectopic", int(rng.integers(2)))
        pvc_st_t_u = repolarization_waves(
            patient, pvc_qrs, pvc_qrs_s, qt_s + 0.05, "ectopic", effects
        )
        beat_waves[VENTRICULAR], peaks[VENTRICULAR] = [*pvc_qrs, *pvc_st_t_u], _r_peak(pvc_qrs)

    # The amplitude varies with respiration and at random.
    amplitude = 1 + 0.04 * np.sin(2 * np.pi * breathing_hz * beats.time_s + rng.uniform(0, 6.28))
    amplitude *= 1 + 0.015 * rng.standard_normal(len(amplitude))
    vector = np.zeros((3, SAMPLES), np.float32)
    for beat_kind, waves in beat_waves.items():
        selected = beats.kind == beat_kind
        onset = beats.time_s[selected] - peaks[beat_kind]
        count = len(onset)
        vector += _render(
            np.concatenate([onset + w.center_s for w in waves]),
            np.repeat([w.before_s for w in waves], count),
            np.repeat([w.after_s for w in waves], count),
            np.concatenate([np.outer(amplitude[selected], w.dipole) for w in waves]).astype(
                np.float32
            ),
        )
    if rhythm.atria in ("fibrillating", "fluttering"):
        vector += _draw_atrial_waves(rng, rhythm, beats.atrial_hz)
    independent_leads = patient.torso.astype(np.float32) @ vector + _draw_noise(rng, breathing_hz)
    r_peaks_s = beats.time_s[(beats.time_s >= 0) & (beats.time_s < SAMPLES / SAMPLE_RATE_HZ)]
    has_p = rhythm.atria in ("sinus", "ectopic", "paced")
    return Recording(
        ecg_mv=derive_leads(independent_leads),
        beats_s=r_peaks_s,
        rr_ms=float(np.diff(r_peaks_s).mean() * 1000),
        p_ms=patient.p_s * 1000 if has_p else np.nan,
        pr_ms=pr_s * 1000 if has_p else np.nan,
        qrs_ms=qrs_s * 1000,
        qt_ms=qt_s * 1000,
        p_axis=frontal_axis_deg(atria, patient.torso) if has_p else np.nan,
        qrs_axis=frontal_axis_deg(qrs, patient.torso),
        t_axis=frontal_axis_deg(st_t_u[1:2], patient.torso),
    )


def _r_peak(qrs: list[Wave]) -> float:
    """Return the time of the R peak, the largest wave, in seconds after the QRS onset."""
    return max(qrs, key=lambda w: float(np.linalg.norm(w.dipole))).center_s


def derive_leads(
    independent_leads: Float[np.ndarray, "8 time"],
) -> Float[np.ndarray, "12 time"]:
    """Derive all leads, in the order of `enecg.ecg_format.LEADS`, from I, II and V1-V6."""
    i, ii, *chest = independent_leads
    return np.stack([i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2, *chest])


def quantize(ecg_mv: Float[np.ndarray, "12 time"]) -> Int16[np.ndarray, "12 time"]:
    """Convert an ECG in mV to file units of 5 uV.

    Args:
        ecg_mv: The ECG in mV, with leads in the order of `enecg.ecg_format.LEADS`.

    Returns:
        Integers in the range of WFDB format 16, without -32768 (a missing sample), in the same
        order. Lead III is exactly II - I. Leads I, II and V1-V6 are clipped to ±80 mV.
    """
    # Clip the leads, so that II - I fits in int16.
    limit = 16_000
    independent_leads = np.rint(ecg_mv[[0, 1, 6, 7, 8, 9, 10, 11]] * UNITS_PER_MV)
    clipped = np.clip(independent_leads, -limit, limit)
    units: np.ndarray = np.rint(derive_leads(clipped)).astype(np.int16)
    return units
