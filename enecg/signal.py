"""What an ECG is here: twelve leads in one order, 10 s at 500 Hz, in mV; and its resampling."""

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from scipy.signal import resample_poly
from torch import Tensor

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""The order of leads everywhere past the decoder (that of the standard 12-lead printout)."""

SAMPLE_RATE_HZ = 500
SECONDS = 10
SAMPLES = SAMPLE_RATE_HZ * SECONDS

STANDARDIZE_EPSILON = 1e-5
"""Added to the variance, as the Non-stationary Transformer does (arXiv 2205.14415)."""


@lru_cache(maxsize=8)
def _resampling_matrix(time: int, steps: int) -> Float[Tensor, "time steps"]:
    common = math.gcd(time, steps)
    # padtype="edge" holds the first and last sample beyond the ends, so nothing rings there.
    matrix = resample_poly(np.eye(time), steps // common, time // common, axis=1, padtype="edge")
    # Made in inference mode, it could not serve a later call that asks for gradients.
    with torch.inference_mode(mode=False):
        return torch.from_numpy(matrix.astype(np.float32))


def resample(ecg: Float[Tensor, "*batch time"], steps: int) -> Float[Tensor, "*batch steps"]:
    """Bring a signal to `steps` samples over the same time, low-passed first so nothing aliases.

    Polyphase resampling with scipy's windowed-sinc filter, as one matrix so that it runs where
    the tensor lies. Each series is resampled alone.
    """
    if ecg.shape[-1] == steps:
        return ecg
    with torch.autocast(ecg.device.type, enabled=False):  # the signal keeps its precision
        return ecg @ _resampling_matrix(ecg.shape[-1], steps).to(ecg)


def standardize(
    series: Float[Tensor, "*batch time"],
) -> tuple[Float[Tensor, "*batch time"], Float[Tensor, "*batch 1"], Float[Tensor, "*batch 1"]]:
    """Each series brought to mean 0 and variance 1, and the mean and scale taken out (mV)."""
    mean = series.mean(-1, keepdim=True)
    variance = series.var(-1, keepdim=True, unbiased=False)
    scale = torch.sqrt(variance + STANDARDIZE_EPSILON)
    return (series - mean) / scale, mean, scale


def moving_average(
    series: Float[Tensor, "*batch time"], width: int
) -> Float[Tensor, "*batch time"]:
    """Each sample's mean with its neighbours, `width` (odd) of them; the ends are held beyond."""
    half = (width - 1) // 2
    held = torch.cat(
        [
            series[..., :1].expand(*series.shape[:-1], half),
            series,
            series[..., -1:].expand(*series.shape[:-1], half),
        ],
        dim=-1,
    )
    return held.unfold(-1, width, 1).mean(-1)
