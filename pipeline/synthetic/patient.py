"""Whose heart it is: what a patient keeps from one ECG to the next, by age, sex and chance."""

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
"""The eight independent leads I, II, V1-V6 from Frank's x, y, z (Dower et al. 1980)."""


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
