"""Laplace kernels, and feature weights that are derived from labels."""

import math

import pytest
import torch

from enecg import laplace_kernel
from enecg.laplace_kernel import (
    KernelPath,
    can_use_kernel,
    feature_rates,
    laplace_kernels,
    laplace_matrices,
)
from enecg.quantile_bins import QuantileBins


def draw(records: int, features: int) -> torch.Tensor:
    return torch.randn(records, features, generator=torch.Generator().manual_seed(records))


def test_kernel_decreases_exponentially_with_the_weighted_absolute_differences():
    features, landmarks = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.0], [0.0, 5.0]])
    rates = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    expected = [[[1.0, math.exp(-2.0)]], [[1.0, math.exp(-1.0)]]]
    torch.testing.assert_close(laplace_kernels(features, landmarks, rates), torch.tensor(expected))


@pytest.mark.parametrize("size", [1, 50, 10_000])
def test_kernels_do_not_depend_on_the_size_of_chunks_and_blocks(
    monkeypatch: pytest.MonkeyPatch, size: int
):
    features, rates = draw(70, 5), draw(3, 5).abs()
    expected = laplace_kernels(features, features, rates)
    monkeypatch.setattr(laplace_kernel, "CHUNK_VALUES", size)
    monkeypatch.setattr(laplace_kernel, "BLOCK_RECORDS", size)
    torch.testing.assert_close(laplace_kernels(features, features, rates), expected)
    torch.testing.assert_close(laplace_matrices(features, rates), expected)


def fit_rates(features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    encoder = QuantileBins(features.shape[1])
    encoder.fit(features)
    return feature_rates(features, targets, encoder)


def test_feature_that_explains_the_target_has_the_largest_weight():
    features = draw(2000, 3)
    # The target depends only on the absolute value of the second feature.
    shares = fit_rates(features, (features[:, [1]].abs() > 0.7).double())
    assert shares.sum() == pytest.approx(1)
    assert shares[1] > 10 * shares[[0, 2]].max()
    torch.testing.assert_close(shares[0], shares[2], rtol=0.2, atol=0)


def test_uninformative_and_constant_features_have_similar_weights():
    features = draw(100, 400)
    features[:, :10] = 3.0
    rates = fit_rates(features, draw(100, 2).double())
    assert rates[:10].max() <= rates.max() < 6 * rates.min()
    assert rates.min() > 0.3 / 400
    # Without the correction for chance, the ratio would be 2.4.
    assert rates[10:].mean() < 1.5 * rates[0]


@pytest.mark.parametrize("records", [0, 1, 20])
def test_features_have_equal_weights_if_labels_do_not_differ(records: int):
    features = draw(20, 4)
    encoder = QuantileBins(4)
    encoder.fit(features)
    rates = feature_rates(features[:records], torch.ones(records, 1).double(), encoder)
    torch.testing.assert_close(rates, torch.full((4,), 0.25))


def test_kernel_path_returns_weighted_sums_of_kernel_values():
    path = KernelPath(2, 3, {"sex": 2, "age": 1})
    path.landmarks = draw(3, 2)
    for task, rate in (("sex", 0.5), ("age", 2.0)):
        path.rates[task] += rate
        path.weight[task] += draw(3, 3)[: len(path.weight[task])]
    features = draw(4, 2)
    for task, found in path(features).items():
        kernel = laplace_kernels(features, path.landmarks, path.rates[task].unsqueeze(0))[0]
        torch.testing.assert_close(found, kernel @ path.weight[task].T)


def test_kernel_is_used_up_to_a_number_of_records_and_of_differences():
    assert can_use_kernel(2048, 238)
    assert not can_use_kernel(2049, 10)
    assert not can_use_kernel(2048, 239)
