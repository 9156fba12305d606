"""Normal distribution of the training embeddings of an expert, to detect ECGs far outside of it.

The distribution is that of probabilistic PCA (Tipping and Bishop 1999): the principal components of
the standardized embeddings, and equal variance in all other directions. The distance of a record is
its Mahalanobis distance, divided by the square root of the number of features. It is compared with
those of the validation records, on which neither the components nor the variances are fitted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from enecg.heads import Standardize
from pipeline.training.cohorts import Cohort
from pipeline.training.features import Features

MAX_COMPONENTS = 32
"""Maximum number of principal components."""

MAX_RECORDS = 2000
"""Maximum number of training records of the fit. If there are more, a random sample is used."""

LIMIT_QUANTILE = 0.99
"""Quantile of the validation records' distances that is the unit of relative distances."""

_OVERSAMPLING = 8
_ITERATIONS = 3
_MIN_VARIANCE = 1e-6


@dataclass(frozen=True)
class EmbeddingDomain:
    """The distribution of an expert's embeddings of the training records of a repeat.

    Attributes:
        mean: Mean of each feature.
        scale: Standard deviation of each feature; 1 for a constant one.
        components: Principal components of the standardized features.
        variance: Variance along each component.
        noise: Variance along each other direction.
        limit: `LIMIT_QUANTILE` of the distances of the validation records.
    """

    mean: Float[Tensor, " feature"]
    scale: Float[Tensor, " feature"]
    components: Float[Tensor, "component feature"]
    variance: Float[Tensor, " component"]
    noise: Float[Tensor, ""]
    limit: Float[Tensor, ""]

    def distance(self, embedding: Float[Tensor, "record feature"]) -> Float[Tensor, " record"]:
        """Compute the distance of each record from the mean; about 1 for training records."""
        centered = (embedding.float() - self.mean) / self.scale
        projected = centered @ self.components.T
        inside = (projected.square() / self.variance).sum(1)
        rest = (centered.square().sum(1) - projected.square().sum(1)).clamp_min(0)
        return ((inside + rest / self.noise) / len(self.mean)).sqrt()

    def relative_distance(
        self, embedding: Float[Tensor, "record feature"]
    ) -> Float[Tensor, " record"]:
        """Compute the distance of each record divided by `limit`."""
        return self.distance(embedding) / self.limit

    def to(self, device: str) -> "EmbeddingDomain":
        """Return a copy on a device."""
        return EmbeddingDomain(*(getattr(self, field.name).to(device) for field in fields(self)))


def fit_domain(
    train: Float[Tensor, "record feature"], validation: Float[Tensor, "record feature"], seed: int
) -> EmbeddingDomain:
    """Fit the distribution of training embeddings.

    Args:
        train: Embeddings of the training records.
        validation: Embeddings of the validation records.
        seed: Seed of the draw of records, and of the randomized decomposition.

    Returns:
        The distribution.
    """
    generator = torch.Generator().manual_seed(seed)
    if len(train) > MAX_RECORDS:
        drawn = torch.randperm(len(train), generator=generator)[:MAX_RECORDS]
        train = train[drawn.to(train.device)]
    standardize = Standardize(train.shape[1]).to(train.device)
    standardize.fit(train)
    centered = standardize(train)
    records, size = centered.shape
    count = max(1, min(MAX_COMPONENTS, records // 4, size // 2))
    components, variance = _principal_components(centered, count, generator)
    total = centered.square().sum() / records
    noise = (total - variance.sum()).clamp_min(0) / max(1, size - count)
    domain = EmbeddingDomain(
        standardize.mean,
        standardize.scale,
        components,
        variance.clamp_min(_MIN_VARIANCE),
        noise.clamp_min(_MIN_VARIANCE),
        torch.ones((), device=train.device),
    )
    distance = domain.distance(validation)
    limit = torch.quantile(distance.double(), LIMIT_QUANTILE).float().clamp_min(_MIN_VARIANCE)
    return replace(domain, limit=limit)


def _principal_components(
    centered: Float[Tensor, "record feature"], count: int, generator: torch.Generator
) -> tuple[Float[Tensor, "component feature"], Float[Tensor, " component"]]:
    """Compute principal components and their variances (Halko, Martinsson and Tropp 2011)."""
    records, size = centered.shape
    width = min(count + _OVERSAMPLING, records, size)
    # torch.pca_lowrank draws from the global random state, which other threads share.
    basis = torch.randn((size, width), generator=generator).to(centered)
    for _ in range(_ITERATIONS):
        basis = torch.linalg.qr(centered.T @ (centered @ basis)).Q
    _, singular, right = torch.linalg.svd(centered @ basis, full_matrices=False)
    return (right @ basis.T)[:count], singular[:count].square() / records


def fit_domains(features: Features, cohorts: Sequence[Cohort]) -> list[dict[str, EmbeddingDomain]]:
    """Fit the distribution of every expert's embeddings in every repeat.

    Args:
        features: Embeddings of the records of all cohorts.
        cohorts: The cohort of each repeat.

    Returns:
        Distributions by expert, one mapping per repeat.
    """
    domains: list[dict[str, EmbeddingDomain]] = [{} for _ in cohorts]
    for name in features.experts:
        # Access the embeddings once per expert, because each access reads them from the store.
        embedding = features.experts[name]
        for cohort, by_expert in zip(cohorts, domains, strict=True):
            train, validation = map(features.find_rows, (cohort.train, cohort.validation))
            by_expert[name] = fit_domain(embedding[train], embedding[validation], cohort.seed)
    return domains
