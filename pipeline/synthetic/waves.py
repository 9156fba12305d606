"""The waves of a beat (P, QRS, ST, T, U, pacing spike) as Gaussians of the heart vector."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from pipeline.synthetic.patient import DOWER, Patient


class Wave(NamedTuple):
    """A Gaussian wave.

    Attributes:
        center_s: Time of the peak in seconds from the QRS onset.
        before_s: Standard deviation before the peak, in seconds.
        after_s: Standard deviation after the peak, in seconds.
        dipole: Heart vector at the peak, shape (3,), in mV.
    """

    center_s: float
    before_s: float
    after_s: float
    dipole: np.ndarray


class PotassiumEffects(NamedTuple):
    """Effects of the potassium concentration on the waves.

    Attributes:
        t_gain: Multiplier of the T wave amplitude.
        t_width: Multiplier of the T wave duration.
        p_gain: Multiplier of the P wave amplitude.
        qrs_width: Multiplier of the QRS duration.
        u_mv: U wave amplitude in mV.
        st_mv: ST deviation along the T axis in mV.
    """

    t_gain: float
    t_width: float
    p_gain: float
    qrs_width: float
    u_mv: float
    st_mv: float


def potassium_effects(potassium_mmol_l: float) -> PotassiumEffects:
    """Return the effects of a potassium concentration in mmol/L.

    As the concentration rises above 5 mmol/L, the T wave becomes tall and narrow, then P flattens
    and the QRS widens. Below 3.6 mmol/L, T flattens, ST is depressed and the U wave grows
    (Surawicz, Am Heart J 73:814, 1967).
    """
    high, low = max(0.0, potassium_mmol_l - 5.0), max(0.0, 3.6 - potassium_mmol_l)
    return PotassiumEffects(
        t_gain=(1 + 0.5 * high) * max(0.15, 1 - 0.55 * low),
        t_width=max(0.6, 1 - 0.13 * high),
        p_gain=float(np.clip(1 - 0.35 * (potassium_mmol_l - 5.5), 0.1, 1)),
        qrs_width=1 + 0.18 * max(0.0, potassium_mmol_l - 6.2),
        u_mv=0.01 + 0.10 * low,
        st_mv=-0.05 * low,
    )


def _dipole(axis_deg: float, x_y_mv: float, z_mv: float) -> Float64[np.ndarray, " 3"]:
    """Return the heart vector with a frontal axis (of I and aVF), x-y length and z component."""
    lead_i, lead_avf = DOWER[0, :2], DOWER[1, :2] - DOWER[0, :2] / 2
    angle = np.deg2rad(axis_deg)
    projections = np.array([np.cos(angle), np.sin(angle) * np.sqrt(3) / 2])
    x_y = np.linalg.solve(np.stack([lead_i, lead_avf]), projections)
    return np.array([*(x_y_mv * x_y / np.linalg.norm(x_y)), z_mv])


def qrs_waves(patient: Patient, qrs_s: float, conduction: str, focus: int) -> list[Wave]:
    """Return the waves of ventricular depolarization.

    Args:
        patient: The patient.
        qrs_s: QRS duration in seconds.
        conduction: ``""`` (normal), ``"left"`` or ``"right"`` bundle branch block,
            ``"paced"`` from the right apex, or ``"ectopic"``.
        focus: Origin of an ectopic beat: 0 for the outflow tract, 1 for the left ventricle.

    Returns:
        The waves, sorted by time.
    """
    # (center, width, dipole): center and width as fractions of the QRS duration, dipole in mV.
    parts: list[tuple[float, float, Sequence[float] | np.ndarray]]
    if conduction == "":
        parts = [
            (0.20, 0.085, (-0.10, -0.06, -0.32)),
            (0.46, 0.120, _dipole(patient.axis_deg, 1.15, 0.5 * patient.posterior)),
            (0.60, 0.110, (0.18, 0.06, 1.15 * patient.posterior)),
            (0.79, 0.095, (-0.16, -0.08, 0.22)),
        ]
    elif conduction == "right":
        parts = [
            (0.13, 0.060, (-0.10, -0.06, -0.30)),
            (0.30, 0.080, _dipole(patient.axis_deg, 1.1, 0.5 * patient.posterior)),
            (0.42, 0.080, (0.15, 0.05, 0.7 * patient.posterior)),
            (0.72, 0.120, (-0.50, -0.02, -0.55)),
        ]
    elif conduction == "left":
        parts = [
            (0.22, 0.100, (0.30, 0.20, 0.15)),
            (0.42, 0.110, _dipole(patient.axis_deg - 20, 0.85, 0.75)),
            (0.66, 0.120, _dipole(patient.axis_deg - 35, 0.80, 0.70)),
            (0.86, 0.070, (0.15, -0.05, 0.25)),
        ]
    elif conduction == "paced":
        parts = [
            (0.25, 0.110, _dipole(-50, 0.45, 0.25)),
            (0.48, 0.130, _dipole(-68, 1.00, 0.75)),
            (0.75, 0.120, _dipole(-75, 0.60, 0.50)),
        ]
    else:
        axis, z = ((80.0, 0.8), (-110.0, -0.7))[focus]
        parts = [
            (0.28, 0.120, _dipole(axis, 0.7, 0.4 * z)),
            (0.50, 0.140, _dipole(axis, 1.45, z)),
            (0.76, 0.110, _dipole(axis + 25, 0.5, 0.6 * z)),
        ]
    return [
        Wave(c * qrs_s, w * qrs_s, w * qrs_s, patient.voltage * np.asarray(d)) for c, w, d in parts
    ]


def repolarization_waves(
    patient: Patient,
    qrs: list[Wave],
    qrs_s: float,
    qt_s: float,
    conduction: str,
    effects: PotassiumEffects,
) -> list[Wave]:
    """Return the ST segment, T wave and U wave.

    Args:
        patient: The patient.
        qrs: Waves of the QRS complex.
        qrs_s: QRS duration in seconds.
        qt_s: QT interval in seconds.
        conduction: As in `qrs_waves`. T opposes QRS for ``"left"``, ``"paced"`` and ``"ectopic"``.
        effects: Effects of potassium.

    Returns:
        The three waves in this order.
    """
    if conduction in ("left", "paced", "ectopic"):
        area = sum((w.dipole * w.before_s for w in qrs), np.zeros(3))
        t = -0.42 * patient.voltage * area / np.linalg.norm(area)
        j = 0.25 * t
    else:
        t = _dipole(
            patient.t_axis_deg, patient.t_wave, -(0.25 + 0.25 * patient.male) * patient.t_wave
        )
        if conduction == "right":
            t = t + np.array([0, 0, 0.8 * patient.t_wave])
        j = np.array([0.3, 0.2, -1.0]) * patient.j_point
    after = 0.095 * qt_s * effects.t_width
    before = 0.135 * qt_s * effects.t_width
    peak = qt_s - 2.3 * 0.095 * qt_s
    direction = t / np.linalg.norm(t)
    st = Wave(qrs_s + 0.06, 0.035, 0.06, j + effects.st_mv * direction)
    u = Wave(qt_s + 0.05, 0.035, 0.04, effects.u_mv * direction)
    return [st, Wave(peak, before, after, effects.t_gain * t), u]


def p_waves(patient: Patient, pr_s: float, gain: float, upward: bool) -> list[Wave]:
    """Return the P waves of the right and the left atrium.

    Args:
        patient: The patient.
        pr_s: Seconds from the P onset to the QRS onset; negative if P follows the QRS.
        gain: Multiplier of the amplitude.
        upward: Whether the atria are activated from below, which inverts P in lead II.

    Returns:
        The right and the left wave.
    """
    right, left = np.array([0.30, 0.75, -0.55]), np.array([0.60, 0.50, 0.45])
    size = patient.p_wave * gain
    if upward:
        right, left = -right * (1, 1, 0.3), -left * (0.6, 1, -0.5)
    width = 0.17 * patient.p_s
    return [
        Wave(-pr_s + 0.36 * patient.p_s, width, width, size * right),
        Wave(-pr_s + 0.62 * patient.p_s, width, width, size * left),
    ]


def pacing_spike(before_s: float) -> Wave:
    """Return the spike of a pacemaker stimulus `before_s` seconds before the QRS onset."""
    return Wave(-before_s, 0.0012, 0.0012, np.array([0.35, -0.5, 0.2]))


def frontal_axis_deg(waves: Sequence[Wave], torso: np.ndarray) -> float:
    """Compute the frontal axis of waves from their areas in leads I and aVF.

    Args:
        waves: The waves, such as those of the QRS complex.
        torso: Lead matrix of the patient, shape (8, 3).

    Returns:
        The axis, -180 to 180 degrees.
    """
    area = sum((w.dipole * (w.before_s + w.after_s) for w in waves), np.zeros(3))
    lead_i, lead_ii = torso[0] @ area, torso[1] @ area
    return float(np.rad2deg(np.arctan2((lead_ii - lead_i / 2) * 2 / np.sqrt(3), lead_i)))
