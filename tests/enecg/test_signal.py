import numpy as np
import pytest
import torch

from enecg.signal import resample, standardize


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


def test_each_series_is_resampled_independently():
    ecg = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 12, 5000))).float()
    torch.testing.assert_close(resample(ecg, 500)[1, 4], resample(ecg[1, 4], 500))


def test_standardize_returns_the_mean_and_scale_that_it_removed():
    series = 0.3 + 2 * sine(5).expand(4, 5000)
    standardized, mean, scale = standardize(series)
    assert standardized.mean(-1).abs().max() < 1e-5
    torch.testing.assert_close(standardized * scale + mean, series, atol=1e-5, rtol=0)
    torch.testing.assert_close(scale, torch.full((4, 1), 2**0.5), atol=1e-4, rtol=0)
