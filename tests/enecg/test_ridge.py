"""Closed-form ridge regression, compared with scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from enecg.ridge import Moments, RidgeDesign


def make_data(records: int, features: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(records)
    x = torch.randn(records, features, generator=generator) + 3
    y = torch.stack([x[:, 0] - x[:, 1], torch.randn(records, generator=generator)], dim=1)
    groups = torch.randint(0, records // 2, (records,), generator=generator)
    return x, y.double(), groups


def single(penalty: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the arguments of `coefficients` for one penalty."""
    return torch.tensor([penalty], dtype=torch.float64), torch.ones(1, dtype=torch.float64)


def fit(
    design: RidgeDesign, y: torch.Tensor, penalties: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return coefficients and intercepts."""
    weight = design.coefficients(design.project(y), penalties, weights)
    return weight, y.mean(0) - weight @ design.mean


def leave_out(
    design: RidgeDesign,
    y: torch.Tensor,
    penalties: torch.Tensor,
    selected: torch.Tensor | None = None,
) -> torch.Tensor:
    return design.predict_left_out(y, design.project(y), penalties, selected)


@pytest.mark.parametrize(("records", "features"), [(40, 8), (20, 60), (30, 30)])
@pytest.mark.parametrize("penalty", [1e-3, 1.0, 1e3])
def test_coefficients_equal_those_of_scikit_learn(records: int, features: int, penalty: float):
    x, y, groups = make_data(records, features)
    weight, bias = fit(RidgeDesign.decompose(x, groups), y, *single(penalty))
    expected = Ridge(alpha=penalty).fit(x.double().numpy(), y.numpy())
    np.testing.assert_allclose(x.double() @ weight.T + bias, expected.predict(x.double().numpy()))


@pytest.mark.parametrize(("records", "features"), [(40, 8), (20, 60)])
def test_left_out_predictions_equal_those_of_models_without_the_group(records: int, features: int):
    x, y, groups = make_data(records, features)
    penalties = torch.tensor([0.1, 10.0], dtype=torch.float64)
    found = leave_out(RidgeDesign.decompose(x, groups), y, penalties)
    features64 = x.double().numpy()
    for index, penalty in enumerate(penalties):
        for group in groups.unique():
            out = (groups == group).numpy()
            model = Ridge(alpha=float(penalty)).fit(features64[~out], y.numpy()[~out])
            np.testing.assert_allclose(
                found[index][out], model.predict(features64[out]), rtol=1e-6, atol=1e-8
            )


@pytest.mark.parametrize(("records", "features"), [(50, 8), (20, 60)])
def test_selected_predictions_equal_those_of_all_records(records: int, features: int):
    x, y, groups = make_data(records, features)
    penalties = torch.tensor([0.1, 10.0], dtype=torch.float64)
    design = RidgeDesign.decompose(x, groups)
    selected = groups < 4
    found = leave_out(design, y, penalties, selected)
    torch.testing.assert_close(found, leave_out(design, y, penalties)[:, selected])
    nothing = leave_out(design, y, penalties, torch.zeros_like(selected))
    assert nothing.shape == (2, 0, 2)


@pytest.mark.parametrize("setting", ["ROWS", "COLUMNS", "PAIR_VALUES"])
def test_block_sizes_change_predictions_only_by_rounding_errors(
    setting: str, monkeypatch: pytest.MonkeyPatch
):
    x, y, groups = make_data(50, 8)
    penalties = torch.tensor([0.1, 10.0], dtype=torch.float64)
    expected = leave_out(RidgeDesign.decompose(x, groups), y, penalties)
    monkeypatch.setattr(f"enecg.ridge.{setting}", 3)
    found = leave_out(RidgeDesign.decompose(x, groups), y, penalties)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_moments_of_parts_add_up():
    x, y, groups = make_data(50, 8)
    moments = Moments.of(x[:30], x.device) + Moments.of(x[30:], x.device)
    found = fit(RidgeDesign.decompose(x, groups, moments), y, *single(0.1))
    expected = fit(RidgeDesign.decompose(x, groups), y, *single(0.1))
    torch.testing.assert_close(found, expected)


def test_gram_matrix_of_all_records_supports_any_selection():
    x, y, groups = make_data(20, 60)
    rows = torch.tensor([7, 3, 12, 0, 19])
    all_features = x.double()
    design = RidgeDesign.from_gram(all_features @ all_features.T, all_features, rows, groups[rows])
    expected = RidgeDesign.decompose(x[rows], groups[rows])
    for one, other in zip(
        fit(design, y[rows], *single(0.1)),
        fit(expected, y[rows], *single(0.1)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_constant_features_predict_the_mean():
    y = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    design = RidgeDesign.decompose(torch.ones(2, 3), torch.arange(2))
    weight, bias = fit(design, y, *single(1))
    assert weight.abs().max() == 0
    assert bias.item() == 2


def test_coefficients_are_the_weighted_sum_of_those_of_each_penalty():
    x, y, groups = make_data(40, 8)
    design = RidgeDesign.decompose(x, groups)
    penalties, weights = torch.tensor([0.1, 10.0]).double(), torch.tensor([0.7, 2.0]).double()
    weight, bias = fit(design, y, penalties, weights)
    expected = sum(
        share * fit(design, y, *single(float(penalty)))[0]
        for penalty, share in zip(penalties, weights, strict=True)
    )
    torch.testing.assert_close(weight, expected)
    torch.testing.assert_close((x.double() @ weight.T + bias).mean(0), y.mean(0))


def test_left_out_means_omit_the_group():
    y = torch.tensor([[1.0], [2.0], [6.0]], dtype=torch.float64)
    design = RidgeDesign.decompose(torch.randn(3, 2), torch.tensor([5, 5, 7]))
    assert design.left_out_means(y).flatten().tolist() == [6.0, 6.0, 1.5]


@pytest.mark.parametrize("penalty", [1e-3, 1.0, 1e3])
def test_kernel_ridge_regression_with_a_linear_kernel_equals_ridge_regression(
    penalty: float,
):
    x, y, groups = make_data(30, 60)
    kernel = x.double() @ x.double().T
    design = RidgeDesign.from_kernel(kernel, groups)
    weight, bias = fit(design, y, *single(penalty))
    expected = RidgeDesign.decompose(x, groups)
    coefficients, intercept = fit(expected, y, *single(penalty))
    torch.testing.assert_close(
        kernel @ weight.T + bias, x.double() @ coefficients.T + intercept, rtol=1e-6, atol=1e-6
    )
    penalties = torch.tensor([penalty], dtype=torch.float64)
    torch.testing.assert_close(leave_out(design, y, penalties), leave_out(expected, y, penalties))
