"""Features that combine the amplitudes of several leads."""

import numpy as np

from enecg.ecg_format import LEADS
from enecg.experts.measurements.amplitudes import NonQrsWaves
from enecg.experts.measurements.beat_waves import BeatWaves
from enecg.experts.measurements.deflections import Deflections
from enecg.experts.measurements.feature import Feature, Values
from enecg.experts.measurements.intervals import HAS_P, HAS_T
from enecg.experts.measurements.masks import between
from enecg.experts.measurements.rhythm import HAS_BEATS

FEATURES = (
    Feature("sokolow_lyon", "mV", "depth of S in V1 plus the larger R of V5, V6", 2.0, HAS_BEATS),
    Feature("cornell_voltage", "mV", "R in aVL plus depth of S in V3", 1.1, HAS_BEATS),
    Feature("cornell_product", "mV ms", "Cornell voltage times QRS duration", 105.0, HAS_BEATS),
    Feature("limb_voltage", "mV", "largest peak-to-peak QRS of the limb leads", 1.1, HAS_BEATS),
    Feature(
        "limb_voltage_min", "mV", "smallest peak-to-peak QRS of the limb leads", 0.5, HAS_BEATS
    ),
    Feature("chest_voltage", "mV", "largest peak-to-peak QRS of V1 to V6", 1.8, HAS_BEATS),
    Feature("r_share_V1", "1", "R / (R + S) in V1", 0.2, HAS_BEATS),
    Feature(
        "transition_zone",
        "1",
        "chest lead, interpolated, where R / (R + S) reaches 1/2",
        3.5,
        HAS_BEATS,
    ),
    Feature("st_lowest", "mV", "lowest level 60 ms after J, without aVR", -0.02, HAS_BEATS),
    Feature("st_highest", "mV", "highest level 60 ms after J, without aVR", 0.1, HAS_BEATS),
    Feature(
        "t_negative_leads", "1", "number of leads with T below -0.05 mV, without aVR", 1.0, HAS_T
    ),
    Feature("p_terminal_V1", "mV", "lowest sample of the second half of P in V1", -0.03, HAS_P),
    Feature(
        "qrs_slope_changes",
        "1",
        "changes of the slope's sign in the QRS complex, mean over leads",
        4.0,
        HAS_BEATS,
    ),
    Feature("qrs_velocity", "mV/s", "largest spatial velocity of the QRS", 150.0, HAS_BEATS),
)

_WITHOUT_AVR = [row for row, lead in enumerate(LEADS) if lead != "aVR"]
_CHEST = slice(LEADS.index("V1"), LEADS.index("V6") + 1)


def measure_voltages(waves: BeatWaves, qrs: Deflections, non_qrs: NonQrsWaves) -> Values:
    """Measure the features that combine leads.

    Args:
        waves: The waves of average beats.
        qrs: Deflections of the QRS complex.
        non_qrs: The other waves.

    Returns:
        The values of `FEATURES`.
    """
    r = dict(zip(LEADS, np.maximum(qrs.r, qrs.r_prime).T, strict=True))
    s = dict(zip(LEADS, -qrs.s.T, strict=True))
    cornell = r["aVL"] + s["V3"]
    duration_ms = (waves.qrs.offset - waves.qrs.onset) * 2.0
    tall = np.maximum(qrs.r, qrs.r_prime)[:, _CHEST]
    share = tall / np.maximum(tall - qrs.s[:, _CHEST], 1e-6)
    st = non_qrs.st_j60[:, _WITHOUT_AVR]
    limb, chest = qrs.range[:, : _CHEST.start], qrs.range[:, _CHEST]
    inside = between(waves.qrs.onset, waves.qrs.offset, waves.leads.shape[-1])
    return {
        "sokolow_lyon": s["V1"] + np.maximum(r["V5"], r["V6"]),
        "cornell_voltage": cornell,
        "cornell_product": cornell * duration_ms,
        "limb_voltage": limb.max(1),
        "limb_voltage_min": limb.min(1),
        "chest_voltage": chest.max(1),
        "r_share_V1": share[:, 0],
        "transition_zone": _transition(share),
        "st_lowest": st.min(1),
        "st_highest": st.max(1),
        "t_negative_leads": (non_qrs.t[:, _WITHOUT_AVR] < -0.05).sum(1),
        "p_terminal_V1": non_qrs.p_terminal[:, _CHEST.start],
        "qrs_slope_changes": _slope_changes(waves.leads, inside),
        "qrs_velocity": np.where(inside, waves.qrs.velocity, 0).max(1),
    }


def _transition(share: np.ndarray) -> np.ndarray:
    """Interpolate the lead (1 to 6) where the running maximum of the shares reaches one half."""
    hull = np.maximum.accumulate(share, axis=1)
    return np.array([np.interp(0.5, row, np.arange(1.0, 7.0)) for row in hull])


def _slope_changes(leads: np.ndarray, inside: np.ndarray) -> np.ndarray:
    slope = np.sign(leads[..., 4:] - leads[..., :-4])
    changes = (slope[..., 1:] != slope[..., :-1]) & inside[:, None, 2:-3]
    mean: np.ndarray = changes.sum(-1).mean(1)
    return mean
