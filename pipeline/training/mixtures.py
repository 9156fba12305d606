"""Gates over the heads of several experts, and their mixtures."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from enecg.gate import Mixture, mix
from enecg.single_expert_gate import SingleExpertGate
from pipeline.training.fit_gates import fit_gates
from pipeline.training.fitted_models import FittedHeads, FittedModel
from pipeline.training.labeled_repeat import LabeledRepeat
from pipeline.training.settings import FitSettings
from pipeline.training.stack_data import PREDICTION_BATCH_SIZE


def fit_mixtures(
    leads: Float[Tensor, "record feature"],
    repeats: Sequence[LabeledRepeat],
    heads: Sequence[Mapping[str, FittedHeads]],
    settings: FitSettings,
) -> list[FittedModel]:
    """Train the gate of every repeat. With one expert, no gate is trained.

    Args:
        leads: Sampled leads of all records, in the data type of the store.
        repeats: Records and labels of each repeat.
        heads: Heads of each repeat by expert.
        settings: Hyperparameters.

    Returns:
        The gate of each repeat. With one expert, `SingleExpertGate` without losses.
    """
    if len(heads[0]) == 1:
        return [FittedModel(SingleExpertGate(list(repeat.targets)), {}, 0, 0) for repeat in repeats]
    return fit_gates(leads, repeats, [stack_outputs(fits) for fits in heads], settings)


def stack_outputs(
    heads: Mapping[str, FittedHeads],
) -> dict[str, Float[Tensor, "expert record output"]]:
    """Stack the predictions of the experts' heads for each task."""
    tasks = next(iter(heads.values())).outputs
    return {task: torch.stack([fit.outputs[task] for fit in heads.values()]) for task in tasks}


def compute_gate_weights(
    gate: FittedModel, leads: Float[Tensor, "all feature"], rows: Int[Tensor, " record"]
) -> dict[str, Float[Tensor, "record output expert"]]:
    """Compute the weights of the experts for records.

    Args:
        gate: The gate.
        leads: Sampled leads of all records, in the data type of the store.
        rows: Rows of the records in `leads`.

    Returns:
        Weights by task, in the order of `rows`. The output axis has length 1 if all outputs of a
        task share the weights.
    """
    gate.module.eval()
    with torch.no_grad():
        parts = [gate.module(leads[part]) for part in rows.split(PREDICTION_BATCH_SIZE)]
    return {task: torch.cat([part[task] for part in parts]) for task in parts[0]}


def mix_outputs(
    repeat: LabeledRepeat,
    outputs: Mapping[str, Float[Tensor, "expert record output"]],
    weights: Mapping[str, Float[Tensor, "record output expert"]],
    mixture: Mixture,
) -> dict[str, Float[Tensor, "record output"]]:
    """Average predictions of the experts' heads with the weights of a gate.

    Args:
        repeat: Repeat with the kind of each task.
        outputs: Predictions by task, as returned by `stack_outputs`.
        weights: Weights for the same records, by task.
        mixture: What is averaged for classes and labels: ``"probabilities"`` or ``"logits"``.

    Returns:
        The averages by task.
    """
    return {
        task: mix(weight, outputs[task], kind=repeat.targets[task].task.kind, mixture=mixture)
        for task, weight in weights.items()
    }
