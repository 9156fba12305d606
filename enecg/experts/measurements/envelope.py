"""The detection envelope: weighted energy of all leads in the band of the QRS complex."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int
from scipy.ndimage import convolve1d, maximum_filter1d

from enecg.experts.measurements.filtering import DETECTION_RATE_HZ

_SMOOTHING = 25
"""Number of samples of the smoothing window: 100 ms."""
_NEIGHBORHOOD = 37
"""Length in samples of the window, centered on a peak, whose maximum is the peak: 148 ms."""
_CLIP = 2.5
"""Limit of the normalized leads, so that a single large artifact does not dominate."""
_WINDOW = 2 * DETECTION_RATE_HZ
"""Length in samples of the nine windows of the reference level, which overlap by half.
The reference is the fourth largest of their maxima. Two beats suffice, because each usually lies in
two windows, and up to three windows may contain artifacts."""


@dataclass(frozen=True)
class Envelope:
    """The detection envelope of a batch, at 250 Hz.

    Attributes:
        leads: Leads in the band of the QRS complex, each divided by the 98th percentile of its
            absolute values (or a floor, if that is higher) and clipped to ±2.5.
        weight: Weight of each lead, with sum 1; all 0 if all leads are flat. High for leads with
            narrow peaks, whose 98th percentile is a large multiple of their median.
        energy: Square root of the smoothed, weighted energy.
        level: Reference level of the energy: the fourth largest maximum of nine windows; see
            `_WINDOW`.
        noise: Median of `energy`.
    """

    leads: Float32[np.ndarray, "record lead time"]
    weight: Float32[np.ndarray, "record lead"]
    energy: Float32[np.ndarray, "record time"]
    level: Float32[np.ndarray, " record"]
    noise: Float32[np.ndarray, " record"]

    def find_peaks(self) -> tuple[Int[np.ndarray, " peak"], Int[np.ndarray, " peak"]]:
        """Find maxima of the energy, within windows of 148 ms, that exceed an eighth of `level`.

        Returns:
            For each maximum, the row of its record and its position in samples at 250 Hz; sorted by
            record, then position.
        """
        highest = maximum_filter1d(self.energy, _NEIGHBORHOOD, axis=-1, mode="constant")
        peak = (self.energy == highest) & (self.energy > 0.125 * self.level[:, None])
        record, position = np.nonzero(peak)
        # A plateau has several maxima.
        first = (np.diff(record, prepend=-1) != 0) | (np.diff(position, prepend=-9) > 1)
        return record[first], position[first]


def compute_envelope(detection: Float32[np.ndarray, "record lead time"]) -> Envelope:
    """Compute the envelope from leads in the band of the QRS complex.

    Args:
        detection: Ten seconds of the leads, in mV at 250 Hz.

    Returns:
        The envelope.
    """
    ordered = np.sort(np.abs(detection[..., ::2]), axis=-1)
    high = ordered[..., int(0.98 * ordered.shape[-1])]
    typical = ordered[..., ordered.shape[-1] // 2]
    # The floor is relative to the largest lead, so that weights do not depend on the voltage of the
    # record. The limit of 1e-4 mV avoids division by zero.
    floor = np.maximum(0.01 * high.max(1, keepdims=True), np.float32(1e-4))
    weight = np.clip(high / (typical + 0.1 * floor) - 2, 0.05, 8) * (high > floor)
    weight = (weight / np.maximum(weight.sum(1, keepdims=True), 1e-9)).astype(np.float32)
    leads = np.clip(detection / np.maximum(high, floor)[..., None], -_CLIP, _CLIP)
    power = (weight[..., None] * leads**2).sum(1)
    window = np.hanning(_SMOOTHING + 2)[1:-1].astype(np.float32)
    smooth = convolve1d(power, window / window.sum(), axis=-1, mode="reflect")
    energy = np.sqrt(np.maximum(smooth, 0))
    starts = range(0, energy.shape[-1] - _WINDOW + 1, _WINDOW // 2)
    maxima = np.stack([energy[:, start : start + _WINDOW].max(1) for start in starts], axis=1)
    maxima.sort(axis=1)
    noise = np.sort(energy[:, ::2], axis=1)[:, energy.shape[1] // 4]
    return Envelope(leads, weight, energy, maxima[:, -4], noise)
