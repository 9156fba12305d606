"""Searches along the last axis of a batch of signals, each within its own range of samples."""

import numpy as np
from jaxtyping import Bool, Float32, Int

Rows = Int[np.ndarray, " record"]


def between(start: Rows, stop: Rows, length: int) -> Bool[np.ndarray, "record time"]:
    """Return the mask of the samples from `start` to `stop` (exclusive) of each record."""
    time = np.arange(length)
    mask: np.ndarray = (time >= start[:, None]) & (time < stop[:, None])
    return mask


def last_true(mask: Bool[np.ndarray, "record time"], default: Rows) -> Rows:
    """Return the last true sample of each record, or `default` if there is none."""
    length = mask.shape[1]
    last = length - 1 - mask[:, ::-1].argmax(1)
    result: np.ndarray = np.where(mask.any(1), last, default)
    return result


def first_true(mask: Bool[np.ndarray, "record time"], default: Rows) -> Rows:
    """Return the first true sample of each record, or `default` if there is none."""
    result: np.ndarray = np.where(mask.any(1), mask.argmax(1), default)
    return result


def mean_between(
    leads: Float32[np.ndarray, "record lead time"], start: Rows, stop: Rows
) -> Float32[np.ndarray, "record lead 1"]:
    """Return the mean of each lead from `start` to `stop` (exclusive), at least one sample."""
    mask = between(start, stop, leads.shape[-1])[:, None].astype(np.float32)
    mean: np.ndarray = (leads * mask).sum(-1, keepdims=True) / mask.sum(-1, keepdims=True)
    return mean
