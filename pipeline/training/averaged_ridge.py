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
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from enecg.ridge import RidgeDesign
from enecg.tasks import Kind
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
        projected: Result of `RidgeDesign.project` for the targets.
        left_out: Predictions for selected records by regressions that are fitted on the records of
            all other patients, minus the mean target of all other patients. That mean is
            negatively correlated with the patient's own targets, which would bias logits in
            proportion to their scale.
    """

    design: RidgeDesign
    penalties: Float[Tensor, " penalty"]
    projected: Float[Tensor, "rank output"]
    left_out: Float[Tensor, "penalty selected output"]

    @classmethod
    def fit(
        cls,
        design: RidgeDesign,
        targets: Float[Tensor, "record output"],
        selected: Bool[Tensor, " record"],
    ) -> "RidgeFamily":
        """Fit regressions with all `PENALTIES`.

        Args:
            design: The decomposed features of the labeled records.
            targets: Targets of the regressions.
            selected: Mask of the records to predict, with all or no records of a patient.

        Returns:
            The regressions.
        """
        penalties = design.scale * torch.tensor(PENALTIES).to(targets)
        projected = design.project(targets)
        left_out = design.predict_left_out(targets, projected, penalties, selected)
        left_out -= design.left_out_means(targets)[selected]
        return cls(design, penalties, projected, left_out)

    def select(self, outputs: slice) -> "RidgeFamily":
        """Return the regressions of some outputs."""
        return replace(
            self, projected=self.projected[:, outputs], left_out=self.left_out[..., outputs]
        )


@dataclass(frozen=True)
class RegressionWeights:
    """Weights of the regressions in an average.

    Attributes:
        weights: Weight of each regression. For classes and labels, the sum over `SCALES` of weight
            times scale, so the weights do not sum to 1.
        shift: Added to the intercepts of a regression task; 0 for other tasks.
    """

    weights: Float[Tensor, "family penalty"]
    shift: Float[Tensor, ""]


@dataclass(frozen=True)
class AveragedRidge:
    """An average of ridge regressions: the sum of one linear function per family.

    Attributes:
        coefficients: Coefficients of the features of each family.
        bias: Intercepts.
        left_out: Predictions for the families' selected records, with coefficients that are fitted
            on the records of all other patients. The intercept is that of all patients.
    """

    coefficients: tuple[Float[Tensor, "output feature"], ...]
    bias: Float[Tensor, " output"]
    left_out: Float[Tensor, "selected output"]


def weight_regressions(
    families: Sequence[RidgeFamily], targets: Float[Tensor, "record output"], kind: Kind
) -> RegressionWeights:
    """Compute the weights of regressions from their predictions for left-out records.

    Args:
        families: Regressions on the labeled records, all of which are selected.
        targets: Encoded values, or indicators of classes or labels.
        kind: Kind of the task.

    Returns:
        One weight per family and penalty, and the shift.
    """
    offset = _mean_output(targets, kind)
    scores = torch.stack([family.left_out for family in families])
    bootstrap = _Bootstrap.of(families[0].design.group, targets.dtype)
    if kind == "regression":
        errors = bootstrap.average((offset + scores - targets).abs()[..., 0])
        weights = _average(laplace_log_likelihood(errors, bootstrap.patients))
        # The regressions minimize the squared error, so they predict means. The metric is the mean
        # absolute error, which is lowest at the median.
        averaged = offset + torch.einsum("fp,fpro->ro", weights, scores)
        return RegressionWeights(weights, (targets - averaged).median())
    scales = torch.tensor(SCALES).to(targets)
    losses = [
        bootstrap.average(_compute_losses(offset + scale * scores, targets, kind))
        for scale in scales
    ]
    by_scale = _average(cross_entropy_log_likelihood(torch.stack(losses), bootstrap.patients))
    # Logits are linear in the scores, so averaging over scales reduces to one weight per penalty.
    return RegressionWeights(torch.einsum("s,sfp->fp", scales, by_scale), targets.new_zeros(()))


def average_regressions(
    families: Sequence[RidgeFamily],
    targets: Float[Tensor, "record output"],
    weights: RegressionWeights,
    kind: Kind,
) -> AveragedRidge:
    """Average the regressions of a task.

    Args:
        families: Regressions on the labeled records.
        targets: Encoded values, or indicators of classes or labels.
        weights: Weights of the regressions.
        kind: Kind of the task.

    Returns:
        The average. Its outputs are values or logits.
    """
    offset = _mean_output(targets, kind) + weights.shift
    scores = torch.stack([family.left_out for family in families])
    left_out = offset + torch.einsum("fp,fpro->ro", weights.weights, scores)
    coefficients, bias = [], offset
    for family, by_penalty in zip(families, weights.weights, strict=True):
        weight = family.design.coefficients(family.projected, family.penalties, by_penalty)
        coefficients.append(weight)
        bias = bias - weight @ family.design.mean
    return AveragedRidge(tuple(coefficients), bias, left_out)


def _mean_output(targets: Float[Tensor, "record output"], kind: Kind) -> Float[Tensor, " output"]:
    """Return the mean value, or the logits of the shares of the classes or labels."""
    if kind == "regression":
        return targets.mean(0)
    min_share = 0.5 / len(targets)  # logarithms of 0 are infinite
    shares = targets.mean(0).clamp(min_share, 1 - min_share)
    return shares.logit() if kind == "multilabel" else shares.log()


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
    log_likelihood: Float[Tensor, "*regression draw"],
) -> Float[Tensor, "*regression"]:
    """Compute weights by a softmax over the regressions, and average them over the draws."""
    weights: Tensor = log_likelihood.flatten(0, -2).softmax(0).mean(1)
    return weights.view(log_likelihood.shape[:-1])


def _compute_losses(
    logits: Float[Tensor, "*batch output"],
    targets: Float[Tensor, "record output"],
    kind: Kind,
) -> Float[Tensor, "*batch"]:
    """Return the loss of each record: cross-entropy, or binary cross-entropy for labels."""
    if kind == "multilabel":
        return functional.binary_cross_entropy_with_logits(
            logits, targets.expand_as(logits), reduction="none"
        ).mean(-1)
    return -(logits.log_softmax(-1) * targets).sum(-1)
