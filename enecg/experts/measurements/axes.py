"""Vector features: frontal axes, QRS-T angles, vector lengths and QRS singular values."""

import numpy as np
from jaxtyping import Float32, Float64

from enecg.ecg_format import LEADS
from enecg.experts.measurements.amplitudes import NonQrsWaves
from enecg.experts.measurements.beat_waves import BeatWaves
from enecg.experts.measurements.deflections import Deflections
from enecg.experts.measurements.feature import Feature, Values
from enecg.experts.measurements.filtering import INDEPENDENT_LEADS
from enecg.experts.measurements.intervals import HAS_P, HAS_T
from enecg.experts.measurements.masks import between
from enecg.experts.measurements.rhythm import HAS_BEATS

_WAVES = (
    ("p", "P wave", 55.0, HAS_P),
    ("qrs", "QRS complex", 45.0, HAS_BEATS),
    ("t", "T wave", 40.0, HAS_T),
)
"""Prefix of the features, name, default axis in degrees and flag of each wave; see `Feature`."""

FEATURES = (
    *(
        Feature(f"{prefix}_axis", "deg", f"frontal axis of the {wave}", usual, flag)
        for prefix, wave, usual, flag in _WAVES
    ),
    *(
        Feature(
            f"{prefix}_axis_{name}",
            "1",
            f"{name} of the {prefix.upper()} axis; unlike the angle, continuous at 180 degrees",
            round(float(function(np.radians(usual))), 3),
            flag,
        )
        for prefix, _, usual, flag in _WAVES
        for name, function in (("sin", np.sin), ("cos", np.cos))
    ),
    Feature("qrs_t_angle_frontal", "deg", "angle between QRS and T axis", 20.0, HAS_T),
    Feature("qrs_t_angle_spatial", "deg", "angle between the mean QRS and T vectors", 50.0, HAS_T),
    Feature("qrs_vector", "mV ms", "length of the mean QRS vector (area)", 45.0, HAS_BEATS),
    Feature("t_vector", "mV ms", "length of the mean T vector (area)", 60.0, HAS_T),
    *(
        Feature(
            f"qrs_component_{number}",
            "1",
            f"{ordinal} singular value of the QRS complex over the leads, relative to the first",
            usual,
            HAS_BEATS,
        )
        for number, ordinal, usual in ((2, "second", 0.4), (3, "third", 0.12))
    ),
)
"""Features of `measure_axes`. Frontal axes are computed from the areas in I and aVF (of the P wave:
from the amplitudes), with aVF scaled by 2 / sqrt(3)."""

_KORS = np.array(
    [
        [0.38, -0.07, -0.13, 0.05, -0.01, 0.14, 0.06, 0.54],
        [-0.07, 0.93, 0.06, -0.02, -0.05, 0.06, -0.17, 0.13],
        [0.11, -0.23, -0.43, -0.06, -0.14, -0.20, -0.11, 0.31],
    ]
)
"""Frank leads X, Y, Z from the independent leads: Kors et al., European Heart Journal 11:1083
(1990)."""

_ROWS = [LEADS.index(lead) for lead in INDEPENDENT_LEADS]


def measure_axes(waves: BeatWaves, qrs: Deflections, non_qrs: NonQrsWaves) -> Values:
    """Measure axes and angles.

    Args:
        waves: The waves of average beats.
        qrs: Deflections of the QRS complex.
        non_qrs: The other waves.

    Returns:
        The values of `FEATURES`.
    """
    values: dict[str, np.ndarray] = {}
    radians = {
        "p": _frontal_axis(non_qrs.p),
        "qrs": _frontal_axis(qrs.area),
        "t": _frontal_axis(non_qrs.t_area),
    }
    for wave, axis in radians.items():
        values[f"{wave}_axis"] = np.degrees(axis)
        values[f"{wave}_axis_sin"] = np.sin(axis)
        values[f"{wave}_axis_cos"] = np.cos(axis)
    difference = np.degrees(radians["qrs"] - radians["t"])
    values["qrs_t_angle_frontal"] = np.abs((difference + 180) % 360 - 180)
    qrs_vector, t_vector = _frank(qrs.area), _frank(non_qrs.t_area)
    lengths = np.linalg.norm(qrs_vector, axis=1), np.linalg.norm(t_vector, axis=1)
    cosine = (qrs_vector * t_vector).sum(1) / np.maximum(lengths[0] * lengths[1], 1e-9)
    values["qrs_t_angle_spatial"] = np.degrees(np.arccos(cosine.clip(-1, 1)))
    values["qrs_vector"], values["t_vector"] = lengths
    singular = _singular_values(waves)
    for number in (2, 3):
        values[f"qrs_component_{number}"] = singular[:, -number] / np.maximum(singular[:, -1], 1e-9)
    return values


def _frontal_axis(leads: Float32[np.ndarray, "record 12"]) -> Float64[np.ndarray, " record"]:
    """Return the axis in radians, 0 in the direction of lead I and pi / 2 in that of aVF."""
    first, foot = leads[:, LEADS.index("I")], leads[:, LEADS.index("aVF")]
    axis: np.ndarray = np.arctan2(foot.astype(np.float64) * (2 / np.sqrt(3)), first)
    return axis


def _frank(leads: Float32[np.ndarray, "record 12"]) -> Float64[np.ndarray, "record 3"]:
    # With a matrix product or another memory order, rounding could depend on the batch.
    independent = leads[:, _ROWS].astype(np.float64, order="C")
    vector: np.ndarray = (independent[:, None] * _KORS).sum(-1)
    return vector


def _singular_values(waves: BeatWaves) -> Float64[np.ndarray, "record 8"]:
    """Return the singular values of the QRS complex over the independent leads, ascending."""
    inside = between(waves.qrs.onset, waves.qrs.offset, waves.leads.shape[-1])[:, None]
    leads = np.where(inside, waves.leads[:, _ROWS], 0).astype(np.float64)
    squares = np.linalg.eigvalsh(np.matmul(leads, leads.transpose(0, 2, 1)))
    singular: np.ndarray = np.sqrt(np.maximum(squares, 0))
    return singular
