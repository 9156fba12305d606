import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.signal
import torch
from scipy.signal import resample_poly

from enecg.signal import fourier_resample, mean_and_scale, resample, standardize


def sine(hertz: float, steps: int = 5000) -> torch.Tensor:
    return torch.sin(2 * torch.pi * hertz * torch.arange(steps) * 10 / steps)


@pytest.mark.parametrize("steps", [336, 500, 512])
def test_frequency_below_nyquist_is_preserved(steps: int):
    inner = slice(steps // 10, -steps // 10)
    torch.testing.assert_close(
        resample(sine(5), steps)[inner], sine(5, steps)[inner], atol=5e-3, rtol=0
    )


@pytest.mark.parametrize("steps", [336, 500, 512])
def test_frequency_above_nyquist_is_removed_instead_of_aliased(steps: int):
    # 60 Hz (power-line interference) is above the Nyquist frequency of the result.
    assert resample(sine(60), steps)[10:-10].abs().max() < 0.05


def test_constant_series_stays_constant_up_to_the_edges():
    torch.testing.assert_close(resample(torch.full((2, 5000), 3.0), 500), torch.full((2, 500), 3.0))


@pytest.mark.parametrize(
    ("time", "steps"), [(5000, 336), (5000, 500), (5000, 512), (1250, 512), (100, 30), (7, 5)]
)
def test_resampling_equals_the_polyphase_filter_of_scipy(time: int, steps: int):
    series = np.random.default_rng(0).normal(size=(3, time)).cumsum(1)
    common = math.gcd(time, steps)
    expected = resample_poly(series, steps // common, time // common, axis=1, padtype="edge")
    found = resample(torch.from_numpy(series).float(), steps)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(series).max())


def test_resampling_is_differentiable():
    series = torch.randn(2, 5000, dtype=torch.float32, requires_grad=True)
    resample(series, 500).sum().backward()
    assert series.grad is not None
    # Away from the ends, every input sample has the same weight, up to the filter's ripple.
    torch.testing.assert_close(
        series.grad[:, 500:-500].mean(), torch.tensor(0.1), atol=1e-3, rtol=0
    )


def test_each_series_is_resampled_independently():
    ecg = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 12, 5000))).float()
    torch.testing.assert_close(resample(ecg, 500)[1, 4], resample(ecg[1, 4], 500))


def test_mean_and_scale_are_those_that_standardize_removes():
    series = 0.3 + 2 * sine(5).expand(4, 5000)
    standardized = standardize(series)
    mean, scale = mean_and_scale(series)
    assert standardized.mean(-1).abs().max() < 1e-5
    torch.testing.assert_close(standardized * scale + mean, series, atol=1e-5, rtol=0)
    torch.testing.assert_close(scale, torch.full((4, 1), 2**0.5), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("time", "steps"), [(5000, 2500), (5000, 1000), (501, 100), (7, 4)])
def test_fourier_resampling_equals_that_of_scipy(time: int, steps: int):
    series = np.random.default_rng(0).normal(size=(3, time))
    expected = scipy.signal.resample(series, steps, axis=1)
    found = fourier_resample(torch.from_numpy(series).float(), steps)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(series).max())
    assert fourier_resample(found, steps) is found


@pytest.mark.parametrize("function", [resample, fourier_resample])
def test_resampling_is_not_affected_by_autocast(
    function: Callable[[torch.Tensor, int], torch.Tensor],
):
    series = torch.randn(2, 5000, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = function(series, 2500)
    assert found.dtype == torch.float32
    assert torch.equal(found, function(series, 2500))
