"""Ridge regression for many penalties at once, with leave-one-group-out predictions."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MIN_EIGENVALUE = 1e-10
"""Smallest eigenvalue that is kept, relative to the largest."""

ROWS = 8192
"""Records per matrix product. The last bits of sums over records depend on it."""

COLUMNS = 256
"""Columns per block of a symmetric product."""

PAIR_VALUES = 4_000_000
"""Maximum number of products of elements of left singular vectors in memory at a time, unless one
group needs more."""


class FeatureRows(Protocol):
    """A tensor of features, or an object that computes some of its rows."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Numbers of records and features."""

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        """Return the features of a range of records, or of the records with these indices."""


@dataclass(frozen=True)
class Moments:
    """Sums over records, from which features are decomposed. Sums over other records can be added.

    Attributes:
        count: Number of records.
        total: Sum of each feature, in float64.
        products: Sums of the products of features, in float64.
    """

    count: int
    total: Float[Tensor, " feature"]
    products: Float[Tensor, "feature feature"]

    @classmethod
    def of(cls, features: FeatureRows, device: torch.device) -> "Moments":
        """Sum over records.

        Args:
            features: Features of the records.
            device: Device of the features.

        Returns:
            The sums.
        """
        records, size = features.shape
        total = torch.zeros(size, dtype=torch.float64, device=device)
        products = total.new_zeros((size, size))
        for start in range(0, records, ROWS):
            part = features[start : start + ROWS].double()
            total += part.sum(0)
            for first in range(0, size, COLUMNS):  # only one half of the symmetric product
                columns = slice(first, first + COLUMNS)
                products[first:, columns] += part[:, first:].T @ part[:, columns]
        lower = products.tril()
        return cls(records, total, lower + lower.tril(-1).T)

    def __add__(self, other: "Moments") -> "Moments":
        """Return the sums over the records of both."""
        return Moments(
            self.count + other.count, self.total + other.total, self.products + other.products
        )


@dataclass(frozen=True)
class RidgeDesign:
    """A decomposed matrix of features, for ridge regressions in closed form.

    The intercept is not penalized.

    Attributes:
        mean: Mean of each feature, or of the kernel values of each record.
        singular: Singular values of the centered features.
        right: Factors of the matrix that maps coefficients of the singular vectors to those of the
            features, or of the kernel values. With fewer records than features, the last factor is
            the features of all records: multiplying the factors would be slower than using them.
        group: Number of each record's group, such as its patient, from 0.
        source: Left singular vectors; or the features, from which they are computed when needed.
        projection: Matrix by which centered features are multiplied to obtain the left singular
            vectors; None if `source` is the left singular vectors.
    """

    mean: Float[Tensor, " feature"]
    singular: Float[Tensor, " rank"]
    right: tuple[Float[Tensor, "_ _"], ...]
    group: Int[Tensor, " record"]
    source: FeatureRows
    projection: Float[Tensor, "feature rank"] | None = None

    @classmethod
    def decompose(
        cls, features: FeatureRows, group: Int[Tensor, " record"], moments: Moments | None = None
    ) -> "RidgeDesign":
        """Decompose features through the eigenvalues of the smaller Gram matrix.

        Args:
            features: Features of the records to fit on.
            group: Group of each record, such as its patient; see `predict_left_out`.
            moments: Sums over these records. Default: computed if needed.

        Returns:
            The decomposition, in float64.
        """
        records, size = features.shape
        if records < size:
            values = features[:].double()
            rows = torch.arange(records, device=group.device)
            return cls.from_gram(values @ values.T, values, rows, group)
        moments = moments or Moments.of(features, group.device)
        mean = moments.total / max(1, records)
        squares, vectors = torch.linalg.eigh(moments.products - records * torch.outer(mean, mean))
        singular, vectors = _keep_positive(squares, vectors)
        return cls(mean, singular, (vectors.T,), _encode(group), features, vectors / singular)

    @classmethod
    def from_kernel(
        cls, kernel: Float[Tensor, "record record"], group: Int[Tensor, " record"]
    ) -> "RidgeDesign":
        """Decompose the kernel matrix of records, for kernel ridge regression.

        `coefficients` then returns those of the kernel values ``k(x, record)`` of a record x.

        Args:
            kernel: Positive semidefinite kernel matrix, float64.
            group: Group of each record.

        Returns:
            The decomposition.
        """
        mean = kernel.mean(0)
        squares, vectors = torch.linalg.eigh(kernel - mean - mean.unsqueeze(1) + mean.mean())
        singular, left = _keep_positive(squares, vectors)
        return cls(mean, singular, ((left / singular).T,), _encode(group), left)

    @classmethod
    def from_gram(
        cls,
        gram: Float[Tensor, "all all"],
        features: Float[Tensor, "all feature"],
        rows: Int[Tensor, " record"],
        group: Int[Tensor, " record"],
    ) -> "RidgeDesign":
        """Decompose the features of some records through their Gram matrix.

        This is faster than `decompose` for several selections of fewer records than features.

        Args:
            gram: ``features @ features.T``, float64.
            features: Features of all records, float64.
            rows: Rows of the records to fit on.
            group: Group of each of these records.

        Returns:
            The decomposition.
        """
        design = cls.from_kernel(gram[rows.unsqueeze(1), rows], group)
        (factor,) = design.right
        # Products with all features avoid a copy of those of the records.
        by_row = factor.new_zeros((len(factor), len(gram)))
        by_row[:, rows] = factor
        selected = gram.new_zeros(len(gram))
        selected[rows] = 1 / max(1, len(rows))
        return replace(design, mean=selected @ features, right=(by_row, features))

    @property
    def scale(self) -> float:
        """Mean of the squared singular values, a unit for penalties; 1 without singular values."""
        return float(self.singular.square().mean()) if len(self.singular) else 1.0

    def project(self, targets: Float[Tensor, "record output"]) -> Float[Tensor, "rank output"]:
        """Multiply the transposed left singular vectors by the centered targets.

        Args:
            targets: Targets of the records, float64.

        Returns:
            The products. `coefficients` depends on the targets only through them.
        """
        centered = targets - targets.mean(0)
        # `part.T @ targets` takes eight times as long for a few targets.
        product = targets.new_zeros((targets.shape[1], self.source.shape[1]))
        for start in range(0, len(targets), ROWS):
            rows = slice(start, start + ROWS)
            product += centered[rows].T.contiguous() @ self.source[rows].double()
        # Centering the features would not change the product, because the targets are centered.
        return (product if self.projection is None else product @ self.projection).T

    def coefficients(
        self,
        projected: Float[Tensor, "rank output"],
        penalties: Float[Tensor, " penalty"],
        weights: Float[Tensor, " penalty"],
    ) -> Float[Tensor, "output feature"]:
        """Fit one ridge regression per penalty and return the weighted sum of their coefficients.

        Args:
            projected: Result of `project`.
            penalties: Penalties on the squared coefficients.
            weights: Weight of each regression in the sum.

        Returns:
            The coefficients w. With the intercept ``targets.mean(0) - w @ mean``, the mean
            prediction is the mean of the targets, regardless of the sum of the weights.
        """
        squares = self.singular.square() + penalties.unsqueeze(1)
        filtered = self.singular * (weights.unsqueeze(1) / squares).sum(0)
        weight = (projected * filtered.unsqueeze(1)).T
        for factor in self.right:
            weight = weight @ factor
        return weight

    def left_out_means(
        self, targets: Float[Tensor, "record output"]
    ) -> Float[Tensor, "record output"]:
        """Compute the mean of the targets of all other groups, for each record.

        Args:
            targets: Targets of the records.

        Returns:
            The means; 0 if there is no other group.
        """
        sizes = self.group.bincount().to(targets).unsqueeze(1)
        sums = targets.new_zeros(len(sizes), targets.shape[1]).index_add(0, self.group, targets)
        rest = (len(targets) - sizes).clamp_min(1)
        return ((targets.sum(0) - sums) / rest)[self.group]

    def predict_left_out(
        self,
        targets: Float[Tensor, "record output"],
        projected: Float[Tensor, "rank output"],
        penalties: Float[Tensor, " penalty"],
        selected: Bool[Tensor, " record"] | None = None,
    ) -> Float[Tensor, "penalty selected output"]:
        """Predict each record by the regression that is fitted without the record's group.

        With the hat matrix H and residuals r of the fit on all records, the residuals of a group B
        that is left out are (I - H_BB)^-1 r_B. There must be at least two groups.

        Args:
            targets: Targets of the records, float64.
            projected: Result of `project` for these targets.
            penalties: Penalties of the regressions.
            selected: Mask of the records to predict, with all or no records of each group.
                Default: all records.

        Returns:
            The predictions, in the order of the records.
        """
        squares = self.singular.square()
        shrink = squares / (squares + penalties.unsqueeze(1))
        center = targets.mean(0)
        # One product for all penalties: a batched one would copy the left vectors for each.
        filtered = (shrink.unsqueeze(2) * projected).transpose(0, 1).flatten(1)
        predicted = targets.expand(len(penalties), *targets.shape).clone()
        for rows in self._group_rows(selected):
            # Groups of one size are solved together, as far as memory allows.
            size = rows.shape[1]
            identity = torch.eye(size, dtype=targets.dtype, device=rows.device)
            for part in rows.split(max(1, PAIR_VALUES // max(1, size**2 * len(self.singular)))):
                basis = self._left(part.flatten()).unflatten(0, part.shape)
                fitted = (basis @ filtered).unflatten(2, (len(penalties), -1)).movedim(2, 0)
                pairs = (basis.unsqueeze(2) * basis.unsqueeze(1)).flatten(0, 2)
                hat = (pairs @ shrink.T).T.unflatten(1, (-1, size, size)) + 1 / len(targets)
                residual = targets[part] - fitted - center
                predicted[:, part] -= torch.linalg.solve(identity - hat, residual)
        return predicted if selected is None else predicted[:, selected]

    def _group_rows(
        self, selected: Bool[Tensor, " record"] | None
    ) -> Iterator[Int[Tensor, "group record"]]:
        """Yield one matrix of rows for the selected groups of each size; see `predict_left_out`."""
        order, sizes = self.group.argsort(stable=True), self.group.bincount()
        starts = sizes.cumsum(0) - sizes
        kept = (
            sizes > 0
            if selected is None
            else self.group[selected].bincount(minlength=len(sizes)) > 0
        )
        for size in sizes[kept].unique().tolist():
            groups = (kept & (sizes == size)).nonzero()[:, 0]
            yield order[starts[groups].unsqueeze(1) + torch.arange(size, device=order.device)]

    def _left(self, rows: slice | Int[Tensor, " row"]) -> Float[Tensor, "row rank"]:
        """Return left singular vectors of some records."""
        part = self.source[rows]
        return part if self.projection is None else (part.double() - self.mean) @ self.projection


def _keep_positive(
    eigenvalues: Float[Tensor, " record_or_feature"],
    vectors: Float[Tensor, "record_or_feature record_or_feature"],
) -> tuple[Float[Tensor, " rank"], Float[Tensor, "record_or_feature rank"]]:
    """Return the square roots of eigenvalues above `MIN_EIGENVALUE`, and their eigenvectors."""
    kept = eigenvalues > MIN_EIGENVALUE * eigenvalues[-1].clamp_min(1e-300)
    return eigenvalues[kept].sqrt(), vectors[:, kept]


def _encode(group: Int[Tensor, " record"]) -> Int[Tensor, " record"]:
    """Number the groups from 0."""
    codes: Tensor = group.unique(return_inverse=True)[1]
    return codes
