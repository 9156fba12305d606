"""Averages of ridge regressions on several sets of features."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from enecg.ridge import RidgeDesign
from enecg.tasks import Kind
from pipeline.training import averaged_ridge
from pipeline.training.averaged_ridge import (
    AveragedRidge,
    RidgeFamily,
    average_regressions,
    weight_regressions,
)
from pipeline.training.likelihood import cross_entropy_log_likelihood

RECORDS = 60
PENALTIES = torch.tensor([0.1, 30.0], dtype=torch.float64)
WEIGHTS = torch.tensor([[0.1, 0.2], [0.3, 0.4]], dtype=torch.float64)
"""Weights by family and penalty."""


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build_families(
    features: list[torch.Tensor], targets: torch.Tensor, patients: torch.Tensor
) -> list[RidgeFamily]:
    designs = [RidgeDesign.decompose(part, patients) for part in features]
    families = []
    for design in designs:
        projected = design.project(targets)
        left_out = design.predict_left_out(targets, projected, PENALTIES)
        left_out -= design.left_out_means(targets)
        families.append(RidgeFamily(design, PENALTIES, projected, left_out))
    return families


def average(families: list[RidgeFamily], targets: torch.Tensor, kind: Kind) -> AveragedRidge:
    weights = weight_regressions(families, targets, kind)
    return average_regressions(families, targets, weights, kind)


def average_by_scikit_learn(
    features: list[torch.Tensor], targets: torch.Tensor, weights: torch.Tensor
) -> np.ndarray:
    """Return the weighted sum of the predictions of one regression per family and penalty."""
    return sum(
        float(weight) * Ridge(float(penalty)).fit(part, targets).predict(part)
        for part, by_penalty in zip(features, weights, strict=True)
        for weight, penalty in zip(by_penalty, PENALTIES, strict=True)
    )


def test_average_of_values_is_the_weighted_sum_of_regressions(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(averaged_ridge, "_average", lambda _: WEIGHTS)
    features = [draw(RECORDS, 3), draw(RECORDS, 5, seed=1)]
    targets = features[0][:, :1] + draw(RECORDS, 1, seed=2)
    families = build_families(features, targets, torch.arange(RECORDS))
    averaged = average(families, targets, "regression")
    found = averaged.bias + sum(
        part @ weight.T for part, weight in zip(features, averaged.coefficients, strict=True)
    )
    expected = average_by_scikit_learn(features, targets, WEIGHTS)
    difference = found[:, 0].numpy() - np.ravel(expected)
    # Only the intercept differs, because it is shifted so that the median of the left-out errors
    # is 0.
    np.testing.assert_allclose(difference, difference[0], atol=1e-9)
    assert (targets - averaged.left_out).median() == pytest.approx(0)


def test_average_of_logits_is_the_weighted_sum_of_scaled_regressions(
    monkeypatch: pytest.MonkeyPatch,
):
    scales = torch.tensor(averaged_ridge.SCALES, dtype=torch.float64)
    by_scale = torch.linspace(0.5, 1.5, len(scales), dtype=torch.float64) / len(scales)
    weights = by_scale[:, None, None] * WEIGHTS
    monkeypatch.setattr(averaged_ridge, "_average", lambda _: weights)
    features = [draw(RECORDS, 3), draw(RECORDS, 5, seed=1)]
    present = (features[1][:, 0] > 0.4).double()
    targets = torch.stack([1 - present, present], 1)
    families = build_families(features, targets, torch.arange(RECORDS))
    averaged = average(families, targets, "multiclass")
    found = averaged.bias + sum(
        part @ weight.T for part, weight in zip(features, averaged.coefficients, strict=True)
    )
    shares = targets.mean(0)
    scores = average_by_scikit_learn(features, targets, WEIGHTS) - WEIGHTS.sum().item() * (
        shares.numpy()
    )
    expected = shares.log().numpy() + float(by_scale @ scales) * scores
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("kind", ["regression", "multiclass", "multilabel"])
def test_families_are_weighted_by_their_errors_on_other_patients(kind: Kind):
    informative, useless = draw(RECORDS, 3), draw(RECORDS, 40, seed=1)
    patients = torch.arange(RECORDS) // 2
    values = informative[:, :1] + 0.3 * draw(RECORDS, 1, seed=2)
    present = (values[:, 0] > 0).double()
    targets = {
        "regression": values,
        "multiclass": torch.stack([1 - present, present], 1),
        "multilabel": torch.stack([present, (informative[:, 1] > 1).double()], 1),
    }[kind]
    families = build_families([useless, informative], targets, patients)
    norms = [weight.norm() for weight in average(families, targets, kind).coefficients]
    assert norms[0] < 0.02 * norms[1]


def test_random_weightings_keep_regressions_with_similar_losses():
    losses = torch.rand(2, 400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    losses[1] = losses[1] - losses[1].mean() + losses[0].mean() + 0.01
    bootstrap = averaged_ridge._Bootstrap.of(torch.arange(400), torch.float64)
    plain = cross_entropy_log_likelihood(losses.mean(1), 400).softmax(0)
    averages = bootstrap.average(losses)
    weights = averaged_ridge._average(cross_entropy_log_likelihood(averages, 400))
    assert plain[1] < 0.02 < 0.2 < weights[1] < 0.6
    assert weights.sum() == pytest.approx(1)


def test_ecgs_of_one_patient_have_the_same_random_weight():
    group = torch.tensor([0, 1, 1, 1])
    bootstrap = averaged_ridge._Bootstrap.of(group, torch.float64)
    losses = torch.tensor([[1.0, 0.0, 3.0, 6.0]], dtype=torch.float64)
    first, second = bootstrap.draws.T
    assert bootstrap.patients == 2
    torch.testing.assert_close(
        bootstrap.average(losses)[0], (first + 9 * second) / (first + 3 * second)
    )
