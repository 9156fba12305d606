"""Robust averages of the beats of each record."""

import numpy as np
from jaxtyping import Float32, Int

_PADDING = np.float32(1e9)
"""Larger than any sample, so that it is sorted to the end."""


def rank_in_record(record: Int[np.ndarray, " beat"]) -> Int[np.ndarray, " beat"]:
    """Return the index of each beat within its record; records are in ascending order."""
    starts = np.flatnonzero(np.diff(record, prepend=-1))
    lengths = np.diff(starts, append=len(record))
    ranks: np.ndarray = np.arange(len(record)) - np.repeat(starts, lengths)
    return ranks


def average_beats(
    windows: Float32[np.ndarray, "beat feature"], record: Int[np.ndarray, " beat"], records: int
) -> Float32[np.ndarray, "record feature"]:
    """Average the middle half of the sorted values of each feature, over the beats of a record.

    With fewer than five beats, this is the median. The average is robust against ectopic beats and
    artifacts, and less noisy than the median.

    Args:
        windows: Samples or other values of each beat.
        record: Row of each beat's record in the batch, in ascending order.
        records: Number of records.

    Returns:
        One average per record; zeros for records without beats.
    """
    count = np.bincount(record, minlength=records)
    largest = int(count.max(initial=1))
    padded = np.full((records, largest, windows.shape[1]), _PADDING, np.float32)
    padded[record, rank_in_record(record)] = windows
    padded.sort(axis=1)
    weight = np.zeros((largest, records, 1), np.float32)
    for row, beats in enumerate(count.tolist()):
        if beats:
            trim = (beats - 1) // 2 if beats < 5 else beats // 4
            weight[trim : beats - trim, row] = 1 / (beats - 2 * trim)
    # With a matrix product, rounding could depend on the number of beats of other records.
    average = np.zeros((records, windows.shape[1]), np.float32)
    for rank in range(largest):
        average += weight[rank] * padded[:, rank]
    return average
