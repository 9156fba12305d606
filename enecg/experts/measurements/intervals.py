"""Features of the intervals: durations of P, QRS and T, and PR, QT, QTc and JT."""

import numpy as np

from enecg.ecg_format import SAMPLE_RATE_HZ
from enecg.experts.measurements.beat_waves import BeatWaves
from enecg.experts.measurements.feature import Feature, Values
from enecg.experts.measurements.rhythm import HAS_BEATS

HAS_P, HAS_T = "has_p_wave", "has_t_wave"

FEATURES = (
    Feature(HAS_P, "1", "1 if there is a P wave before the QRS complexes, else 0"),
    Feature(HAS_T, "1", "1 if the end of the T wave was found, else 0"),
    Feature("p_duration", "ms", "duration of the P wave", 105.0, HAS_P),
    Feature("pr_interval", "ms", "P onset to QRS onset", 155.0, HAS_P),
    Feature("pr_segment", "ms", "P offset to QRS onset", 50.0, HAS_P),
    Feature("p_height", "mV", "height of the P wave's first principal component", 0.2, HAS_BEATS),
    Feature(
        "p_consistency",
        "1",
        "typical correlation of single beats with the average around the P wave's peak",
        0.9,
        HAS_BEATS,
    ),
    Feature("qrs_duration", "ms", "QRS onset to QRS offset", 95.0, HAS_BEATS),
    Feature("qt_interval", "ms", "QRS onset to T end", 390.0, HAS_T),
    Feature("qtc_bazett", "ms", "QT / sqrt(RR in s), with the median RR", 420.0, HAS_T),
    Feature("qtc_fridericia", "ms", "QT / cbrt(RR in s), with the median RR", 415.0, HAS_T),
    Feature("qtc_framingham", "ms", "QT + 154 ms (1 - RR in s), with the median RR", 415.0, HAS_T),
    Feature("jt_interval", "ms", "QRS offset to T end", 295.0, HAS_T),
    Feature("j_t_peak", "ms", "QRS offset to T peak", 215.0, HAS_T),
    Feature("t_peak_t_end", "ms", "T peak to T end", 80.0, HAS_T),
    Feature("t_duration", "ms", "T onset to T end", 185.0, HAS_T),
    Feature(
        "t_complexity",
        "1",
        "second singular value of the T wave over the leads, relative to the first",
        0.2,
        HAS_T,
    ),
)


def measure_intervals(waves: BeatWaves) -> Values:
    """Measure the intervals of average beats.

    Args:
        waves: The waves.

    Returns:
        The values of `FEATURES`.
    """

    def ms(start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        duration: np.ndarray = (stop - start) * (1000 / SAMPLE_RATE_HZ)
        return duration

    qrs, t, p, rr_s = waves.qrs, waves.t, waves.p, waves.rr_s
    qt = ms(qrs.onset, t.end)
    return {
        HAS_P: waves.has_p,
        HAS_T: waves.has_t,
        "p_duration": ms(p.onset, p.offset),
        "pr_interval": ms(p.onset, qrs.onset),
        "pr_segment": ms(p.offset, qrs.onset),
        "p_height": p.height,
        "p_consistency": p.consistency,
        "qrs_duration": ms(qrs.onset, qrs.offset),
        "qt_interval": qt,
        "qtc_bazett": qt / np.sqrt(rr_s),
        "qtc_fridericia": qt / np.cbrt(rr_s),
        "qtc_framingham": qt + 154 * (1 - rr_s),
        "jt_interval": ms(qrs.offset, t.end),
        "j_t_peak": ms(qrs.offset, t.peak),
        "t_peak_t_end": ms(t.peak, t.end),
        "t_duration": ms(t.onset, t.end),
        "t_complexity": t.second,
    }
