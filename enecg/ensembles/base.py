"""What every ensemble takes and gives: the heads' answers on one task, and one answer of them."""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from enecg.errors import UserError
from enecg.gate import mix
from enecg.tasks import Kind

LEAST_PROBABILITY = 1e-7
"""What a probability counts as at least, before its logarithm is taken."""


@dataclass(frozen=True)
class HeadOutputs:
    """The heads' answers on one task: standard units (one output) or class probabilities.

    `out_of_fold` differs from `outputs` on training records only: there each answer is by heads
    that were not trained on that record's patient. `encoded`: the labels, in standard units or
    class numbers, NaN where unknown. `train`, `validation`: row numbers.
    """

    kind: Kind
    outputs: Float[Tensor, "expert record output"]
    out_of_fold: Float[Tensor, "expert record output"]
    encoded: Float[Tensor, " record"]
    train: Int[Tensor, " train"]
    validation: Int[Tensor, " validation"]


@dataclass(frozen=True)
class EnsembleOutput:
    """An ensemble's answer on every record, in the units of the outputs, and the weights it gave
    the experts, each row summing to 1; None where it has none.

    The answer on a training record rests on heads that were trained on it: judge by others.
    """

    prediction: Float[Tensor, "record output"]
    weights: Float[Tensor, "record expert"] | None


class Ensemble(Protocol):
    """A way to make one answer of the experts' answers; `name` is its row in the table."""

    name: str

    def __call__(self, given: HeadOutputs, seed: int) -> EnsembleOutput | None:
        """The answer on every record, or None for a kind of task that the ensemble cannot do.

        Training records fit, validation records choose, and no other record's label is read.
        Raises UserError where there is none that it needs with a label.
        """


def loss(
    kind: Kind, answer: Float[Tensor, "record output"], encoded: Float[Tensor, " record"]
) -> Float[Tensor, ""]:
    """What heads and gate minimise, on labels that are all known: smooth L1 in standard units, or
    the cross-entropy of probabilities.
    """
    if kind == "regression":
        return functional.smooth_l1_loss(answer[:, 0], encoded.to(answer))
    return functional.nll_loss(answer.clamp_min(LEAST_PROBABILITY).log(), encoded.long())


def labeled_rows(
    given: HeadOutputs, part: Literal["training", "validation"]
) -> Int[Tensor, " row"]:
    """The rows of a part that have a label. Raises UserError where none has."""
    rows = given.train if part == "training" else given.validation
    rows = rows[~given.encoded[rows].isnan()]
    if not len(rows):
        raise UserError(
            f"No {part} record has a label for a task, so its ensembles cannot be made; leave the "
            "task out, or take more records."
        )
    return rows


def features(
    kind: Kind, outputs: Float[Tensor, "expert record output"]
) -> Float[Tensor, "record feature"]:
    """All experts' outputs of a record, one after the other; probabilities as logarithms."""
    if kind != "regression":
        outputs = outputs.clamp_min(LEAST_PROBABILITY).log()
    return torch.cat(outputs.unbind(), dim=-1)


def weighted(given: HeadOutputs, weights: Float[Tensor, "record expert"]) -> EnsembleOutput:
    """The experts mixed by weights, which are brought to a sum of 1 first."""
    weights = weights / weights.sum(-1, keepdim=True)
    return EnsembleOutput(mix(weights.unsqueeze(1), given.outputs), weights)
