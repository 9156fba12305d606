"""Closed-form ridge regression against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from enecg.ridge import RidgeDesign


def make_data(records: int, features: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(records)
    x = torch.randn(records, features, generator=generator) + 3
    y = torch.stack([x[:, 0] - x[:, 1], torch.randn(records, generator=generator)], dim=1)
    groups = torch.randint(0, records // 2, (records,), generator=generator)
    return x, y.double(), groups


@pytest.mark.parametrize(("records", "features"), [(40, 8), (20, 60), (30, 30)])
@pytest.mark.parametrize("penalty", [1e-3, 1.0, 1e3])
def test_coefficients_equal_those_of_scikit_learn(records: int, features: int, penalty: float):
    x, y, groups = make_data(records, features)
    weight, bias = RidgeDesign.decompose(x, groups).coefficients(y, penalty)
    expected = Ridge(alpha=penalty).fit(x.double().numpy(), y.numpy())
    np.testing.assert_allclose(x.double() @ weight.T + bias, expected.predict(x.double().numpy()))


@pytest.mark.parametrize(("records", "features"), [(40, 8), (20, 60)])
def test_predictions_leave_out_the_group(records: int, features: int):
    x, y, groups = make_data(records, features)
    penalties = torch.tensor([0.1, 10.0], dtype=torch.float64)
    found = RidgeDesign.decompose(x, groups).predict_left_out(y, penalties)
    features64 = x.double().numpy()
    for index, penalty in enumerate(penalties):
        for group in groups.unique():
            out = (groups == group).numpy()
            model = Ridge(alpha=float(penalty)).fit(features64[~out], y.numpy()[~out])
            np.testing.assert_allclose(
                found[index][out], model.predict(features64[out]), rtol=1e-6, atol=1e-8
            )


def test_constant_features_predict_the_mean():
    y = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    weight, bias = RidgeDesign.decompose(torch.ones(2, 3), torch.arange(2)).coefficients(y, 1.0)
    assert weight.abs().max() == 0
    assert bias.item() == 2
