"""Piecewise-linear encoding of features."""

import numpy as np
import pytest
import torch

from enecg import quantile_bins
from enecg.quantile_bins import BINS, QuantileBins, encoded_size


def fit_bins(features: torch.Tensor) -> QuantileBins:
    encoder = QuantileBins(features.shape[1])
    encoder.fit(features)
    return encoder


def test_edges_are_the_quantiles_of_each_feature():
    features = torch.randn(101, 3, generator=torch.Generator().manual_seed(0))
    expected = np.quantile(features.numpy(), np.linspace(0, 1, BINS + 1), axis=0)
    np.testing.assert_allclose(fit_bins(features).edges, expected, rtol=1e-5)


def test_encoding_contains_the_feature_and_its_position_in_each_bin():
    encoder = fit_bins(torch.arange(BINS + 1.0).unsqueeze(1))
    encoded = encoder(torch.tensor([[-5.0], [2.25], [BINS + 9.0]]))
    assert encoded.shape == (3, encoded_size(1))
    positions = [[0.0] * BINS, [1.0, 1.0, 0.25] + [0.0] * (BINS - 3), [1.0] * BINS]
    assert encoded.tolist() == [
        [value, *row] for value, row in zip((-5.0, 2.25, BINS + 9.0), positions, strict=True)
    ]


def test_features_with_few_values_have_finite_encodings_and_gradients():
    features = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 2.0]])
    encoder = fit_bins(features)
    inputs = torch.tensor([[0.0, 1.5], [3.0, float(2**20)]], requires_grad=True)
    encoded = encoder(inputs)
    encoded.sum().backward()
    assert inputs.grad is not None
    assert encoded.isfinite().all()
    assert inputs.grad.isfinite().all()
    # The first feature is constant in the training records.
    assert encoded[:, 2::2].abs().sum() == 0


@pytest.mark.parametrize("records", [10, 11, 25])
def test_quantiles_of_many_records_are_those_of_a_subset(
    monkeypatch: pytest.MonkeyPatch, records: int
):
    monkeypatch.setattr(quantile_bins, "MAX_RECORDS", 10)
    features = torch.arange(float(records)).unsqueeze(1)
    edges = fit_bins(features).edges
    assert edges[0] == 0
    step = -(-records // 10)
    assert edges[-1] == (records - 1) // step * step
