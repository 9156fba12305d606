"""Resampling and standardization of ECGs as tensors."""

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

STANDARDIZE_EPSILON = 1e-5
"""Constant added to the variance, as in the Non-stationary Transformer (arXiv 2205.14415)."""


@lru_cache(maxsize=8)
def _resampling_matrix(time: int, steps: int) -> Float[Tensor, "time steps"]:
    # Imported here because training, which does not resample, should not wait for scipy.signal.
    from scipy.signal import resample_poly

    common = math.gcd(time, steps)
    # padtype="edge" extends the signal by its first and last sample, which avoids ringing.
    matrix = resample_poly(np.eye(time), steps // common, time // common, axis=1, padtype="edge")
    # The cached matrix must not be an inference tensor, because autograd could not use it later.
    with torch.inference_mode(mode=False):
        return torch.from_numpy(matrix.astype(np.float32))


def resample(ecg: Float[Tensor, "*batch time"], steps: int) -> Float[Tensor, "*batch steps"]:
    """Resample each series to `steps` samples over the same duration, with an anti-aliasing filter.

    The polyphase filter of `scipy.signal.resample_poly` is applied as a matrix product, so that it
    runs on the tensor's device and is differentiable. Autocast is disabled.

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
        The standardized series, and each series' mean and scale (standard deviation) in the unit of
        the input.
    """
    mean = series.mean(-1, keepdim=True)
    variance = series.var(-1, keepdim=True, unbiased=False)
    scale = torch.sqrt(variance + STANDARDIZE_EPSILON)
    return (series - mean) / scale, mean, scale


def moving_average(
    series: Float[Tensor, "*batch time"], width: int
) -> Float[Tensor, "*batch time"]:
    """Compute a centered moving average; the ends are padded with the first and last sample.

    Args:
        series: The series.
        width: Number of samples in the window; odd.

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
