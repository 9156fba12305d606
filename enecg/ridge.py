"""Ridge regression for many penalties at once, with leave-one-group-out predictions."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

MIN_EIGENVALUE = 1e-10
"""Smallest eigenvalue that is kept, relative to the largest."""

ROWS = 8192
"""Records per matrix product. The last bits of sums over records depend on it."""

PAIR_VALUES = 4_000_000
"""Maximum number of products of left singular vector elements in memory at a time."""


class FeatureRows(Protocol):
    """A tensor of features, or an object that computes ranges of its rows."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Numbers of records and features."""

    def __getitem__(self, rows: slice) -> Tensor:
        """Return the features of some records."""


class RowStorage(Protocol):
    """A large tensor, which may be in a file."""

    @property
    def tensor(self) -> Tensor:
        """The tensor."""

    def count(self, part: Tensor) -> None:
        """Register rows that were read or written, so that they can be dropped from memory."""


@dataclass(frozen=True)
class RidgeDesign:
    """A decomposed matrix of features, for ridge regressions in closed form.

    The intercept is not penalized.

    Attributes:
        mean: Mean of each feature, or of the kernel values of each record.
        left: Left singular vectors of the centered features.
        singular: Singular values.
        right: Factors of the matrix that maps coefficients of the singular vectors to those of the
            features, or of the kernel values. With fewer records than features, the last factor is
            the centered features, because the product would take longer than all coefficients.
        group: Group of each record, such as its patient: 0, 1, ...
        storage: Storage of which `left` is a part; None if `left` is a separate tensor, with fewer
            records than features or for a kernel.
    """

    mean: Float[Tensor, " feature"]
    left: Float[Tensor, "record rank"]
    singular: Float[Tensor, " rank"]
    right: tuple[Float[Tensor, "_ _"], ...]
    group: Int[Tensor, " record"]
    storage: RowStorage | None = None

    @classmethod
    def decompose(
        cls,
        features: FeatureRows,
        group: Int[Tensor, " record"],
        storage: RowStorage | None = None,
    ) -> "RidgeDesign":
        """Decompose features through the eigenvalues of the smaller Gram matrix.

        Args:
            features: Features of the records to fit on.
            group: Group of each record; predictions leave out one group.
            storage: A float64 tensor of the shape of the features. It is overwritten, and then
                contains the left singular vectors unless there are fewer records than features.
                None allocates it in memory.

        Returns:
            The decomposition, in float64.
        """
        records, size = features.shape
        blocks = [slice(start, start + ROWS) for start in range(0, records, ROWS)]
        storage = storage or _InMemory(
            torch.empty((records, size), dtype=torch.float64, device=group.device)
        )
        total = torch.zeros(size, dtype=torch.float64, device=group.device)
        for rows in blocks:
            storage.tensor[rows] = features[rows].double()
            total += storage.tensor[rows].sum(0)
            storage.count(storage.tensor[rows])
        mean = total / max(1, records)
        wide = records < size
        gram = torch.zeros((size, size) if not wide else (0, 0)).to(total)
        for rows in blocks:
            part = storage.tensor[rows].sub_(mean)
            if not wide:
                gram += part.T @ part
            storage.count(part)
        if wide:
            gram = storage.tensor @ storage.tensor.T
        squares, vectors = torch.linalg.eigh(gram)
        singular, vectors = _keep_positive(squares, vectors)
        right: tuple[Tensor, ...]
        if wide:
            left, right = vectors, ((vectors / singular).T, storage.tensor)
        else:
            # In place, because this is the largest tensor.
            for rows in blocks:
                part = storage.tensor[rows]
                part[:, : len(singular)] = (part @ vectors) / singular
                storage.count(part)
            left, right = storage.tensor[:, : len(singular)], (vectors.T,)
        _, codes = group.unique(return_inverse=True)
        return cls(mean, left, singular, right, codes, None if wide else storage)

    @classmethod
    def from_kernel(
        cls, kernel: Float[Tensor, "record record"], group: Int[Tensor, " record"]
    ) -> "RidgeDesign":
        """Decompose the kernel matrix of records, for kernel ridge regression.

        `coefficients` then returns those of the kernel values ``k(x, record)`` of a record x.

        Args:
            kernel: Positive semidefinite kernel matrix.
            group: Group of each record.

        Returns:
            The decomposition.
        """
        mean = kernel.mean(0)
        squares, vectors = torch.linalg.eigh(kernel - mean - mean.unsqueeze(1) + mean.mean())
        singular, left = _keep_positive(squares, vectors)
        _, codes = group.unique(return_inverse=True)
        return cls(mean, left, singular, ((left / singular).T,), codes)

    @property
    def scale(self) -> float:
        """Mean of the squared singular values, to which penalties are relative."""
        return float(self.singular.square().mean()) if len(self.singular) else 1.0

    def coefficients(
        self,
        targets: Float[Tensor, "record output"],
        penalties: Float[Tensor, " penalty"],
        weights: Float[Tensor, " penalty"],
    ) -> tuple[Float[Tensor, "output feature"], Float[Tensor, " output"]]:
        """Fit one ridge regression per penalty and return their weighted sum.

        Args:
            targets: Targets of the records.
            penalties: Penalties on the squared coefficients.
            weights: Weight of each regression in the sum.

        Returns:
            Coefficients and intercepts. The intercepts are those for which the mean prediction is
            the mean of the targets, regardless of the sum of the weights.
        """
        center = targets.mean(0)
        squares = self.singular.square() + penalties.unsqueeze(1)
        filtered = self.singular * (weights.unsqueeze(1) / squares).sum(0)
        weight = (self._project(targets - center) * filtered.unsqueeze(1)).T
        for factor in self.right:
            weight = weight @ factor
        return weight, center - weight @ self.mean

    def left_out_means(
        self, targets: Float[Tensor, "record output"]
    ) -> Float[Tensor, "record output"]:
        """Compute the mean of the targets of all other groups.

        Args:
            targets: Targets of the records.

        Returns:
            The mean for each record.
        """
        sizes = self.group.bincount().to(targets).unsqueeze(1)
        sums = targets.new_zeros(len(sizes), targets.shape[1]).index_add(0, self.group, targets)
        rest = (len(targets) - sizes).clamp_min(1)
        return ((targets.sum(0) - sums) / rest)[self.group]

    def predict_left_out(
        self, targets: Float[Tensor, "record output"], penalties: Float[Tensor, " penalty"]
    ) -> Float[Tensor, "penalty record output"]:
        """Predict each record by the regression that is fitted without the record's group.

        With the hat matrix H and residuals r of the fit on all records, the residuals of a group B
        that is left out are (I - H_BB)^-1 r_B.

        Args:
            targets: Targets of the records.
            penalties: Penalties of the regressions.

        Returns:
            The predictions.
        """
        count = len(targets)
        squares = self.singular.square()
        shrink = squares / (squares + penalties.unsqueeze(1))
        center = targets.mean(0)
        projected = self._project(targets - center)
        # One product for all penalties: a batched one would copy the left vectors for each.
        filtered = (shrink.unsqueeze(2) * projected).transpose(0, 1)
        fitted = torch.cat([part @ filtered.flatten(1) for _, part in self._blocks()])
        fitted = fitted.unflatten(1, filtered.shape[1:]).transpose(0, 1)
        residual = targets - fitted - center
        order = self.group.argsort(stable=True)
        sizes = self.group.bincount()
        left_out = torch.empty_like(residual)
        for size in sizes.unique().tolist():
            # All groups of one size are solved in one batch.
            groups = (sizes == size).nonzero()[:, 0]
            starts = (sizes.cumsum(0) - sizes)[groups]
            rows = order[starts.unsqueeze(1) + torch.arange(size, device=order.device)]
            identity = torch.eye(size, dtype=targets.dtype, device=order.device)
            for part in rows.split(max(1, PAIR_VALUES // max(1, size**2 * self.left.shape[1]))):
                basis = self.left[part]
                if self.storage is not None:
                    self.storage.count(basis)
                pairs = (basis.unsqueeze(2) * basis.unsqueeze(1)).flatten(0, 2)
                hat = (pairs @ shrink.T).T.unflatten(1, (-1, size, size)) + 1 / count
                left_out[:, part] = torch.linalg.solve(identity - hat, residual[:, part])
        return targets - left_out

    def _blocks(self) -> Iterator[tuple[slice, Float[Tensor, "record rank"]]]:
        """Yield the left singular vectors of `ROWS` records at a time, with their rows."""
        for start in range(0, max(1, len(self.left)), ROWS):
            rows = slice(start, start + ROWS)
            yield rows, self.left[rows]
            if self.storage is not None:
                self.storage.count(self.left[rows])

    def _project(self, targets: Float[Tensor, "record output"]) -> Float[Tensor, "rank output"]:
        """Multiply the transposed left singular vectors by targets."""
        projected = targets.new_zeros((self.left.shape[1], targets.shape[1]))
        for rows, part in self._blocks():
            # `part.T @ targets` takes eight times as long for a few targets.
            projected += (targets[rows].T.contiguous() @ part).T
        return projected


def _keep_positive(
    eigenvalues: Float[Tensor, " record_or_feature"],
    vectors: Float[Tensor, "record_or_feature record_or_feature"],
) -> tuple[Float[Tensor, " rank"], Float[Tensor, "record_or_feature rank"]]:
    """Return the square roots of eigenvalues above `MIN_EIGENVALUE`, and their eigenvectors."""
    kept = eigenvalues > MIN_EIGENVALUE * eigenvalues[-1].clamp_min(1e-300)
    return eigenvalues[kept].sqrt(), vectors[:, kept]


@dataclass(frozen=True)
class _InMemory:
    """The `RowStorage` of a tensor in memory."""

    tensor: Tensor

    def count(self, part: Tensor) -> None:
        """Do nothing."""
