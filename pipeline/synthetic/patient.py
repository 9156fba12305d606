"""Synthetic patients: the properties of heart and torso that all ECGs of a patient share."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy.random import Generator

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
"""Matrix from Frank's x, y, z to leads I, II, V1-V6 (Dower et al., Clin Cardiol 3:87, 1980)."""


@dataclass(frozen=True)
class Patient:
    """Properties of a patient's heart and torso. All axes are in the frontal plane.

    Attributes:
        age: Age in years.
        male: Whether the patient is male.
        voltage: Scale of the QRS complex; 1 corresponds to about 1.1 mV in the frontal plane.
        posterior: Posterior component of the QRS complex, relative to `voltage`.
        axis_deg: QRS axis in degrees.
        t_wave: T wave amplitude in mV.
        t_axis_deg: T axis in degrees.
        j_point: J point elevation in mV.
        p_wave: P wave amplitude in mV.
        p_s: P duration in seconds.
        pr_s: PR interval in seconds.
        qrs_s: QRS duration in seconds.
        qtc_s: QT interval in seconds, corrected by Fridericia's formula.
        breathing_depth: Respiratory variation of the RR interval, as a fraction of the interval.
        block: Bundle branch block: ``""`` (none), ``"left"`` or ``"right"``.
        torso: Lead matrix of the patient, a random variation of `DOWER`.
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
    """Draw a patient whose properties vary randomly around the means for an age and sex.

    With increasing age, voltage, T wave and respiratory variation decrease, P, PR and QT lengthen,
    the QRS axis shifts to the left, and bundle branch block becomes more frequent. Men have larger
    QRS complexes and T waves, a higher J point in V2-V3, a wider QRS and a shorter QT.

    Args:
        rng: Random generator.
        age: Age in years.
        male: Whether the patient is male.

    Returns:
        The patient.
    """
    decades = (age - 55) / 10
    block = rng.choice(["", "left", "right"], p=_block_probabilities(age))
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


def _block_probabilities(age: float) -> list[float]:
    left, right = 0.02 * np.exp((age - 60) / 25), 0.035 * np.exp((age - 60) / 25)
    return [1 - left - right, left, right]
