"""Features of each lead: amplitudes, areas and times of the average beat."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from enecg.ecg_format import LEADS, SAMPLE_RATE_HZ
from enecg.experts.measurements.beat_waves import BeatWaves
from enecg.experts.measurements.deflections import Deflections
from enecg.experts.measurements.feature import Feature, Values
from enecg.experts.measurements.intervals import HAS_P, HAS_T
from enecg.experts.measurements.masks import between
from enecg.experts.measurements.rhythm import HAS_BEATS

_MS = np.float32(1000 / SAMPLE_RATE_HZ)

_KINDS = (
    ("q_amplitude", "mV", "Q wave, negative; 0 if absent", HAS_BEATS),
    ("r_amplitude", "mV", "R wave; 0 if absent", HAS_BEATS),
    ("s_amplitude", "mV", "S wave, or QS complex, negative; 0 if absent", HAS_BEATS),
    ("r_prime_amplitude", "mV", "R' wave; 0 if absent", HAS_BEATS),
    ("st_j", "mV", "level at the J point (QRS offset)", HAS_BEATS),
    ("st_j20", "mV", "level 20 ms after the J point", HAS_BEATS),
    ("st_j60", "mV", "level 60 ms after the J point", HAS_BEATS),
    ("t_amplitude", "mV", "largest deflection of the T wave, with sign", HAS_T),
    ("p_amplitude", "mV", "largest deflection of the P wave, with sign", HAS_P),
    ("qrs_area", "mV ms", "signed area of the QRS complex", HAS_BEATS),
    ("t_area", "mV ms", "signed area from 40 ms after the J point to the T end", HAS_T),
    ("r_peak_time", "ms", "QRS onset to the highest sample of the QRS complex", HAS_BEATS),
)
"""Name, unit, description and flag. Amplitudes are relative to the level before the QRS onset,
except that of P, which is relative to a line from its onset to its offset."""

_DEFAULTS = {
    "q_amplitude": (0, 0, 0, -0.7, 0, 0, 0, 0, 0, 0, -0.1, -0.1),
    "r_amplitude": (0.6, 0.9, 0.4, 0, 0.2, 0.6, 0.2, 0.4, 0.7, 1.1, 1.2, 1),
    "s_amplitude": (-0.1, -0.2, -0.2, -0.7, -0.2, -0.2, -0.8, -1.2, -0.9, -0.6, -0.3, -0.1),
    "t_amplitude": (0.2, 0.3, 0.1, -0.2, 0.1, 0.2, 0, 0.4, 0.4, 0.4, 0.3, 0.2),
    "p_amplitude": (0.07, 0.1, 0.05, -0.09, 0.03, 0.08, 0.05, 0.07, 0.06, 0.06, 0.06, 0.05),
    "qrs_area": (17, 21, 4, -19, 6, 12, -18, -22, -3, 16, 25, 23),
    "t_area": (19, 24, 5, -21, 7, 15, 2, 45, 44, 37, 28, 20),
    "r_peak_time": (38, 40, 40, 20, 36, 40, 20, 28, 38, 40, 40, 40),
}
"""Typical values by lead, in the order of `LEADS`; 0 for other features."""

FEATURES = tuple(
    Feature(
        f"{kind}_{lead}",
        unit,
        f"{lead}: {description}",
        float(_DEFAULTS.get(kind, (0.0,) * len(LEADS))[row]),
        flag,
    )
    for kind, unit, description, flag in _KINDS
    for row, lead in enumerate(LEADS)
)


@dataclass(frozen=True)
class NonQrsWaves:
    """ST segment, T wave and P wave of each lead.

    Attributes:
        st_j: Level at the J point in mV.
        st_j20: Level 20 ms after the J point in mV.
        st_j60: Level 60 ms after the J point in mV.
        t: Largest deflection of the T wave in mV, with sign.
        t_area: Signed area of the T wave in mV ms.
        p: Largest deflection of the P wave in mV, with sign.
        p_terminal: Lowest sample of the second half of the P wave in mV, at most 0.
    """

    st_j: Float32[np.ndarray, "record lead"]
    st_j20: Float32[np.ndarray, "record lead"]
    st_j60: Float32[np.ndarray, "record lead"]
    t: Float32[np.ndarray, "record lead"]
    t_area: Float32[np.ndarray, "record lead"]
    p: Float32[np.ndarray, "record lead"]
    p_terminal: Float32[np.ndarray, "record lead"]


def measure_non_qrs_waves(waves: BeatWaves) -> NonQrsWaves:
    """Measure ST segment, T wave and P wave of each lead.

    Args:
        waves: The waves of average beats.

    Returns:
        The measurements in all twelve leads; arbitrary where a wave was not found.
    """
    leads, qrs, p = waves.leads, waves.qrs, waves.p
    length = leads.shape[-1]
    rows = np.arange(len(leads))

    def level(after: int) -> np.ndarray:
        value: np.ndarray = leads[rows, :, np.minimum(qrs.offset + after, length - 1)]
        return value

    start = qrs.offset + 20
    wave = np.where(between(start, np.maximum(waves.t.end, start + 5), length)[:, None], leads, 0)
    onset, stop = np.maximum(p.onset, 0), np.maximum(p.offset, p.onset + 5) + 1
    first, last = leads[rows, :, onset], leads[rows, :, stop - 1]
    fraction = (np.arange(length) - onset[:, None]) / (stop - 1 - onset)[:, None]
    line = first[..., None] + (last - first)[..., None] * fraction[:, None].astype(np.float32)
    p_wave = np.where(between(onset, stop, length)[:, None], leads - line, 0)
    second_half = between((onset + stop) // 2, stop, length)[:, None]
    return NonQrsWaves(
        st_j=level(0),
        st_j20=level(10),
        st_j60=level(30),
        t=_largest(wave),
        t_area=wave.sum(-1) * _MS,
        p=_largest(p_wave),
        p_terminal=np.where(second_half, p_wave, 0).min(-1),
    )


def measure_amplitudes(qrs: Deflections, non_qrs: NonQrsWaves) -> Values:
    """Return the features of each lead.

    Args:
        qrs: Deflections of the QRS complex.
        non_qrs: The other waves.

    Returns:
        The values of `FEATURES`.
    """
    by_kind = {
        "q_amplitude": qrs.q,
        "r_amplitude": qrs.r,
        "s_amplitude": qrs.s,
        "r_prime_amplitude": qrs.r_prime,
        "st_j": non_qrs.st_j,
        "st_j20": non_qrs.st_j20,
        "st_j60": non_qrs.st_j60,
        "t_amplitude": non_qrs.t,
        "p_amplitude": non_qrs.p,
        "qrs_area": qrs.area,
        "t_area": non_qrs.t_area,
        "r_peak_time": qrs.r_peak_ms,
    }
    return {
        f"{kind}_{lead}": values[:, row]
        for kind, values in by_kind.items()
        for row, lead in enumerate(LEADS)
    }


def _largest(
    wave: Float32[np.ndarray, "record lead time"],
) -> Float32[np.ndarray, "record lead"]:
    high, low = wave.max(-1), wave.min(-1)
    largest: np.ndarray = np.where(high > -low, high, low)
    return largest
