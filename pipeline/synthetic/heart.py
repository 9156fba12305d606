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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64, Int16
from numpy.random import Generator

from enecg.signal import SAMPLE_RATE_HZ, SAMPLES
from pipeline.synthetic.rhythms import ATRIAL, NORMAL, VENTRICULAR, Rhythm, draw_beats

DOWER = np.array(
    [
        [0.632, -0.235, 0.059],  # I
        [0.235, 1.066, -0.132],  # II
        [-0.515, 0.157, -0.917],  # V1
        [0.044, 0.164, -1.387],  # V2
        [0.882, 0.098, -1.277],  # V3
        [1.213, 0.127, -0.601],  # V4
        [1.125, 0.127, -0.086],  # V5
        [0.831, 0.076, 0.230],  # V6
    ]
)
"""The eight independent leads I, II, V1-V6 from Frank's x, y, z (Dower et al. 1980)."""

UNITS_PER_MV = 200
"""Resolution of MIMIC-IV-ECG's files: 5 microvolts a step."""

_TIME_S = (np.arange(SAMPLES) / SAMPLE_RATE_HZ).astype(np.float32)


@dataclass(frozen=True)
class Patient:
    """What a patient's heart keeps from one ECG to the next.

    `voltage` scales the QRS (1 is 1.1 mV in the frontal plane), `posterior` its turn to the back;
    `t_wave` in mV; axes in degrees in the frontal plane; durations in s (`qtc_s` by Fridericia);
    `breathing_depth` the respiratory swing of the interval as a part of it; `block` one of "",
    "left", "right"; `torso` the patient's own lead matrix (8, 3), near `DOWER`.
    """

    age: float
    male: bool
    voltage: float
    posterior: float
    axis_deg: float
    t_wave: float
    t_axis_deg: float
    j_point: float
    p_wave: float
    p_s: float
    pr_s: float
    qrs_s: float
    qtc_s: float
    breathing_depth: float
    block: str
    torso: Float64[np.ndarray, "8 3"]


def draw_patient(rng: Generator, *, age: float, male: bool) -> Patient:
    """A patient of that age (years) and sex, as far from the average as people are.

    With age the voltage and the T wave fall, PR, P and QT lengthen, the axis turns to the left
    and the sinus node listens less to the breath; men have larger QRS and T waves, a higher J
    point in V2-V3, a wider QRS and a shorter QT.
    """
    decades = (age - 55) / 10
    block = rng.choice(["", "left", "right"], p=_block_odds(age))
    return Patient(
        age=age,
        male=male,
        voltage=float(np.exp(rng.normal(0.10 * male - 0.05 - 0.04 * decades, 0.16))),
        posterior=float(rng.normal(0.40 + 0.16 * male + 0.02 * decades, 0.10)),
        axis_deg=float(rng.normal(52 - 9 * decades, 16)),
        t_wave=float(0.30 * np.exp(rng.normal(0.32 * male - 0.16 - 0.09 * decades, 0.18))),
        t_axis_deg=float(rng.normal(42 + 2 * decades, 11)),
        j_point=float(abs(rng.normal(0.015 + 0.045 * male, 0.015))),
        p_wave=float(0.10 * np.exp(rng.normal(0, 0.2))),
        p_s=float(np.clip(rng.normal(0.102 + 0.003 * decades, 0.008), 0.075, 0.14)),
        pr_s=float(np.clip(rng.normal(0.158 + 0.006 * decades, 0.016), 0.12, 0.2)),
        qrs_s=float(np.clip(rng.normal(0.086 + 0.008 * male, 0.006), 0.07, 0.108)),
        qtc_s=float(rng.normal(0.408 - 0.014 * male + 0.004 * decades, 0.012)),
        breathing_depth=float(0.03 * np.exp(rng.normal(-0.25 * decades, 0.4))),
        block=str(block),
        torso=DOWER * (1 + 0.08 * rng.standard_normal((8, 3))),
    )


def _block_odds(age: float) -> list[float]:
    left, right = 0.02 * np.exp((age - 60) / 25), 0.035 * np.exp((age - 60) / 25)
    return [1 - left - right, left, right]


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


class _Wave(NamedTuple):
    """A Gaussian: centre from the QRS onset, widths to either side (s), and its dipole (mV)."""

    centre_s: float
    before_s: float
    after_s: float
    dipole: np.ndarray


class _Ions(NamedTuple):
    """What potassium does to the waves; the normal is 1, 1, 1, 1, 0, 0."""

    t_gain: float
    t_width: float
    p_gain: float
    qrs_width: float
    u_mv: float
    st_mv: float


def _ions(potassium_mmol_l: float) -> _Ions:
    """Peaked T, flat P, wide QRS above 5 mmol/L; flat T, U wave, ST depression below 3.6.

    The order in which the signs come is the textbook's (Surawicz, Am Heart J 73:814, 1967).
    """
    k = potassium_mmol_l
    high, low = max(0.0, k - 5.0), max(0.0, 3.6 - k)
    return _Ions(
        t_gain=(1 + 0.5 * high) * max(0.15, 1 - 0.55 * low),
        t_width=max(0.6, 1 - 0.13 * high),
        p_gain=float(np.clip(1 - 0.35 * (k - 5.5), 0.1, 1)),
        qrs_width=1 + 0.18 * max(0.0, k - 6.2),
        u_mv=0.01 + 0.10 * low,
        st_mv=-0.05 * low,
    )


def _frontal(axis_deg: float, x_y_mv: float, z_mv: float) -> Float64[np.ndarray, " 3"]:
    """The dipole whose axis on leads I and aVF is the given one; `x_y_mv` long in that plane."""
    lead_i, lead_avf = DOWER[0, :2], DOWER[1, :2] - DOWER[0, :2] / 2
    angle = np.deg2rad(axis_deg)
    seen = np.array([np.cos(angle), np.sin(angle) * np.sqrt(3) / 2])
    x_y = np.linalg.solve(np.stack([lead_i, lead_avf]), seen)
    return np.array([*(x_y_mv * x_y / np.linalg.norm(x_y)), z_mv])


def _axis_deg(waves: Sequence[_Wave], torso: np.ndarray) -> float:
    """The frontal axis by the areas in leads I and aVF, as a machine reports it."""
    area = sum((w.dipole * (w.before_s + w.after_s) for w in waves), np.zeros(3))
    lead_i, lead_ii = torso[0] @ area, torso[1] @ area
    return float(np.rad2deg(np.arctan2((lead_ii - lead_i / 2) * 2 / np.sqrt(3), lead_i)))


def _qrs(p: Patient, qrs_s: float, kind: str, turn: int) -> list[_Wave]:
    """Depolarisation of the ventricles: "" by the bundles, "left" or "right" block, "paced" from
    the right apex, "ectopic" from the outflow tract or (`turn` 1) the left ventricle."""
    v = p.voltage
    # Parts of the QRS: where it lies and how wide it is as parts of the duration, and its dipole.
    parts: list[tuple[float, float, Sequence[float] | np.ndarray]]
    if kind == "":
        parts = [
            (0.20, 0.085, (-0.10, -0.06, -0.32)),
            (0.46, 0.120, _frontal(p.axis_deg, 1.15, 0.5 * p.posterior)),
            (0.60, 0.110, (0.18, 0.06, 1.15 * p.posterior)),
            (0.79, 0.095, (-0.16, -0.08, 0.22)),
        ]
    elif kind == "right":
        parts = [
            (0.13, 0.060, (-0.10, -0.06, -0.30)),
            (0.30, 0.080, _frontal(p.axis_deg, 1.1, 0.5 * p.posterior)),
            (0.42, 0.080, (0.15, 0.05, 0.7 * p.posterior)),
            (0.72, 0.120, (-0.50, -0.02, -0.55)),
        ]
    elif kind == "left":
        parts = [
            (0.22, 0.100, (0.30, 0.20, 0.15)),
            (0.42, 0.110, _frontal(p.axis_deg - 20, 0.85, 0.75)),
            (0.66, 0.120, _frontal(p.axis_deg - 35, 0.80, 0.70)),
            (0.86, 0.070, (0.15, -0.05, 0.25)),
        ]
    elif kind == "paced":
        parts = [
            (0.25, 0.110, _frontal(-50, 0.45, 0.25)),
            (0.48, 0.130, _frontal(-68, 1.00, 0.75)),
            (0.75, 0.120, _frontal(-75, 0.60, 0.50)),
        ]
    else:
        axis, z = ((80.0, 0.8), (-110.0, -0.7))[turn]
        parts = [
            (0.28, 0.120, _frontal(axis, 0.7, 0.4 * z)),
            (0.50, 0.140, _frontal(axis, 1.45, z)),
            (0.76, 0.110, _frontal(axis + 25, 0.5, 0.6 * z)),
        ]
    return [_Wave(c * qrs_s, w * qrs_s, w * qrs_s, v * np.asarray(d)) for c, w, d in parts]


def _repolarisation(
    p: Patient, qrs: list[_Wave], qrs_s: float, qt_s: float, kind: str, ions: _Ions
) -> list[_Wave]:
    """ST segment, T and U wave; after a wide QRS the T wave points away from it."""
    if kind in ("left", "paced", "ectopic"):
        area = sum((w.dipole * w.before_s for w in qrs), np.zeros(3))
        t = -0.42 * p.voltage * area / np.linalg.norm(area)
        j = 0.25 * t
    else:
        t = _frontal(p.t_axis_deg, p.t_wave, -(0.25 + 0.25 * p.male) * p.t_wave)
        if kind == "right":
            t = t + np.array([0, 0, 0.8 * p.t_wave])
        j = np.array([0.3, 0.2, -1.0]) * p.j_point
    after = 0.095 * qt_s * ions.t_width
    before = 0.135 * qt_s * ions.t_width
    peak = qt_s - 2.3 * 0.095 * qt_s
    direction = t / np.linalg.norm(t)
    st = _Wave(qrs_s + 0.06, 0.035, 0.06, j + ions.st_mv * direction)
    u = _Wave(qt_s + 0.05, 0.035, 0.04, ions.u_mv * direction)
    return [st, _Wave(peak, before, after, ions.t_gain * t), u]


def _p_wave(p: Patient, pr_s: float, gain: float, upward: bool) -> list[_Wave]:
    """Right, then left atrium; from a low focus the wave runs upwards, away from lead II."""
    right, left = np.array([0.30, 0.75, -0.55]), np.array([0.60, 0.50, 0.45])
    size = p.p_wave * gain
    if upward:
        right, left = -right * (1, 1, 0.3), -left * (0.6, 1, -0.5)
    width = 0.17 * p.p_s
    return [
        _Wave(-pr_s + 0.36 * p.p_s, width, width, size * right),
        _Wave(-pr_s + 0.62 * p.p_s, width, width, size * left),
    ]


def _spike(before_s: float) -> _Wave:
    """The stimulus of a pacemaker, a millisecond wide, as the cart's filter leaves it."""
    return _Wave(-before_s, 0.0012, 0.0012, np.array([0.35, -0.5, 0.2]))


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
    ions = _ions(potassium_mmol_l)
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

    atria: list[_Wave] = []
    if rhythm.atria in ("sinus", "ectopic", "paced"):
        atria = _p_wave(patient, pr_s, ions.p_gain, upward=rhythm.atria == "ectopic")
    elif rhythm.atria == "retrograde":
        atria = _p_wave(patient, -(qrs_s + 0.03), 0.8 * ions.p_gain, upward=True)
    spikes = [_spike(pr_s + 0.01)] if rhythm.atria == "paced" else []
    if rhythm.paced_ventricles:
        spikes.append(_spike(0.008))
    qrs = _qrs(patient, qrs_s, kind, 0)
    rest = _repolarisation(patient, qrs, qrs_s, qt_s, kind, ions)
    beat_waves = {NORMAL: [*atria, *spikes, *qrs, *rest]}
    peaks = {NORMAL: _r_peak(qrs)}
    if ATRIAL in beats.kind:
        early = _p_wave(patient, pr_s - 0.02, 0.9 * ions.p_gain, upward=bool(rng.random() < 0.5))
        beat_waves[ATRIAL], peaks[ATRIAL] = [*early, *qrs, *rest], peaks[NORMAL]
    if VENTRICULAR in beats.kind:
        wide_s = (patient.qrs_s + wider["ectopic"]) * ions.qrs_width
        wide = _qrs(patient, wide_s, "ectopic", int(rng.integers(2)))
        after = _repolarisation(patient, wide, wide_s, qt_s + 0.05, "ectopic", ions)
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
        p_axis=_axis_deg(atria, patient.torso) if has_p else np.nan,
        qrs_axis=_axis_deg(qrs, patient.torso),
        t_axis=_axis_deg(rest[1:2], patient.torso),
    )


def _r_peak(qrs: list[_Wave]) -> float:
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
