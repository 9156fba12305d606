"""The ensemble interface: combine the predictions of all experts on one task."""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from enecg.errors import UserError
from enecg.gate import MIN_PROBABILITY, mix
from enecg.tasks import Kind


@dataclass(frozen=True)
class HeadOutputs:
    """The predictions of all experts' heads on one task.

    Attributes:
        task: Name of the task.
        kind: Kind of the task.
        outputs: Standardized values (regression, one output), class probabilities, or
            probabilities of the labels (multilabel). Those of training records are out of fold:
            they come from heads that were not trained on the same patient.
        encoded: Labels as standardized values, class numbers or indicators; NaN where missing.
        train: Rows of the training records.
        validation: Rows of the validation records.
    """

    task: str
    kind: Kind
    outputs: Float[Tensor, "expert record output"]
    encoded: Float[Tensor, "record *label"]
    train: Int[Tensor, " train"]
    validation: Int[Tensor, " validation"]


@dataclass(frozen=True)
class EnsembleOutput:
    """The predictions of an ensemble on all records.

    Attributes:
        prediction: Standardized values, or probabilities of classes or labels.
        weights: Expert weights of each record, which sum to 1; None for an ensemble without
            weights.
    """

    prediction: Float[Tensor, "record output"]
    weights: Float[Tensor, "record expert"] | None


class Ensemble(Protocol):
    """A method that combines the predictions of all experts.

    Attributes:
        name: Name in the results table.
    """

    name: str

    def __call__(self, heads: HeadOutputs, seed: int) -> EnsembleOutput | None:
        """Predict every record.

        Parameters are fitted on training records and selected on validation records. The labels of
        other records are not used.

        Args:
            heads: Predictions of the experts' heads.
            seed: Seed of random numbers. The global random state is left unchanged.

        Returns:
            The prediction, or None if the ensemble does not support this kind of task.

        Raises:
            UserError: The labels of training or validation records do not suffice for fitting.
        """


def task_loss(
    kind: Kind, prediction: Float[Tensor, "record output"], encoded: Float[Tensor, "record *label"]
) -> Float[Tensor, ""]:
    """Compute the loss by which heads, gates and ensembles are trained and selected.

    Args:
        kind: Kind of the task.
        prediction: Standardized values or probabilities of classes or labels.
        encoded: Labels as standardized values, class numbers or indicators; none may be NaN.

    Returns:
        The smooth L1 loss (regression), the cross-entropy, or the binary cross-entropy averaged
        over labels (multilabel); averaged over records.
    """
    if kind == "regression":
        return functional.smooth_l1_loss(prediction[:, 0], encoded.to(prediction))
    if kind == "multilabel":
        probability = prediction.clamp(MIN_PROBABILITY, 1 - MIN_PROBABILITY)
        return functional.binary_cross_entropy(probability, encoded.to(prediction))
    return functional.nll_loss(prediction.clamp_min(MIN_PROBABILITY).log(), encoded.long())


def is_labeled(encoded: Float[Tensor, "record *label"]) -> Bool[Tensor, " record"]:
    """Return a mask of the records with a label, for a multilabel task with all labels."""
    return ~encoded.flatten(1).isnan().any(1) if encoded.dim() > 1 else ~encoded.isnan()


def labeled_rows(
    heads: HeadOutputs, part: Literal["training", "validation"]
) -> Int[Tensor, " row"]:
    """Return the rows of the labeled records in one part of the split.

    Args:
        heads: Predictions and labels of a task.
        part: Part of the split.

    Returns:
        At least one row.

    Raises:
        UserError: No record in this part has a label.
    """
    rows = heads.train if part == "training" else heads.validation
    rows = rows[is_labeled(heads.encoded[rows])]
    if not len(rows):
        raise UserError(
            f"No {part} record has a label for {heads.task}, so ensembles cannot be fitted; remove "
            "the task or use more records."
        )
    return rows


def concatenate(
    kind: Kind, outputs: Float[Tensor, "expert record output"]
) -> Float[Tensor, "record feature"]:
    """Concatenate the outputs of all experts for each record.

    Args:
        kind: Kind of the task.
        outputs: Outputs of the experts.

    Returns:
        Standardized values (regression), log-probabilities of classes, or log-odds of labels.
    """
    if kind == "multilabel":
        outputs = outputs.logit(MIN_PROBABILITY)
    elif kind != "regression":
        outputs = outputs.clamp_min(MIN_PROBABILITY).log()
    return torch.cat(outputs.unbind(), dim=-1)


def combine(heads: HeadOutputs, weights: Float[Tensor, "record expert"]) -> EnsembleOutput:
    """Average the predictions of experts.

    Args:
        heads: Outputs of the experts' heads.
        weights: Nonnegative weights, not all 0 for any record; they need not sum to 1.

    Returns:
        The averaged outputs and the normalized weights.
    """
    weights = weights / weights.sum(-1, keepdim=True)
    return EnsembleOutput(mix(weights.unsqueeze(1), heads.outputs), weights)
