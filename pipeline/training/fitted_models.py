"""Trained modules and their predictions."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from enecg.heads import TaskHeads


@dataclass(frozen=True)
class FittedModel:
    """A trained module.

    Attributes:
        module: The module, in evaluation mode.
        validation_loss: Validation loss of each task after every epoch. Element 0 is the loss
            before training; losses after the task has stopped are NaN.
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
        outputs: Predictions by task. Those of test records are from `module`; with
            ``linear-lora``, those of validation records are from heads whose linear path was
            fitted on training records only. Each training record is predicted by heads that were
            trained on the other fold of the training patients, because heads overfit their own
            training records; with ``linear-lora``, this holds for the correction, and the linear
            path is fitted without the record's patient. NaN for training records if there are no
            heads on folds.
        validation: Predictions for the validation records, in the order of `LabeledRepeat`, by
            `module`, with ``linear-lora`` with a linear path that is fitted without the record's
            patient. Their errors are those of `module` on new patients.
        untrained: Predictions of the heads at initialization.
        ridge: Ridge regressions on the same embeddings, fitted on training and validation records.
        ridge_outputs: Predictions of the ridge regressions by task; those of validation records
            are from regressions that were fitted on training records, and those of training
            records from regressions that were fitted without the record's patient.
    """

    module: TaskHeads
    outputs: dict[str, Float[Tensor, "record output"]]
    validation: dict[str, Float[Tensor, "record output"]]
    untrained: dict[str, Float[Tensor, "record output"]]
    ridge: TaskHeads
    ridge_outputs: dict[str, Float[Tensor, "record output"]]


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return the number of trainable parameters and the number of all parameters."""
    trainable = total = 0
    for name, parameter in model.named_parameters():
        trainable += parameter.numel() if parameter.requires_grad else 0
        # peft keeps an unused copy of the initial output layer.
        total += 0 if "original_module" in name else parameter.numel()
    return trainable, total
