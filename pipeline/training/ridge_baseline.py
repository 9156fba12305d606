"""Ridge regression on the embedding of one expert, which is chosen on validation records."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from enecg.heads import TaskHeads
from pipeline.training.fitted_models import FittedHeads
from pipeline.training.labeled_repeat import LabeledRepeat, validation_loss


@dataclass(frozen=True)
class RidgeBaseline:
    """Ridge regressions of one repeat.

    Attributes:
        heads: Regressions of all tasks by expert, fitted on training and validation records. Only
            experts that are chosen for a task.
        chosen: Expert by task: the one with the lowest validation loss of a regression that is
            fitted on training records.
        outputs: Predictions by task; see `FittedHeads.ridge_outputs`.
    """

    heads: dict[str, TaskHeads]
    chosen: dict[str, str]
    outputs: dict[str, Float[Tensor, "record output"]]

    def count_parameters(self) -> int:
        """Return the number of parameters of the chosen regressions."""
        return sum(
            parameter.numel()
            for task, expert in self.chosen.items()
            for parameter in self.heads[expert].ffn[task].parameters()
        )


def choose_ridge(fits: Mapping[str, FittedHeads], repeat: LabeledRepeat) -> RidgeBaseline:
    """Choose the expert of each task on validation records.

    Args:
        fits: The fitted heads of each expert, with their ridge regressions.
        repeat: Records and labels.

    Returns:
        The baseline.
    """
    chosen = {}
    for task in repeat.targets:
        losses = {
            expert: validation_loss(repeat, task, fit.ridge_outputs[task])
            for expert, fit in fits.items()
        }
        chosen[task] = min(losses, key=lambda expert: losses[expert])
    return RidgeBaseline(
        {expert: fits[expert].ridge for expert in dict.fromkeys(chosen.values())},
        chosen,
        {task: fits[expert].ridge_outputs[task] for task, expert in chosen.items()},
    )
