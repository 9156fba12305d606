"""Rules about the distance of consecutive beats."""

import numpy as np
from jaxtyping import Bool, Int

from enecg.experts.measurements.candidates import Candidates
from enecg.experts.measurements.envelope import Envelope
from enecg.experts.measurements.filtering import DETECTION_RATE_HZ

_SHORTEST = 0.26 * DETECTION_RATE_HZ
"""Distance in samples: 260 ms. Of two peaks that are closer, at most one is a beat."""
_AMBIGUOUS = 0.40 * DETECTION_RATE_HZ
"""Distance in samples: 400 ms. Of two peaks that are closer, the lower one may be a T wave or a P
wave."""
_PASSES = 4
"""Maximum number of passes over the peaks."""


def remove_close_peaks(
    peaks: Candidates, accepted: Bool[np.ndarray, " peak"]
) -> Bool[np.ndarray, " peak"]:
    """Remove the less likely of two accepted peaks that are too close for two beats.

    Args:
        peaks: Candidates of the envelope.
        accepted: Mask of the peaks that are beats so far.

    Returns:
        Mask of the remaining beats.
    """
    accepted = accepted.copy()
    score = peaks.height * np.maximum(peaks.correlation, 0.2)
    for _ in range(_PASSES):
        index = np.flatnonzero(accepted)
        if len(index) < 2:
            break
        first, second = index[:-1], index[1:]
        distance = peaks.position[second] - peaks.position[first]
        same = peaks.record[first] == peaks.record[second]
        close = same & (distance < _SHORTEST)
        ambiguous = same & ~close & (distance < _AMBIGUOUS)
        first_loses = close & (score[second] >= 1.2 * score[first])
        first_loses |= ambiguous & _is_weak(peaks, first, second) & (peaks.height[first] < 0.5)
        second_loses = (close & ~first_loses) | (ambiguous & _is_weak(peaks, second, first))
        losers = np.concatenate([first[first_loses], second[second_loses]])
        winners = np.concatenate([second[first_loses], first[second_loses]])
        # Keep a peak that loses to another loser; it may be a beat.
        losers = losers[~np.isin(winners, losers)] if len(losers) > 1 else losers
        if not len(losers):
            break
        accepted[losers] = False
    return accepted


def _is_weak(
    peaks: Candidates, peak: Int[np.ndarray, " pair"], other: Int[np.ndarray, " pair"]
) -> Bool[np.ndarray, " pair"]:
    """Return whether a peak is unlike the template and much lower than its neighbor."""
    low = peaks.height[peak] < 0.62 * peaks.height[other]
    weak: np.ndarray = low & (peaks.correlation[peak] < 0.85)
    return weak


def search_gaps(
    peaks: Candidates, accepted: Bool[np.ndarray, " peak"], envelope: Envelope
) -> Bool[np.ndarray, " peak"]:
    """Accept the highest rejected peak that may be a beat in each gap over 1.55 median intervals.

    Args:
        peaks: Candidates of the envelope.
        accepted: Mask of the peaks that are beats so far.
        envelope: The envelope, for its noise and level.

    Returns:
        Mask of the beats; unchanged for records with fewer than two intervals.
    """
    accepted = accepted.copy()
    index = np.flatnonzero(accepted)
    first, second = index[:-1], index[1:]
    same = peaks.record[first] == peaks.record[second]
    first, second = first[same], second[same]
    interval = peaks.position[second] - peaks.position[first]
    record = peaks.record[first]
    for row in np.unique(record).tolist():
        own = record == row
        if own.sum() < 2:
            continue
        usual = np.median(interval[own])
        typical = np.median(peaks.height[accepted & (peaks.record == row)])
        noise = envelope.noise[row] / max(float(envelope.level[row]), 1e-9)
        lowest = max(0.25 * typical, 1.5 * noise)
        for gap in np.flatnonzero(own & (interval > 1.55 * usual)).tolist():
            inside = np.arange(first[gap] + 1, second[gap])
            position = peaks.position[inside]
            possible = (
                (position - peaks.position[first[gap]] > 0.36 * DETECTION_RATE_HZ)
                & (peaks.position[second[gap]] - position > 0.30 * DETECTION_RATE_HZ)
                & (peaks.height[inside] > lowest)
                & (peaks.correlation[inside] > 0.4)
            )
            if possible.any():
                chosen = inside[possible]
                accepted[chosen[np.argmax(peaks.height[chosen])]] = True
    return accepted
