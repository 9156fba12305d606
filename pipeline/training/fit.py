"""The heads of one expert, of all repeats and tasks, trained in one pass."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from enecg.heads import TaskHeads
from enecg.stacked import StackConfig, StackedFFN
from pipeline.labels.targets import Targets
from pipeline.training.stack import keeps_random_state, steps_of, train_stack
from pipeline.training.stack_data import (
    RECORDS_AT_ONCE,
    Labelled,
    StackedData,
    first_layer,
    summed_loss,
)

Adaptation = Literal["lora", "full", "linear", "shared-lora"]


@dataclass(frozen=True)
class FitSettings:
    """How heads and gate are trained.

    - `adaptation` of the heads: `lora` (the paper's: hidden layer frozen but for a low-rank
      update, output layer trained), `full` (all of the FFN), `linear` (one layer), `shared-lora`
      (one hidden layer per expert trained on all tasks together, then frozen; an adapter a task).
    - `hidden` units of each FFN; LoRA's `rank` and `alpha` (the update is scaled by
      alpha / rank); `dropout` in both; AdamW at `learning_rate`; at most `epochs`, stopped when
      no task's validation loss has improved for `patience` of them.
    - The gate: `gate_depth` hidden layers of `gate_hidden` units; `gate_weights` for each `task`
      or for each `output` of a task; `top_k` experts are heard (0: all); `balance` scales a term
      that grows when a few experts get all the weight.
    """

    batch_size: int = 64
    epochs: int = 100
    patience: int = 10
    adaptation: Adaptation = "lora"
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.1
    hidden: int = 128
    learning_rate: float = 1e-3
    gate_depth: int = 1
    gate_hidden: int = 128
    gate_weights: Literal["task", "output"] = "task"
    top_k: int = 0
    balance: float = 0.0


@dataclass(frozen=True)
class Fit:
    """A trained module, its validation loss by task and epoch, and its numbers of parameters."""

    module: nn.Module
    validation_loss: dict[str, list[float]]
    trainable: int
    total: int


@dataclass(frozen=True)
class HeadsFit(Fit):
    """One repeat's heads on one expert, and what they answer by task: (record, output).

    `outputs`: of all records. `out_of_fold`: the same, but each training record is answered by
    heads that were trained on the other half of the patients, for heads fit the records that they
    were trained on too well to tell a gate whom to listen to. `untrained`: by the heads as they
    were drawn, raw: what they would say of a regression in its own unit.
    """

    module: TaskHeads
    outputs: dict[str, Float[Tensor, "record output"]]
    out_of_fold: dict[str, Float[Tensor, "record output"]]
    untrained: dict[str, Float[Tensor, "record output"]]


@keeps_random_state
def fit_heads(
    embedding: Float[Tensor, "record feature"],
    repeats: Sequence[Labelled],
    settings: FitSettings,
    learning_rates: Sequence[float] | None = None,
    bases: Sequence[nn.Linear] | None = None,
) -> list[HeadsFit]:
    """The heads of one expert: of every repeat and task, and of both halves of every repeat's
    training patients, all in one pass.

    They share no parameter, so this is training them one by one. `learning_rates`: a repeat's own,
    where they differ. `bases`: of `shared-lora`, each repeat's hidden layer, where it is there
    already; else it is trained first.
    """
    parts = [part for one in repeats for part in (one.train, *one.halves)]
    of_repeat = [number for number in range(len(repeats)) for _ in range(3)]
    data = StackedData.of(embedding, repeats)
    rates = learning_rates or [settings.learning_rate] * len(repeats)
    # The halves have no layer of their own then: theirs has learned from both, by other labels.
    given = None if bases is None else [bases[one] for one in of_repeat]
    stack, history = fit_stack(
        data, parts, of_repeat, settings, [rates[one] for one in of_repeat], given
    )
    drawn = StackedFFN(stack.shape, len(data.tasks), [one.seed for one in repeats])
    fits = []
    for number, labelled in enumerate(repeats):
        mine = embedding[labelled.rows]
        full, first, second = (
            _module(stack, 3 * number + variant, data, number, settings) for variant in range(3)
        )
        outputs = predict_heads(full, mine, labelled.targets)
        out_of_fold = {task: output.clone() for task, output in outputs.items()}
        for model, other in ((first, labelled.halves[1]), (second, labelled.halves[0])):
            for task, output in predict_heads(model, mine[other], labelled.targets).items():
                out_of_fold[task][other] = output
        untrained = _module(drawn.to(embedding.device), number, data, number, settings)
        fits.append(
            HeadsFit(
                full,
                {
                    task: history[:, 3 * number, place].tolist()
                    for place, task in enumerate(labelled.targets)
                },
                *count(full),
                outputs=outputs,
                out_of_fold=out_of_fold,
                untrained=predict_heads(untrained, mine, labelled.targets),
            )
        )
    return fits


def fit_stack(
    data: StackedData,
    train: Sequence[Int[Tensor, " row"]],
    of_repeat: Sequence[int],
    settings: FitSettings,
    learning_rates: Sequence[float],
    bases: Sequence[nn.Linear] | None = None,
) -> tuple[StackedFFN, Float[np.ndarray, "epoch group task"]]:
    """Groups of heads, each on the given training records of one of the repeats, at a rate of its
    own, and of `shared-lora` on the hidden layer that is given.
    """
    linear = settings.adaptation == "linear"
    shape = StackConfig(
        features=data.embedding.shape[1],
        hidden=settings.hidden,
        outputs=data.outputs,
        depth=0 if linear else 1,
        frozen=settings.adaptation in ("lora", "shared-lora"),
        rank=settings.rank,
        alpha=settings.alpha,
        dropout=settings.dropout,
    )
    seeds = [data.repeats[number].seed for number in of_repeat]
    tasks = len(data.tasks)
    options = {
        "train": train,
        "validation": [data.repeats[number].validation for number in of_repeat],
        # Halves take as many steps as the whole of which they are.
        "steps": [steps_of(data.repeats[one].train, settings.batch_size) for one in of_repeat],
        "seeds": seeds,
        "batch_size": settings.batch_size,
        "epochs": settings.epochs,
        "patience": settings.patience,
        "learning_rates": learning_rates,
    }

    def run(stack: StackedFFN, *, together: bool = False) -> Float[np.ndarray, "epoch group task"]:
        losses = _head_losses(stack, data, of_repeat)
        return train_stack(stack, losses, together=together, **options)  # type: ignore[arg-type]

    device = data.embedding.device
    if settings.adaptation != "shared-lora":
        stack = StackedFFN(shape, tasks, seeds).to(device)
        return stack, run(stack)
    stack = StackedFFN(replace(shape, shared=True), tasks, seeds).to(device)
    if bases is None:
        base = StackedFFN(replace(shape, frozen=False, shared=True), tasks, seeds).to(device)
        run(base, together=True)
        weight, bias = base.weight[0], base.bias[0]
    else:
        weight = torch.stack([one.weight for one in bases]).unsqueeze(1)
        bias = torch.stack([one.bias for one in bases]).unsqueeze(1)
    with torch.no_grad():
        stack.weight[0].copy_(weight)
        stack.bias[0].copy_(bias)
        if bases is None:
            stack.prediction.copy_(base.prediction)
            stack.prediction_bias.copy_(base.prediction_bias)
    return stack, run(stack)


def predict_heads(
    model: nn.Module, embedding: Float[Tensor, "record feature"], targets: dict[str, Targets]
) -> dict[str, Float[Tensor, "record output"]]:
    """Every task's prediction: standard units, or class probabilities."""
    model.eval()
    with torch.no_grad():
        parts = [model(part) for part in embedding.split(RECORDS_AT_ONCE)]
    outputs = {name: torch.cat([part[name] for part in parts]) for name in targets}
    return {
        name: output if targets[name].task.kind == "regression" else output.softmax(-1)
        for name, output in outputs.items()
    }


def count(model: nn.Module) -> tuple[int, int]:
    """A module's trainable parameters, and all that it answers with."""
    trainable = sum(one.numel() for one in model.parameters() if one.requires_grad)
    # peft keeps the output layer as it was drawn beside the one that it trains.
    spare = sum(one.numel() for name, one in model.named_parameters() if "original_module" in name)
    return trainable, sum(one.numel() for one in model.parameters()) - spare


def _head_losses(
    stack: StackedFFN, data: StackedData, of_repeat: Sequence[int]
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    repeats = torch.tensor(of_repeat, device=data.embedding.device)
    with torch.no_grad():
        first = first_layer(stack, data, of_repeat)
    valid = data.valid[repeats].unsqueeze(2)

    def losses(rows: Tensor) -> tuple[Tensor, Tensor]:
        output = stack(data.features(repeats, rows), first(rows))
        logits = output.masked_fill(~valid, float("-inf")).log_softmax(-1)
        return summed_loss(output[..., 0], logits, data.targets(repeats, rows), data.regression)

    return losses


def _module(
    stack: StackedFFN, group: int, data: StackedData, repeat: int, settings: FitSettings
) -> TaskHeads:
    """A group's heads as the module that is saved: by peft where LoRA adapts them."""
    labelled = data.repeats[repeat]
    heads = TaskHeads(
        data.embedding.shape[1],
        {name: targets.outputs for name, targets in labelled.targets.items()},
        hidden=settings.hidden,
        dropout=settings.dropout,
        depth=stack.shape.depth,
        shared=stack.shape.shared,
    )
    if stack.shape.frozen:
        heads.adapt(rank=settings.rank, alpha=settings.alpha, dropout=settings.dropout)
    heads.to(data.embedding.device)
    data.set_standardise(heads.standardise, repeat)
    stack.copy_to(group, list(heads.ffn.values()))
    return heads.eval()
