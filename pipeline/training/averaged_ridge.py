"""Weighted averages of ridge regressions in closed form.

The averaged regressions differ in their features and penalties and, for classes and labels, in the
scale of their logits. Their weights are those of pseudo-Bayesian model averaging with a Bayesian
bootstrap (Yao et al., "Using Stacking to Average Bayesian Predictive Distributions", Bayesian
Analysis 13, 2018; there called pseudo-BMA+): for each random weighting of the patients, weights are
proportional to the likelihood of the labels of left-out patients. Their mean over the weightings is
used. The average is used instead of the best regression, because selecting one fits noise if the
features contain little information. The average is close to the constant predictor in this case.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from enecg.ridge import RidgeDesign
from pipeline.training.likelihood import (
    cross_entropy_log_likelihood,
    laplace_log_likelihood,
)

PENALTIES = tuple(10.0 ** (exponent / 2) for exponent in range(-8, 9))
"""Penalties, as multiples of `RidgeDesign.scale`."""

SCALES = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Factors by which the outputs of a regression on indicators are multiplied to obtain logits. With
factor 0, the predicted probabilities are the class frequencies."""

BOOTSTRAP_DRAWS = 100
"""Number of random weightings of the patients."""


@dataclass(frozen=True)
class RidgeFamily:
    """Ridge regressions on the same features with different penalties.

    Attributes:
        design: The decomposed features of the labeled records.
        penalties: Penalties of the regressions.
        left_out: Predictions for each record by regressions that are fitted on the records of all
            other patients.
    """

    design: RidgeDesign
    penalties: Float[Tensor, " penalty"]
    left_out: Float[Tensor, "penalty record output"]

    @classmethod
    def fit(cls, design: RidgeDesign, targets: Float[Tensor, "record output"]) -> "RidgeFamily":
        """Fit regressions with all `PENALTIES`.

        Args:
            design: The decomposed features of the labeled records.
            targets: Targets of the regressions.

        Returns:
            The regressions.
        """
        penalties = design.scale * torch.tensor(PENALTIES).to(targets)
        return cls(design, penalties, design.predict_left_out(targets, penalties))

    def centered_left_out(
        self, targets: Float[Tensor, "record output"]
    ) -> Float[Tensor, "penalty record output"]:
        """Return left-out predictions minus the mean target of all other patients.

        That mean is the intercept of the regression without the patient. It is lower if the
        patient's own labels are high, an error in the wrong direction that a large scale of logits
        would amplify.

        Args:
            targets: Targets of the regressions.

        Returns:
            The differences.
        """
        return self.left_out - self.design.left_out_means(targets)


@dataclass(frozen=True)
class AveragedRidge:
    """An average of ridge regressions: the sum of one linear function per family.

    Attributes:
        coefficients: Coefficients of the features of each family.
        bias: Intercepts.
        left_out: Prediction for each labeled record by regressions that are fitted on the records
            of all other patients.
    """

    coefficients: tuple[Float[Tensor, "output feature"], ...]
    bias: Float[Tensor, " output"]
    left_out: Float[Tensor, "record output"]


def average_values(
    families: Sequence[RidgeFamily], targets: Float[Tensor, "record 1"]
) -> AveragedRidge:
    """Average the regressions of a regression task.

    Args:
        families: Regressions on the labeled records.
        targets: Encoded labels.

    Returns:
        The average.
    """
    mean = targets.mean(0)
    left_out = torch.stack([family.centered_left_out(targets) + mean for family in families])
    bootstrap = _Bootstrap.of(families[0].design.group, targets.dtype)
    errors = bootstrap.average((left_out - targets).abs()[..., 0])
    weights = _average(laplace_log_likelihood(errors, bootstrap.patients))
    coefficients, bias = _combine(families, targets, weights, mean)
    averaged = torch.einsum("fp,fpro->ro", weights, left_out)
    # The regressions minimize the squared error, so they predict means. The metric is the mean
    # absolute error, which is lowest at the median.
    shift = (targets - averaged).median()
    return AveragedRidge(coefficients, bias + shift, averaged + shift)


def average_logits(
    families: Sequence[RidgeFamily], targets: Float[Tensor, "record output"], *, multilabel: bool
) -> AveragedRidge:
    """Average the regressions of a classification task, for all penalties and `SCALES`.

    Args:
        families: Regressions on the labeled records.
        targets: Indicators of classes; if `multilabel`, of labels.
        multilabel: Whether outputs are labels with separate probabilities, instead of classes
            whose probabilities sum to 1.

    Returns:
        The average. Its outputs are logits.
    """
    min_share = 0.5 / len(targets)  # logarithms of 0 are infinite
    shares = targets.mean(0).clamp(min_share, 1 - min_share)
    offset = shares.logit() if multilabel else shares.log()
    scales = torch.tensor(SCALES).to(targets)
    scores = torch.stack([family.centered_left_out(targets) for family in families])
    bootstrap = _Bootstrap.of(families[0].design.group, targets.dtype)
    losses = torch.stack(
        [
            bootstrap.average(_compute_losses(offset + scale * scores, targets, multilabel))
            for scale in scales
        ]
    )
    weights = _average(cross_entropy_log_likelihood(losses, bootstrap.patients))
    # Logits are linear in the scores, so averaging over scales reduces to one weight per penalty.
    by_family = torch.einsum("s,sfp->fp", scales, weights)
    coefficients, bias = _combine(families, targets, by_family, offset)
    averaged = offset + torch.einsum("fp,fpro->ro", by_family, scores)
    return AveragedRidge(coefficients, bias, averaged)


def _combine(
    families: Sequence[RidgeFamily],
    targets: Float[Tensor, "record output"],
    weights: Float[Tensor, "family penalty"],
    offset: Float[Tensor, " output"],
) -> tuple[tuple[Float[Tensor, "output feature"], ...], Float[Tensor, " output"]]:
    """Return the coefficients of each family, and the intercept with mean prediction `offset`."""
    coefficients = []
    bias = offset
    for family, by_penalty in zip(families, weights, strict=True):
        weight, _ = family.design.coefficients(targets, family.penalties, by_penalty)
        coefficients.append(weight)
        bias = bias - weight @ family.design.mean
    return tuple(coefficients), bias


@dataclass(frozen=True)
class _Bootstrap:
    """Random weightings of patients.

    Attributes:
        group: Patient of each record: 0, 1, ...
        draws: Weight of each patient, not normalized.
    """

    group: Int[Tensor, " record"]
    draws: Float[Tensor, "draw patient"]

    @classmethod
    def of(cls, group: Int[Tensor, " record"], dtype: torch.dtype) -> "_Bootstrap":
        """Draw the weights from an exponential distribution, always with the same seed.

        Args:
            group: Patient of each record.
            dtype: Floating-point type of the weights.

        Returns:
            The weights.
        """
        # The generator is on the CPU, so that the draws do not depend on the device.
        uniform = torch.rand(
            (BOOTSTRAP_DRAWS, int(group.max()) + 1),
            generator=torch.Generator().manual_seed(0),
            dtype=dtype,
        )
        return cls(group, -uniform.clamp_min(torch.finfo(dtype).tiny).log().to(group.device))

    @property
    def patients(self) -> int:
        """Number of patients."""
        return self.draws.shape[1]

    def average(self, losses: Float[Tensor, "*batch record"]) -> Float[Tensor, "*batch draw"]:
        """Compute the mean loss of the records for each weighting of the patients."""
        records = self.group.bincount().to(losses)
        sums = losses.new_zeros((*losses.shape[:-1], self.patients))
        sums.index_add_(-1, self.group, losses)
        return sums @ self.draws.T / (self.draws @ records)


def _average(
    likelihood: Float[Tensor, "*regression draw"],
) -> Float[Tensor, "*regression"]:
    """Average the weights of regressions over the draws; the weights sum to 1."""
    weights: Tensor = likelihood.flatten(0, -2).softmax(0).mean(1)
    return weights.view(likelihood.shape[:-1])


def _compute_losses(
    logits: Float[Tensor, "*batch output"],
    targets: Float[Tensor, "record output"],
    multilabel: bool,
) -> Float[Tensor, "*batch"]:
    """Return the loss of each record: cross-entropy, or binary cross-entropy for labels."""
    if multilabel:
        return functional.binary_cross_entropy_with_logits(
            logits, targets.expand_as(logits), reduction="none"
        ).mean(-1)
    return -(logits.log_softmax(-1) * targets).sum(-1)
