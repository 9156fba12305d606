"""The waves of one beat as Gaussians of the heart vector: P, QRS, ST, T, U, and a pacing spike."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from pipeline.synthetic.patient import DOWER, Patient


class Wave(NamedTuple):
    """A Gaussian: centre from the QRS onset, widths to either side (s), and its dipole (mV)."""

    centre_s: float
    before_s: float
    after_s: float
    dipole: np.ndarray


class Ions(NamedTuple):
    """What potassium does to the waves; the normal is 1, 1, 1, 1, 0, 0."""

    t_gain: float
    t_width: float
    p_gain: float
    qrs_width: float
    u_mv: float
    st_mv: float


def ions_of(potassium_mmol_l: float) -> Ions:
    """Peaked T, flat P, wide QRS above 5 mmol/L; flat T, U wave, ST depression below 3.6.

    The order in which the signs come is the textbook's (Surawicz, Am Heart J 73:814, 1967).
    """
    k = potassium_mmol_l
    high, low = max(0.0, k - 5.0), max(0.0, 3.6 - k)
    return Ions(
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


def qrs_waves(p: Patient, qrs_s: float, kind: str, turn: int) -> list[Wave]:
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
    return [Wave(c * qrs_s, w * qrs_s, w * qrs_s, v * np.asarray(d)) for c, w, d in parts]


def repolarisation(
    p: Patient, qrs: list[Wave], qrs_s: float, qt_s: float, kind: str, ions: Ions
) -> list[Wave]:
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
    st = Wave(qrs_s + 0.06, 0.035, 0.06, j + ions.st_mv * direction)
    u = Wave(qt_s + 0.05, 0.035, 0.04, ions.u_mv * direction)
    return [st, Wave(peak, before, after, ions.t_gain * t), u]


def p_waves(p: Patient, pr_s: float, gain: float, upward: bool) -> list[Wave]:
    """Right, then left atrium; from a low focus the wave runs upwards, away from lead II."""
    right, left = np.array([0.30, 0.75, -0.55]), np.array([0.60, 0.50, 0.45])
    size = p.p_wave * gain
    if upward:
        right, left = -right * (1, 1, 0.3), -left * (0.6, 1, -0.5)
    width = 0.17 * p.p_s
    return [
        Wave(-pr_s + 0.36 * p.p_s, width, width, size * right),
        Wave(-pr_s + 0.62 * p.p_s, width, width, size * left),
    ]


def spike(before_s: float) -> Wave:
    """The stimulus of a pacemaker, a millisecond wide, as the cart's filter leaves it."""
    return Wave(-before_s, 0.0012, 0.0012, np.array([0.35, -0.5, 0.2]))


def frontal_axis_deg(waves: Sequence[Wave], torso: np.ndarray) -> float:
    """The frontal axis by the areas in leads I and aVF, as a machine reports it."""
    area = sum((w.dipole * (w.before_s + w.after_s) for w in waves), np.zeros(3))
    lead_i, lead_ii = torso[0] @ area, torso[1] @ area
    return float(np.rad2deg(np.arctan2((lead_ii - lead_i / 2) * 2 / np.sqrt(3), lead_i)))
