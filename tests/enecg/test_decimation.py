"""Decimation: resampling by an integer factor."""

import numpy as np
import pytest
import torch
from scipy.signal import resample_poly

from enecg import decimation
from enecg.decimation import decimate
from enecg.signal import resample


def random_walks(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape).cumsum(-1)).float()


@pytest.mark.parametrize(
    ("time", "steps"), [(5000, 500), (1200, 400), (60, 30), (40, 10), (20, 20)]
)
def test_decimation_equals_the_polyphase_filter_of_scipy(time: int, steps: int):
    series = random_walks(3, time)
    expected = resample_poly(series.double(), 1, time // steps, axis=1, padtype="edge")
    found = decimate(series, steps)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * series.abs().max())


def test_decimation_equals_resampling_within_rounding_errors():
    series = random_walks(4, 12, 5000)
    scale = float(series.abs().max())
    torch.testing.assert_close(
        decimate(series, 500), resample(series, 500), rtol=0, atol=1e-6 * scale
    )


def test_constant_series_stays_constant_up_to_the_edges():
    torch.testing.assert_close(decimate(torch.full((2, 5000), 3.0), 500), torch.full((2, 500), 3.0))


def test_each_series_is_decimated_independently():
    ecg = random_walks(3, 12, 5000)
    ecg[1, 5] = torch.nan
    found = decimate(ecg, 500)
    assert found[1, 5].isnan().all()
    found[1, 5] = 0
    assert found.isfinite().all()
    torch.testing.assert_close(found[1, 4], decimate(ecg[1, 4], 500))


def test_decimation_is_differentiable():
    series = torch.randn(2, 5000, requires_grad=True)
    # Weights that are cached in inference mode must also support gradients.
    decimation._weights.cache_clear()
    with torch.inference_mode():
        decimate(torch.zeros(1, 5000), 500)
    decimate(series, 500).sum().backward()
    assert series.grad is not None
    # Away from the ends, every input sample has the same weight, up to the filter's ripple.
    torch.testing.assert_close(
        series.grad[:, 500:-500].mean(), torch.tensor(0.1), atol=1e-3, rtol=0
    )


def test_decimation_is_not_affected_by_autocast():
    series = random_walks(2, 5000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = decimate(series, 500)
    assert torch.equal(found, decimate(series, 500))


@pytest.mark.parametrize("steps", [499, 5, 336])
def test_unsupported_number_of_steps_is_an_error(steps: int):
    with pytest.raises(ValueError, match="cannot be decimated"):
        decimate(torch.zeros(2, 5000), steps)
