"""A heart as one moving dipole: Gaussian waves at explicit beat times, seen from twelve leads.

The heart vector (x to the left, y to the feet, z to the back, in mV) is a sum of Gaussian waves
at each beat, after McSharry et al., IEEE Trans Biomed Eng 50:289 (2003), and Sameni et al.,
EURASIP J Adv Signal Process 2007:43407. The eight independent leads are its projection by the
matrix of Dower, Machado and Osborne, Clin Cardiol 3:87 (1980); the other four follow from leads I
and II, so Einthoven's law holds. Nothing is rescaled: amplitudes are in mV as at the skin.

Everything that a label says is in the signal: rate and rhythm; potassium in the T, U and P waves
and the QRS width; age and sex in voltages, axes, intervals and T waves, with as much variation
between patients as makes them only probable. It is plausible, not measured: models trained on it
say nothing about people.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64, Int16
from numpy.random import Generator

from enecg.signal import SAMPLE_RATE_HZ, SAMPLES
from pipeline.synthetic.patient import Patient
from pipeline.synthetic.rhythms import ATRIAL, NORMAL, VENTRICULAR, Rhythm, draw_beats
from pipeline.synthetic.waves import (
    Wave,
    frontal_axis_deg,
    ions_of,
    p_waves,
    qrs_waves,
    repolarisation,
    spike,
)

UNITS_PER_MV = 200
"""Resolution of MIMIC-IV-ECG's files: 5 microvolts a step."""

_TIME_S = (np.arange(SAMPLES) / SAMPLE_RATE_HZ).astype(np.float32)


class Recording(NamedTuple):
    """One simulated ECG and what is true of it.

    `ecg_mv` has the leads of `enecg.signal.LEADS`; `beats_s` are the R peaks inside the recording;
    durations are in ms and axes in degrees; `p_ms`, `pr_ms` and `p_axis` are NaN without P waves.
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
    centre: np.ndarray, before: np.ndarray, after: np.ndarray, dipole: np.ndarray
) -> Float32[np.ndarray, "3 time"]:
    """The sum of Gaussian waves on the ten seconds' grid, each only where it is not nothing."""
    vector = np.zeros((3, SAMPLES), np.float32)
    first = np.clip(((centre - 4.5 * before) * SAMPLE_RATE_HZ).astype(int), 0, SAMPLES)
    last = np.clip(((centre + 4.5 * after) * SAMPLE_RATE_HZ).astype(int) + 1, 0, SAMPLES)
    for c, b, a, d, start, stop in zip(centre, before, after, dipole, first, last, strict=True):
        away = _TIME_S[start:stop] - c
        away /= np.where(away < 0, b, a)
        vector[:, start:stop] += d[:, None] * np.exp(-0.5 * away**2)
    return vector


def _atrial_waves(rng: Generator, rhythm: Rhythm, hz: float) -> Float32[np.ndarray, "3 time"]:
    """Fibrillation: small waves of wandering rate and size; flutter: a saw-tooth, down in II."""
    knots = np.linspace(0, _TIME_S[-1], 24)

    def wandering(spread: float) -> np.ndarray:
        return np.interp(_TIME_S, knots, rng.normal(1, spread, len(knots)))

    if rhythm.atria == "fluttering":
        phase = 2 * np.pi * (hz * _TIME_S + rng.random())
        saw = sum(np.sin(n * phase) / n for n in (1, 2, 3)) * rng.uniform(0.07, 0.14)
        return np.outer([0.1, 1.0, -0.55], saw).astype(np.float32)
    rate = rng.uniform(5.0, 7.5)
    phase = 2 * np.pi * np.cumsum(rate * wandering(0.15)) / SAMPLE_RATE_HZ
    size = rng.uniform(0.03, 0.075)
    shape = np.stack(
        [a * wandering(0.4) * (np.sin(phase + o) + 0.35 * np.sin(2 * phase + 2 * o))
         for a, o in ((-0.25, 0.4), (0.75, 0.0), (-0.9, 0.9))]
    )  # fmt: skip
    return (size * shape).astype(np.float32)


def _disturbance(rng: Generator, breathing_hz: float) -> Float32[np.ndarray, "8 time"]:
    """What the skin adds to each lead: muscle noise, a trace of mains, and a wandering baseline."""
    muscle = rng.standard_normal((8, SAMPLES + 1), dtype=np.float32)
    sizes = 0.008 * np.exp(rng.normal(0, 0.35) + rng.normal(0, 0.2, (8, 1)))
    noise = (muscle[:, 1:] + 0.6 * muscle[:, :-1]) * sizes.astype(np.float32)
    rates = np.array([*rng.uniform(0.06, 0.4, 3), breathing_hz, 60.0])
    scale = np.array([0.02, 0.02, 0.012, 0.02, 0.0025]) * np.exp(rng.normal(0, 0.4))
    angle = 2 * np.pi * rates[:, None].astype(np.float32) * _TIME_S
    waves = np.concatenate([np.sin(angle), np.cos(angle)])
    weights = rng.standard_normal((8, 10)) * np.concatenate([scale, scale])
    disturbance: np.ndarray = noise + weights.astype(np.float32) @ waves
    return disturbance


def simulate(
    patient: Patient, rhythm: Rhythm, potassium_mmol_l: float, rng: Generator
) -> Recording:
    """Ten seconds of a patient's ECG in a rhythm at a potassium level (mmol/L)."""
    breathing_hz = rng.uniform(0.18, 0.32)
    beats = draw_beats(rng, rhythm, patient.breathing_depth, breathing_hz)
    ions = ions_of(potassium_mmol_l)
    qt_s = patient.qtc_s * float(np.cbrt(beats.mean_rr_s))  # Fridericia
    qt_s = min(qt_s, 0.85 * beats.mean_rr_s + 0.05)
    fast = max(0.0, 0.75 - beats.mean_rr_s)
    pr_s = max(0.11, patient.pr_s - 0.06 * fast) + rhythm.delay_s
    if rhythm.atria == "ectopic":
        pr_s = max(0.11, pr_s - 0.03)
    kind = "paced" if rhythm.paced_ventricles else patient.block
    wider = {"": 0.0, "left": 0.055, "right": 0.042, "paced": 0.07, "ectopic": 0.06}
    qrs_s = (patient.qrs_s + wider[kind]) * ions.qrs_width
    qt_s += 0.6 * wider[kind]

    atria: list[Wave] = []
    if rhythm.atria in ("sinus", "ectopic", "paced"):
        atria = p_waves(patient, pr_s, ions.p_gain, upward=rhythm.atria == "ectopic")
    elif rhythm.atria == "retrograde":
        atria = p_waves(patient, -(qrs_s + 0.03), 0.8 * ions.p_gain, upward=True)
    spikes = [spike(pr_s + 0.01)] if rhythm.atria == "paced" else []
    if rhythm.paced_ventricles:
        spikes.append(spike(0.008))
    qrs = qrs_waves(patient, qrs_s, kind, 0)
    rest = repolarisation(patient, qrs, qrs_s, qt_s, kind, ions)
    beat_waves = {NORMAL: [*atria, *spikes, *qrs, *rest]}
    peaks = {NORMAL: _r_peak(qrs)}
    if ATRIAL in beats.kind:
        early = p_waves(patient, pr_s - 0.02, 0.9 * ions.p_gain, upward=bool(rng.random() < 0.5))
        beat_waves[ATRIAL], peaks[ATRIAL] = [*early, *qrs, *rest], peaks[NORMAL]
    if VENTRICULAR in beats.kind:
        wide_s = (patient.qrs_s + wider["ectopic"]) * ions.qrs_width
        wide = qrs_waves(patient, wide_s, "ectopic", int(rng.integers(2)))
        after = repolarisation(patient, wide, wide_s, qt_s + 0.05, "ectopic", ions)
        beat_waves[VENTRICULAR], peaks[VENTRICULAR] = [*wide, *after], _r_peak(wide)

    # Each beat is a little larger or smaller with the breath and by itself.
    swell = 1 + 0.04 * np.sin(2 * np.pi * breathing_hz * beats.time_s + rng.uniform(0, 6.28))
    swell *= 1 + 0.015 * rng.standard_normal(len(swell))
    vector = np.zeros((3, SAMPLES), np.float32)
    for which, waves in beat_waves.items():
        chosen = beats.kind == which
        onset = beats.time_s[chosen] - peaks[which]
        count = len(onset)
        vector += _render(
            np.concatenate([onset + w.centre_s for w in waves]),
            np.repeat([w.before_s for w in waves], count),
            np.repeat([w.after_s for w in waves], count),
            np.concatenate([np.outer(swell[chosen], w.dipole) for w in waves]).astype(np.float32),
        )
    if rhythm.atria in ("fibrillating", "fluttering"):
        vector += _atrial_waves(rng, rhythm, beats.atrial_hz)
    eight = patient.torso.astype(np.float32) @ vector + _disturbance(rng, breathing_hz)
    inside = beats.time_s[(beats.time_s >= 0) & (beats.time_s < SAMPLES / SAMPLE_RATE_HZ)]
    has_p = rhythm.atria in ("sinus", "ectopic", "paced")
    return Recording(
        ecg_mv=twelve_leads(eight),
        beats_s=inside,
        rr_ms=float(np.diff(inside).mean() * 1000),
        p_ms=patient.p_s * 1000 if has_p else np.nan,
        pr_ms=pr_s * 1000 if has_p else np.nan,
        qrs_ms=qrs_s * 1000,
        qt_ms=qt_s * 1000,
        p_axis=frontal_axis_deg(atria, patient.torso) if has_p else np.nan,
        qrs_axis=frontal_axis_deg(qrs, patient.torso),
        t_axis=frontal_axis_deg(rest[1:2], patient.torso),
    )


def _r_peak(qrs: list[Wave]) -> float:
    """Seconds from the onset to the largest part of the QRS: beat times are those of R peaks."""
    return max(qrs, key=lambda w: float(np.linalg.norm(w.dipole))).centre_s


def twelve_leads(eight: Float[np.ndarray, "8 time"]) -> Float[np.ndarray, "12 time"]:
    """I, II and V1-V6 with the four leads that follow: III = II - I and the augmented ones."""
    i, ii = eight[0], eight[1]
    return np.stack([i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2, *eight[2:]])


def quantise(ecg_mv: Float[np.ndarray, "12 time"]) -> Int16[np.ndarray, "12 time"]:
    """An ECG in file units of 5 uV; III is II - I exactly, the augmented leads are rounded.

    Leads in the order of `enecg.signal.LEADS`. Values are kept within what the file can hold
    without the sign for a missing sample (-32768).
    """
    half = 16_000  # so that II - I fits too
    eight = np.rint(ecg_mv[[0, 1, 6, 7, 8, 9, 10, 11]] * UNITS_PER_MV)
    whole = np.clip(eight, -half, half)
    units: np.ndarray = np.rint(twelve_leads(whole)).astype(np.int16)
    return units
