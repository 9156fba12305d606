"""Masks of samples of a batch of records: ranges, first and last true sample, and means."""

import numpy as np
from jaxtyping import Bool, Float32, Int

Rows = Int[np.ndarray, " record"]


def between(start: Rows, stop: Rows, length: int) -> Bool[np.ndarray, "record time"]:
    """Return a mask of a range of samples of each record.

    Args:
        start: First sample of each range.
        stop: Last sample plus 1.
        length: Number of samples of the mask.

    Returns:
        True from `start` to `stop` (exclusive).
    """
    time = np.arange(length)
    mask: np.ndarray = (time >= start[:, None]) & (time < stop[:, None])
    return mask


def last_true(mask: Bool[np.ndarray, "record time"], default: Rows) -> Rows:
    """Return the last true sample of each record.

    Args:
        mask: Mask of samples.
        default: Result for records without a true sample.

    Returns:
        Index of a sample per record.
    """
    length = mask.shape[1]
    last = length - 1 - mask[:, ::-1].argmax(1)
    result: np.ndarray = np.where(mask.any(1), last, default)
    return result


def first_true(mask: Bool[np.ndarray, "record time"], default: Rows) -> Rows:
    """Return the first true sample of each record.

    Args:
        mask: Mask of samples.
        default: Result for records without a true sample.

    Returns:
        Index of a sample per record.
    """
    result: np.ndarray = np.where(mask.any(1), mask.argmax(1), default)
    return result


def mean_between(
    leads: Float32[np.ndarray, "record lead time"], start: Rows, stop: Rows
) -> Float32[np.ndarray, "record lead 1"]:
    """Return the mean of each lead over a range of samples of each record.

    Args:
        leads: Leads of a batch.
        start: First sample of each range.
        stop: Last sample plus 1, greater than `start`.

    Returns:
        The means, in the unit of the leads.
    """
    mask = between(start, stop, leads.shape[-1])[:, None].astype(np.float32)
    mean: np.ndarray = (leads * mask).sum(-1, keepdims=True) / mask.sum(-1, keepdims=True)
    return mean
