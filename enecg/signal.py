"""Resampling and standardization of ECGs as tensors."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

STANDARDIZE_EPSILON = 1e-5
"""Constant added to the variance, as in the Non-stationary Transformer (arXiv 2205.14415)."""

BLOCK_STEPS = 10
"""Minimum number of output samples per block of `resample`."""


@dataclass(frozen=True)
class _Resampler:
    """A resampling filter as matrix products of overlapping blocks.

    Attributes:
        matrix: Input samples by output samples of one block.
        before: Input samples of the first block that precede the signal.
        stride: Input samples between the starts of consecutive blocks.
        blocks: Number of blocks.
    """

    matrix: Float[Tensor, "window step"]
    before: int
    stride: int
    blocks: int


@lru_cache(maxsize=8)
def _resampler(time: int, steps: int) -> _Resampler:
    # Imported here because training, which does not resample, should not wait for scipy.signal.
    from scipy.signal import resample_poly

    common = math.gcd(time, steps)
    up, down = steps // common, time // common
    periods = -(-BLOCK_STEPS // up)
    middle = common // periods // 2
    before, stride, blocks = 0, periods * down, -(-common // periods)
    # The filter extends 10 samples of the lower rate to each side. Its weights repeat every `down`
    # samples.
    reach = -(-10 * max(up, down) // up)
    first, last = middle * stride - reach, (middle + 1) * stride + reach
    # In a short signal, the ends affect every block.
    is_short = first <= 0 or last >= time
    if is_short:
        first, last, stride, blocks = 0, time, time, 1
    # padtype="edge" extends the signal by its first and last sample, which avoids ringing.
    impulses = np.eye(last - first, time, first)
    matrix = resample_poly(impulses, up, down, axis=1, padtype="edge").astype(np.float32)
    if not is_short:
        matrix = matrix[:, middle * periods * up : (middle + 1) * periods * up]
        used = np.flatnonzero(matrix.any(1))
        before = reach - int(used[0])
        matrix = np.ascontiguousarray(matrix[used[0] : used[-1] + 1])
    # The cached matrix must not be an inference tensor: autograd could not use it later.
    with torch.inference_mode(mode=False):
        return _Resampler(torch.from_numpy(matrix), before, stride, blocks)


def resample(ecg: Float[Tensor, "*batch time"], steps: int) -> Float[Tensor, "*batch steps"]:
    """Resample each series to `steps` samples over the same duration, with an anti-aliasing filter.

    The result is that of `scipy.signal.resample_poly` with ``padtype="edge"``, computed by matrix
    products on the tensor's device, with gradients. Autocast is disabled.

    Args:
        ecg: The series, float32.
        steps: Number of samples per series in the result.

    Returns:
        The resampled series; `ecg` itself if it already has `steps` samples.
    """
    time = ecg.shape[-1]
    if time == steps:
        return ecg
    found = _resampler(time, steps)
    window = len(found.matrix)
    after = (found.blocks - 1) * found.stride + window - found.before - time
    ends = [
        ecg[..., :1].expand(*ecg.shape[:-1], found.before),
        ecg[..., -1:].expand(*ecg.shape[:-1], max(0, after)),
    ]
    with torch.autocast(ecg.device.type, enabled=False):
        blocks = torch.cat([ends[0], ecg, ends[1]], dim=-1).unfold(-1, window, found.stride)
        return (blocks @ found.matrix.to(ecg)).flatten(-2)[..., :steps]


def fourier_resample(
    series: Float[Tensor, "*batch time"], steps: int
) -> Float[Tensor, "*batch steps"]:
    """Resample each series to fewer samples by truncating its Fourier transform.

    The result is that of `scipy.signal.resample`, which treats a series as periodic. Autocast
    does not change the precision of Fourier transforms.

    Args:
        series: The series, float32.
        steps: Number of samples per series in the result; even, and at most that of the input.

    Returns:
        The resampled series; `series` itself if it already has `steps` samples.
    """
    time = series.shape[-1]
    if time == steps:
        return series
    spectrum = torch.fft.rfft(series, dim=-1)[..., : steps // 2 + 1]
    # The coefficient at the highest frequency of the result is the sum of those of the positive
    # and the negative frequency.
    gain = torch.full((steps // 2 + 1,), steps / time, device=series.device)
    gain[-1] *= 2
    resampled: Tensor = torch.fft.irfft(spectrum * gain, steps, dim=-1)
    return resampled


def mean_and_scale(
    series: Float[Tensor, "*batch time"],
) -> tuple[Float[Tensor, "*batch 1"], Float[Tensor, "*batch 1"]]:
    """Return each series' mean and scale.

    Args:
        series: The series.

    Returns:
        The mean, and the square root of the sum of population variance and `STANDARDIZE_EPSILON`.
    """
    mean = series.mean(-1, keepdim=True)
    # Several times as fast as `torch.var`.
    variance = (series - mean).square_().mean(-1, keepdim=True)
    return mean, torch.sqrt(variance + STANDARDIZE_EPSILON)


def standardize(series: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch time"]:
    """Subtract the mean of each series and divide by its scale; see `mean_and_scale`."""
    mean, scale = mean_and_scale(series)
    return (series - mean) / scale


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
