"""Trained modules and their predictions."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from enecg.heads import TaskHeads


@dataclass(frozen=True)
class FittedModel:
    """A trained module.

    Attributes:
        module: The module; in evaluation mode, except for a `SingleExpertGate`, which is constant.
        validation_loss: Validation loss of each task after every epoch. Element 0 is the loss
            before training; losses after the task has stopped are NaN. With ``linear``, the only
            element is the loss of the ridge regression. Empty for `SingleExpertGate`.
        trainable: Number of trainable parameters.
        total: Number of all parameters.
    """

    module: nn.Module
    validation_loss: dict[str, list[float]]
    trainable: int
    total: int


@dataclass(frozen=True)
class FittedHeads(FittedModel):
    """The heads of one expert and repeat, and their predictions for the repeat's records.

    Predictions are standardized values for regression tasks, probabilities of labels for multilabel
    tasks, and class probabilities for others.

    Attributes:
        module: The heads.
        outputs: Predictions by task.

            - Test records: by `module`.
            - Validation records: by `module`. With ``linear-lora``, the linear path is fitted on
              training records only.
            - Training records: by heads that are trained on the other fold of the training
              patients, because heads overfit their training records. With ``linear-lora``, this
              applies to the correction; the linear path is fitted without the record's patient.
              NaN if no heads are trained on folds.

            With ``linear``, the same predictions as `ridge_outputs`.
        validation: Predictions of `module` for the validation records, in the order of
            `LabeledRepeat.validation`. With ``linear-lora`` and ``linear``, the linear path is
            fitted without the record's patient. The errors of these predictions estimate the errors
            of `module` for new patients.
        untrained: Predictions of the heads at initialization.
        ridge: Ridge regressions on the same embeddings, fitted on training and validation records.
        ridge_outputs: Predictions of ridge regressions by task: for test records, by `ridge`; for
            validation records, by regressions on training records; for training records, by
            regressions on the training records of other patients.
    """

    module: TaskHeads
    outputs: dict[str, Float[Tensor, "record output"]]
    validation: dict[str, Float[Tensor, "record output"]]
    untrained: dict[str, Float[Tensor, "record output"]]
    ridge: TaskHeads
    ridge_outputs: dict[str, Float[Tensor, "record output"]]


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return the number of trainable parameters and the number of all parameters."""
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(count for count, trained in counts if trained), sum(count for count, _ in counts)
