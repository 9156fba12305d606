import numpy as np
import pytest
import torch

from enecg.signal import resample, standardize


def tone(hertz: float, steps: int = 5000) -> torch.Tensor:
    return torch.sin(2 * torch.pi * hertz * torch.arange(steps) * 10 / steps)


@pytest.mark.parametrize("steps", [336, 500, 512])
def test_a_slow_tone_keeps_its_shape(steps: int):
    inner = slice(steps // 10, -steps // 10)
    torch.testing.assert_close(
        resample(tone(5), steps)[inner], tone(5, steps)[inner], atol=5e-3, rtol=0
    )


@pytest.mark.parametrize("steps", [336, 500, 512])
def test_a_fast_tone_is_taken_out_and_not_folded_into_a_slow_one(steps: int):
    # 60 Hz mains lies above the new Nyquist rate: without the low-pass it would come out whole.
    assert resample(tone(60), steps)[10:-10].abs().max() < 0.05


def test_a_constant_stays_constant_up_to_the_edges():
    torch.testing.assert_close(resample(torch.full((2, 5000), 3.0), 500), torch.full((2, 500), 3.0))


def test_each_series_is_resampled_alone():
    ecg = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 12, 5000))).float()
    torch.testing.assert_close(resample(ecg, 500)[1, 4], resample(ecg[1, 4], 500))


def test_standardising_takes_mean_and_scale_out_and_keeps_them():
    series = 0.3 + 2 * tone(5).expand(4, 5000)
    standard, mean, scale = standardize(series)
    assert standard.mean(-1).abs().max() < 1e-5
    torch.testing.assert_close(standard * scale + mean, series, atol=1e-5, rtol=0)
    torch.testing.assert_close(scale, torch.full((4, 1), 2**0.5), atol=1e-4, rtol=0)
