"""Features of the rhythm: RR intervals, and the similarity of the beats."""

from itertools import pairwise

import numpy as np
from jaxtyping import Float64

from enecg.ecg_format import SAMPLE_RATE_HZ
from enecg.experts.measurements.average_beat import AverageBeat
from enecg.experts.measurements.detection import Beats
from enecg.experts.measurements.feature import Feature, Values

HAS_BEATS, HAS_RR, HAS_RR_CHANGES = "has_beats", "has_rr", "has_rr_changes"

FEATURES = (
    Feature(HAS_BEATS, "1", "1 if at least one beat was detected, else 0"),
    Feature(HAS_RR, "1", "1 if at least two beats were detected, else 0"),
    Feature(HAS_RR_CHANGES, "1", "1 if at least three beats were detected, else 0"),
    Feature("beat_count", "1", "number of detected beats"),
    Feature("rr_mean", "ms", "mean RR interval", 850.0, HAS_RR),
    Feature("rr_median", "ms", "median RR interval", 850.0, HAS_RR),
    Feature("rr_sd", "ms", "standard deviation of the RR intervals", 25.0, HAS_RR),
    Feature("rr_min", "ms", "shortest RR interval", 800.0, HAS_RR),
    Feature("rr_max", "ms", "longest RR interval", 900.0, HAS_RR),
    Feature("heart_rate", "1/min", "60,000 divided by the mean RR interval in ms", 70.6, HAS_RR),
    Feature("rr_rmssd", "ms", "root mean square of successive differences", 25.0, HAS_RR_CHANGES),
    Feature(
        "rr_change_median",
        "1",
        "median absolute difference of successive RR intervals, relative to the median RR",
        0.02,
        HAS_RR_CHANGES,
    ),
    Feature("rr_pnn50", "1", "share of successive differences above 50 ms", 0.05, HAS_RR_CHANGES),
    Feature("rr_cv", "1", "standard deviation relative to the mean RR interval", 0.03, HAS_RR),
    Feature(
        "rr_irregular",
        "1",
        "share of RR intervals that differ by over 10 % from the median",
        0.0,
        HAS_RR,
    ),
    Feature("rr_premature", "1", "share of RR intervals below 80 % of the median", 0.0, HAS_RR),
    Feature(
        "dominant_share",
        "1",
        "share of beats with the dominant shape of the QRS complex",
        1.0,
        HAS_BEATS,
    ),
    Feature(
        "beat_similarity",
        "1",
        "typical correlation of the beats' QRS complexes with their template",
        0.98,
        HAS_BEATS,
    ),
    Feature(
        "beat_similarity_min",
        "1",
        "smallest correlation of a beat with the template",
        0.95,
        HAS_BEATS,
    ),
)


_INTERVALS = (
    *("rr_mean", "rr_median", "rr_sd", "rr_min", "rr_max", "heart_rate", "rr_rmssd"),
    *("rr_change_median", "rr_pnn50", "rr_cv", "rr_irregular", "rr_premature"),
)
"""Names of the features that `_measure_intervals` computes."""


def median_rr_s(beats: Beats) -> Float64[np.ndarray, " record"]:
    """Return the median RR interval of each record in s, 1 s for fewer than two beats."""
    return np.array(
        [np.median(rr) if len(rr) else 1.0 for rr in _intervals_s(beats)], dtype=np.float64
    )


def measure_rhythm(beats: Beats, average: AverageBeat) -> Values:
    """Measure the features of the rhythm.

    Args:
        beats: The beats.
        average: The average beats.

    Returns:
        The values of `FEATURES`.
    """
    rows = [_measure_intervals(1000 * rr) for rr in _intervals_s(beats)]
    values = {name: np.array([row.get(name, np.nan) for row in rows]) for name in _INTERVALS}
    starts = np.append(0, np.cumsum(beats.count))
    lowest = [beats.correlation[start:stop].min(initial=1.0) for start, stop in pairwise(starts)]
    return {
        **values,
        HAS_BEATS: beats.count > 0,
        HAS_RR: beats.count > 1,
        HAS_RR_CHANGES: beats.count > 2,
        "beat_count": beats.count,
        "dominant_share": average.dominant,
        "beat_similarity": beats.typical_correlation,
        "beat_similarity_min": np.array(lowest),
    }


def _intervals_s(beats: Beats) -> list[Float64[np.ndarray, " interval"]]:
    ends = np.cumsum(beats.count)[:-1]
    return [np.diff(position) / SAMPLE_RATE_HZ for position in np.split(beats.position, ends)]


def _measure_intervals(rr: Float64[np.ndarray, " interval"]) -> dict[str, float]:
    """Measure the RR intervals of one record, given in ms."""
    if not len(rr):
        return {}
    mean, median, deviation = rr.mean(), np.median(rr), rr.std()
    values = {
        "rr_mean": mean,
        "rr_median": median,
        "rr_sd": deviation,
        "rr_min": rr.min(),
        "rr_max": rr.max(),
        "heart_rate": 60_000 / mean,
        "rr_cv": deviation / mean,
        "rr_irregular": (np.abs(rr / median - 1) > 0.1).mean(),
        "rr_premature": (rr < 0.8 * median).mean(),
    }
    if len(rr) > 1:
        change = np.abs(np.diff(rr))
        values["rr_rmssd"] = np.sqrt((change**2).mean())
        values["rr_change_median"] = np.median(change) / median
        values["rr_pnn50"] = (change > 50).mean()
    return {name: float(value) for name, value in values.items()}
