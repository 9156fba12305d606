import numpy as np
import pytest
import torch
from scipy.signal import medfilt

from enecg.running_median import running_median

SERIES = {
    "noise": np.random.default_rng(0).normal(size=(2, 3, 500)),
    "ties": np.random.default_rng(0).integers(-2, 3, (2, 3, 500)).astype(float),
    "constant": np.full((1, 1, 500), 0.5),
}


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("width", [1, 3, 201])
@pytest.mark.parametrize("name", SERIES)
def test_medians_equal_those_of_scipy(name: str, width: int, requires_grad: bool):
    series = torch.from_numpy(SERIES[name]).float().requires_grad_(requires_grad)
    found = running_median(series, width)
    assert found.requires_grad == requires_grad
    for medians, values in zip(
        found.detach().flatten(0, 1).numpy(), series.detach().flatten(0, 1).numpy(), strict=True
    ):
        np.testing.assert_array_equal(medians, medfilt(values, width))


def test_gradient_flows_to_the_sample_that_is_the_median():
    series = torch.tensor([5.0, 1.0, 4.0, 2.0, 3.0], requires_grad=True)
    running_median(series[None], 3)[0, 2].backward()
    assert series.grad is not None
    assert series.grad.tolist() == [0, 0, 0, 1, 0]


def test_nan_affects_only_its_series():
    series = torch.from_numpy(SERIES["noise"]).float()
    with_gap = series.clone()
    with_gap[0, 1, 100:120] = torch.nan
    for requires_grad in (False, True):
        found = running_median(with_gap.clone().requires_grad_(requires_grad), 51).detach()
        assert torch.equal(found[1], running_median(series, 51)[1])
        assert torch.equal(found[0, [0, 2]], running_median(series, 51)[0, [0, 2]])
