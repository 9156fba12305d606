"""The representation of an ECG (12 leads, 10 s at 500 Hz, in mV) and its resampling."""

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from scipy.signal import resample_poly
from torch import Tensor

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""Order of the leads in every decoded record: that of the standard 12-lead printout."""

SAMPLE_RATE_HZ = 500
SECONDS = 10
SAMPLES = SAMPLE_RATE_HZ * SECONDS

STANDARDIZE_EPSILON = 1e-5
"""Added to the variance, as in the Non-stationary Transformer (arXiv 2205.14415)."""


@lru_cache(maxsize=8)
def _resampling_matrix(time: int, steps: int) -> Float[Tensor, "time steps"]:
    common = math.gcd(time, steps)
    # padtype="edge" repeats the first and last sample beyond the ends, which avoids ringing.
    matrix = resample_poly(np.eye(time), steps // common, time // common, axis=1, padtype="edge")
    # A matrix created in inference mode could not be used in a later call that needs gradients.
    with torch.inference_mode(mode=False):
        return torch.from_numpy(matrix.astype(np.float32))


def resample(ecg: Float[Tensor, "*batch time"], steps: int) -> Float[Tensor, "*batch steps"]:
    """Resample each series to `steps` samples over the same duration, with an anti-alias filter.

    Uses the polyphase filter of `scipy.signal.resample_poly`, written as one matrix so that it
    runs on the tensor's device and is differentiable. Autocast does not apply to it.

    Args:
        ecg: The series, float32.
        steps: Number of samples per series in the result.

    Returns:
        The resampled series; `ecg` itself if it already has `steps` samples.
    """
    if ecg.shape[-1] == steps:
        return ecg
    with torch.autocast(ecg.device.type, enabled=False):
        return ecg @ _resampling_matrix(ecg.shape[-1], steps).to(ecg)


def standardize(
    series: Float[Tensor, "*batch time"],
) -> tuple[Float[Tensor, "*batch time"], Float[Tensor, "*batch 1"], Float[Tensor, "*batch 1"]]:
    """Standardize each series to mean 0 and variance 1 over time.

    Args:
        series: The series, usually in mV.

    Returns:
        The standardized series, and the mean and scale (standard deviation) of each series in the
        input's unit.
    """
    mean = series.mean(-1, keepdim=True)
    variance = series.var(-1, keepdim=True, unbiased=False)
    scale = torch.sqrt(variance + STANDARDIZE_EPSILON)
    return (series - mean) / scale, mean, scale


def moving_average(
    series: Float[Tensor, "*batch time"], width: int
) -> Float[Tensor, "*batch time"]:
    """Average each sample with its neighbors, repeating the first and last sample at the ends.

    Args:
        series: The series.
        width: Number of samples in the average, odd.

    Returns:
        The smoothed series, of the same length.
    """
    half = (width - 1) // 2
    padded = torch.cat(
        [
            series[..., :1].expand(*series.shape[:-1], half),
            series,
            series[..., -1:].expand(*series.shape[:-1], half),
        ],
        dim=-1,
    )
    return padded.unfold(-1, width, 1).mean(-1)
