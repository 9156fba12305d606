"""Removal of pacemaker spikes and other jumps within a few samples."""

import numpy as np
from jaxtyping import Float32, Int
from scipy.ndimage import uniform_filter1d

MIN_CURVATURE_MV = 4.0
"""Smallest curvature of a spike: the absolute fourth difference in mV, summed over the leads. A
spike of one sample and of 0.1 mV in each of eight leads has 4.8."""

MIN_NOISE_RATIO = 15.0
"""Smallest curvature of a spike relative to the record's median."""

MIN_ENERGY_RATIO = 5.0
"""Smallest ratio of the energy of the fourth difference to that of the first one. A spike has 5 to
35, and a QRS complex, whose band ends below 150 Hz, less than 1."""

_LONGEST = 16
"""Number of samples, from the start of a spike, in which its end is searched: 32 ms. Pulses have
two edges."""
_DECAY = 5
"""Number of samples from the end of a spike to the end of the straight line: 10 ms."""
_SPAN, _MAX_SHARE = 250, 1 / 3
"""If spikes would replace more than this share of the 0.5 s around a sample, they are noise, for
example of a loose electrode in one lead, and the sample is kept."""


def remove_spikes(
    leads: Float32[np.ndarray, "record lead time"],
) -> tuple[Float32[np.ndarray, "record lead time"], Int[np.ndarray, " record"]]:
    """Replace pacemaker spikes with straight lines.

    Args:
        leads: Leads in mV at 500 Hz.

    Returns:
        The leads, and the number of spikes per record. Records without spikes are not changed.
        Spikes that are too dense for pacing are counted, but kept.
    """
    curvature = np.abs(np.diff(leads, n=4, axis=-1)).sum(1)
    usual = np.sort(curvature[:, ::4], axis=1)[:, curvature.shape[1] // 8, None]
    sharp = curvature > np.maximum(MIN_CURVATURE_MV, MIN_NOISE_RATIO * usual)
    count = np.zeros(len(leads), np.int64)
    if not sharp.any():
        return leads, count
    cleaned = leads.copy()
    end, previous = -1, -1
    # The fourth difference at a position is computed from this sample and the four after it.
    for row, position in zip(*(index.tolist() for index in np.nonzero(sharp)), strict=True):
        if row == previous and position + 4 <= end:
            continue
        last = position + 4 + int(np.flatnonzero(sharp[row, position : position + _LONGEST])[-1])
        part = leads[row, :, position : last + 1]
        energy = [float((np.diff(part, n=order, axis=-1) ** 2).sum()) for order in (1, 4)]
        if energy[1] <= MIN_ENERGY_RATIO * energy[0]:
            continue
        end, previous = min(last + _DECAY, leads.shape[-1] - 1), row
        weight = np.linspace(0, 1, end - position + 1, dtype=np.float32)
        first, final = cleaned[row, :, position, None], cleaned[row, :, end, None]
        cleaned[row, :, position : end + 1] = first + weight * (final - first)
        count[row] += 1
    for row in np.flatnonzero(count).tolist():
        replaced = (cleaned[row] != leads[row]).any(0)
        dense = uniform_filter1d(replaced.astype(np.float64), _SPAN, mode="constant") > _MAX_SHARE
        cleaned[row][:, dense] = leads[row][:, dense]
    return cleaned, count
