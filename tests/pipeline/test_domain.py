"""Distances from the training embeddings."""

import torch

from pipeline.training.domain import fit_domain


def correlated(records: int, seed: int) -> torch.Tensor:
    """Return embeddings of 40 features that vary along 4 directions, plus noise."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn((4, 40), generator=generator) * 3
    generator.manual_seed(seed)
    factors = torch.randn((records, 4), generator=generator)
    return factors @ directions + torch.randn((records, 40), generator=generator)


def test_distance_is_that_of_the_full_covariance():
    """For many records, probabilistic PCA and the sample covariance agree within 10 %."""
    train = correlated(3000, 1)[:2000]
    domain = fit_domain(train, correlated(100, 2), seed=0)
    new = correlated(50, 3)
    centered = new - train.mean(0)
    squares = (centered @ torch.linalg.inv(train.T.cov()) * centered).sum(1) / 40
    torch.testing.assert_close(domain.distance(new), squares.sqrt(), rtol=0.1, atol=0)


def test_limit_is_exceeded_by_about_one_percent_of_new_records():
    domain = fit_domain(correlated(1000, 1), correlated(1000, 2), seed=0)
    share = (domain.relative_distance(correlated(5000, 3)) > 1).float().mean()
    assert 0.003 < share < 0.03


def test_records_that_violate_the_correlations_are_far():
    """Each feature is within its own range, but the features do not vary together."""
    domain = fit_domain(correlated(1000, 1), correlated(1000, 2), seed=0)
    new = correlated(1000, 3)
    shuffled = torch.stack([feature[torch.randperm(1000)] for feature in new.T], dim=1)
    assert domain.relative_distance(shuffled).median() > 1.5


def test_fit_does_not_depend_on_the_global_random_state():
    train, validation = correlated(100, 1), correlated(50, 2)
    torch.manual_seed(1)
    first = fit_domain(train, validation, seed=0)
    torch.manual_seed(2)
    second = fit_domain(train, validation, seed=0)
    assert torch.equal(first.components, second.components)


def test_constant_features_and_few_records_give_finite_distances():
    train = torch.cat([correlated(6, 1), torch.ones(6, 3)], dim=1).half()
    domain = fit_domain(train, train[:2], seed=0)
    assert domain.relative_distance(train).isfinite().all()
