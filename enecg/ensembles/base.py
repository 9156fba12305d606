"""The interface of ensembles: predictions of all heads on one task in, one prediction out."""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from enecg.errors import UserError
from enecg.gate import mix
from enecg.tasks import Kind

MIN_PROBABILITY = 1e-7
"""Lower bound of probabilities before their logarithm is taken."""


@dataclass(frozen=True)
class HeadOutputs:
    """The predictions of all experts' heads on one task.

    Attributes:
        kind: Kind of the task.
        outputs: Standardized values (one output) or class probabilities.
        out_of_fold: Equal to `outputs`, except that each training record is predicted by heads
            that were not trained on its patient.
        encoded: Labels as standardized values or class numbers, NaN where missing.
        train: Row numbers of training records.
        validation: Row numbers of validation records.
    """

    kind: Kind
    outputs: Float[Tensor, "expert record output"]
    out_of_fold: Float[Tensor, "expert record output"]
    encoded: Float[Tensor, " record"]
    train: Int[Tensor, " train"]
    validation: Int[Tensor, " validation"]


@dataclass(frozen=True)
class EnsembleOutput:
    """The prediction of an ensemble on every record.

    On training records it is optimistic, since it uses heads that were trained on them.

    Attributes:
        prediction: Standardized values or class probabilities.
        weights: Weight of each expert per record, which sum to 1; None if it has no weights.
    """

    prediction: Float[Tensor, "record output"]
    weights: Float[Tensor, "record expert"] | None


class Ensemble(Protocol):
    """A method that combines the predictions of all experts; `name` is its row in the table."""

    name: str

    def __call__(self, heads: HeadOutputs, seed: int) -> EnsembleOutput | None:
        """Predict every record.

        Parameters are fitted on training records and selected on validation records. No other
        labels are used.

        Args:
            heads: Predictions of the experts' heads.
            seed: Seed of random numbers; the global random state does not change.

        Returns:
            The prediction, or None if the ensemble does not support this kind of task.

        Raises:
            UserError: Training or validation records have too few labels.
        """


def task_loss(
    kind: Kind, prediction: Float[Tensor, "record output"], encoded: Float[Tensor, " record"]
) -> Float[Tensor, ""]:
    """Compute the loss that heads and gate minimize.

    Args:
        kind: Kind of the task.
        prediction: Standardized values or class probabilities.
        encoded: Labels, none missing.

    Returns:
        The smooth L1 loss (regression) or the cross-entropy, averaged over records.
    """
    if kind == "regression":
        return functional.smooth_l1_loss(prediction[:, 0], encoded.to(prediction))
    return functional.nll_loss(prediction.clamp_min(MIN_PROBABILITY).log(), encoded.long())


def labeled_rows(
    heads: HeadOutputs, part: Literal["training", "validation"]
) -> Int[Tensor, " row"]:
    """Return the rows of the labeled records of a part.

    Args:
        heads: Predictions and labels of a task.
        part: Part of the split.

    Returns:
        Row numbers, at least one.

    Raises:
        UserError: No record of the part has a label.
    """
    rows = heads.train if part == "training" else heads.validation
    rows = rows[~heads.encoded[rows].isnan()]
    if not len(rows):
        raise UserError(
            f"No {part} record has a label for a task, so its ensembles cannot be fitted; remove "
            "the task, or use more records."
        )
    return rows


def concatenate(
    kind: Kind, outputs: Float[Tensor, "expert record output"]
) -> Float[Tensor, "record feature"]:
    """Concatenate all experts' outputs per record, probabilities as logarithms."""
    if kind != "regression":
        outputs = outputs.clamp_min(MIN_PROBABILITY).log()
    return torch.cat(outputs.unbind(), dim=-1)


def combine(heads: HeadOutputs, weights: Float[Tensor, "record expert"]) -> EnsembleOutput:
    """Average the experts with the given weights, normalized to sum to 1 per record."""
    weights = weights / weights.sum(-1, keepdim=True)
    return EnsembleOutput(mix(weights.unsqueeze(1), heads.outputs), weights)
