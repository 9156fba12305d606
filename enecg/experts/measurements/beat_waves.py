"""P, QRS and T of the average beats, and the average beats in all twelve leads."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64

from enecg.experts.measurements.average_beat import AverageBeat
from enecg.experts.measurements.masks import mean_between
from enecg.experts.measurements.p_wave import PWave, find_p_wave
from enecg.experts.measurements.qrs import QrsComplex, find_qrs
from enecg.experts.measurements.t_wave import TWave, find_t_wave


@dataclass(frozen=True)
class BeatWaves:
    """The waves of the average beats.

    Attributes:
        leads: Average beats in all twelve leads in mV, relative to the level before the QRS onset.
        qrs: The QRS complex.
        t: The T wave.
        p: The P wave.
        rr_s: Median RR interval in s; 1 for fewer than two beats.
        has_p: Whether there is a P wave.
        has_t: Whether there is a T wave.
    """

    leads: Float32[np.ndarray, "record 12 window"]
    qrs: QrsComplex
    t: TWave
    p: PWave
    rr_s: Float64[np.ndarray, " record"]
    has_p: Bool[np.ndarray, " record"]
    has_t: Bool[np.ndarray, " record"]


def find_waves(
    average: AverageBeat,
    lead_weight: Float32[np.ndarray, "record lead"],
    rr_s: Float64[np.ndarray, " record"],
) -> BeatWaves:
    """Find the waves of average beats.

    Args:
        average: The average beats.
        lead_weight: Weight of each independent lead, lower for noisy leads.
        rr_s: Median RR interval in s.

    Returns:
        The waves; arbitrary where they were not found.
    """
    qrs = find_qrs(average.leads, lead_weight)
    leads = average.leads - mean_between(average.leads, qrs.onset - 8, qrs.onset - 1)
    weighted = leads * lead_weight[..., None]
    t = find_t_wave(weighted, qrs, average.next_s)
    p = find_p_wave(weighted, average, qrs, t.end)
    has_beats = average.used > 0
    return BeatWaves(
        leads=expand_leads(leads),
        qrs=qrs,
        t=t,
        p=p,
        rr_s=rr_s,
        has_p=p.found & has_beats,
        has_t=t.found & has_beats,
    )


def expand_leads(
    independent: Float32[np.ndarray, "record 8 time"],
) -> Float32[np.ndarray, "record 12 time"]:
    """Compute all twelve leads from I, II and V1 to V6, by Einthoven's and Goldberger's laws."""
    first, second = independent[:, 0], independent[:, 1]
    limb = (
        *(first, second, second - first),
        *(-0.5 * (first + second), first - 0.5 * second, second - 0.5 * first),
    )
    return np.concatenate([np.stack(limb, axis=1), independent[:, 2:]], axis=1)
