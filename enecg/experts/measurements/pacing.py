"""Removal of pacemaker spikes and other jumps within one sample."""

import numpy as np
from jaxtyping import Float32, Int

JUMP_MV = 0.4
"""Smallest jump between two samples, summed over the leads. The smallest of LUDB's annotated
pacemaker spikes have 0.5 mV."""

JUMP_RATIO = 7.0
"""Smallest ratio between a jump and the largest of the five differences before it. A QRS complex
starts gradually, because the recorder's low-pass filter limits its slope."""

SPIKE_SAMPLES = 8
"""Samples that are replaced: 16 ms, which include the decay after the spike."""


def remove_spikes(
    leads: Float32[np.ndarray, "record lead time"],
) -> tuple[Float32[np.ndarray, "record lead time"], Int[np.ndarray, " record"]]:
    """Replace pacemaker spikes by straight lines.

    Args:
        leads: Leads in mV at 500 Hz.

    Returns:
        The leads, and the number of spikes per record. Records without spikes are not changed.
    """
    difference = np.abs(np.diff(leads, axis=-1)).sum(1)
    before = difference[:, :-5]
    for shift in range(1, 5):
        before = np.maximum(before, difference[:, shift : shift - 5])
    jump = difference[:, 5:]
    record, position = np.nonzero((jump > JUMP_MV) & (jump > JUMP_RATIO * before))
    count = np.zeros(len(leads), np.int64)
    if not len(record):
        return leads, count
    leads = leads.copy()
    end_of_previous = -1
    previous_record = -1
    for row, start in zip(record.tolist(), (position + 5).tolist(), strict=True):
        if row == previous_record and start < end_of_previous:
            continue
        end = min(start + SPIKE_SAMPLES + 1, leads.shape[-1] - 1)
        weight = np.linspace(0, 1, end - start + 1, dtype=np.float32)
        line = (1 - weight) * leads[row, :, start, None] + weight * leads[row, :, end, None]
        leads[row, :, start : end + 1] = line
        count[row] += 1
        previous_record, end_of_previous = row, end
    return leads, count
