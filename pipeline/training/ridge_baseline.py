"""The baseline of ridge regression on the embedding of one expert, chosen on validation records."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from enecg.ensembles.base import is_labeled, task_loss
from enecg.heads import TaskHeads
from pipeline.training.features import Features
from pipeline.training.fit_heads import FittedHeads, predict_heads
from pipeline.training.labeled_repeat import LabeledRepeat


@dataclass(frozen=True)
class RidgeBaseline:
    """Ridge regressions of one repeat.

    Attributes:
        heads: Regressions of all tasks on the embeddings of each expert that is chosen for a task,
            fitted on training and validation records.
        chosen: Expert with the lowest validation loss of each task, with regressions that are
            fitted on training records only.
        outputs: Predictions by task. Those of test records are from `heads`, and those of the
            other records from regressions that are fitted on training records only.
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


def choose_ridge(
    fits: Mapping[str, FittedHeads], features: Features, repeat: LabeledRepeat
) -> RidgeBaseline:
    """Choose the expert of each task on validation records.

    Args:
        fits: The fitted heads of each expert, with their ridge regressions.
        features: Embeddings of all records.
        repeat: Records and labels.

    Returns:
        The baseline.
    """
    trained = {
        expert: predict_heads(
            fit.ridge_trained, features.experts[expert][repeat.rows], repeat.targets
        )
        for expert, fit in fits.items()
    }
    chosen, outputs = {}, {}
    for task in repeat.targets:
        losses = {
            expert: validation_loss(repeat, task, by_task[task])
            for expert, by_task in trained.items()
        }
        chosen[task] = min(losses, key=lambda expert: losses[expert])
    heads = {expert: fits[expert].ridge for expert in dict.fromkeys(chosen.values())}
    tested = {
        expert: predict_heads(
            ridge, features.experts[expert][repeat.rows[repeat.test]], repeat.targets
        )
        for expert, ridge in heads.items()
    }
    for task, expert in chosen.items():
        outputs[task] = trained[expert][task].clone()
        outputs[task][repeat.test] = tested[expert][task]
    return RidgeBaseline(heads, chosen, outputs)


def validation_loss(
    repeat: LabeledRepeat, task: str, output: Float[Tensor, "record output"]
) -> float:
    """Compute the loss of predictions for the labeled validation records.

    Args:
        repeat: Records and labels.
        task: Name of the task.
        output: Standardized values, or probabilities of classes or labels.

    Returns:
        The loss; see `task_loss`.
    """
    rows = repeat.validation[is_labeled(repeat.encoded[task][repeat.validation])]
    kind = repeat.targets[task].task.kind
    return float(task_loss(kind, output[rows], repeat.encoded[task][rows]))
