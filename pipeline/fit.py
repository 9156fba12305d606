"""The training loops: all tasks' heads of one expert together, then the gate over the experts."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional

from enecg.gate import Gate, mix
from enecg.heads import TaskHeads, with_lora
from pipeline.targets import Targets

RECORDS_AT_ONCE = 8192
"""Records whose predictions are made together: float32 copies of all of them would not fit."""


@dataclass(frozen=True)
class FitSettings:
    """How heads and gate are trained.

    `hidden` units of each FFN; LoRA's `rank` and `alpha` (the update is scaled by alpha / rank);
    `dropout` in both; AdamW at `learning_rate`; at most `epochs`, stopped when no task's
    validation loss has improved for `patience` of them.
    """

    batch_size: int = 64
    epochs: int = 100
    patience: int = 10
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.1
    hidden: int = 128
    learning_rate: float = 1e-3


@dataclass(frozen=True)
class Labelled:
    """Encoded targets of every task, (record,) float32 with NaN where unknown, and the rows of
    the training and validation records; `halves` are the training rows again, by patient.
    """

    targets: dict[str, Targets]
    encoded: dict[str, Float[Tensor, " record"]]
    train: Int[Tensor, " row"]
    validation: Int[Tensor, " row"]
    halves: tuple[Int[Tensor, " row"], Int[Tensor, " row"]]


@dataclass(frozen=True)
class Fit:
    """A trained module, and its validation loss by task and epoch."""

    module: PeftModel
    validation_loss: dict[str, list[float]]


def fit_heads(
    embedding: Float[Tensor, "record feature"], labelled: Labelled, settings: FitSettings, seed: int
) -> Fit:
    """One head per task on an expert's embeddings; each task keeps its own best epoch.

    The tasks share no parameter, so training them in one pass is training them one by one.
    """
    with _seeded(seed):
        outputs = {name: targets.outputs for name, targets in labelled.targets.items()}
        heads = TaskHeads(
            embedding.shape[1], outputs, hidden=settings.hidden, dropout=settings.dropout
        ).to(embedding.device)
        heads.standardise.fit(embedding[labelled.train])
        model = with_lora(heads, rank=settings.rank, alpha=settings.alpha, dropout=settings.dropout)

        def losses(rows: Tensor) -> dict[str, Tensor]:
            outputs = model(embedding[rows])
            return {
                name: _head_loss(labelled.targets[name], output, labelled.encoded[name][rows])
                for name, output in outputs.items()
            }

        return Fit(model, _train(model, losses, labelled, settings, seed))


def predict_heads(
    model: nn.Module, embedding: Float[Tensor, "record feature"], targets: dict[str, Targets]
) -> dict[str, Float[Tensor, "record output"]]:
    """Every task's prediction: standard units, or class probabilities."""
    model.eval()
    with torch.inference_mode():
        parts = [model(part) for part in embedding.split(RECORDS_AT_ONCE)]
    outputs = {name: torch.cat([part[name] for part in parts]) for name in targets}
    return {
        name: output if targets[name].task.kind == "regression" else output.softmax(-1)
        for name, output in outputs.items()
    }


def predict_unseen(
    embedding: Float[Tensor, "record feature"],
    labelled: Labelled,
    predictions: dict[str, Float[Tensor, "record output"]],
    settings: FitSettings,
    seed: int,
) -> dict[str, Float[Tensor, "record output"]]:
    """`predictions`, but for each training record by heads fitted on the other half of patients.

    Heads fit the records that they were trained on too well to tell the gate whom to listen to.
    """
    result = {task: output.clone() for task, output in predictions.items()}
    for half, other in (labelled.halves, labelled.halves[::-1]):
        fit = fit_heads(embedding, replace(labelled, train=half), settings, seed)
        for task, output in predict_heads(fit.module, embedding[other], labelled.targets).items():
            result[task][other] = output
    return result


def fit_gate(
    leads: Float[Tensor, "record feature"],
    predictions: dict[str, Float[Tensor, "expert record output"]],
    labelled: Labelled,
    settings: FitSettings,
    seed: int,
) -> Fit:
    """The gate over heads that are trained and stay as they are; its `predictions` are those of
    `predict_unseen`.
    """
    with _seeded(seed):
        experts = next(iter(predictions.values())).shape[0]
        gate = Gate(
            leads.shape[1],
            tuple(labelled.targets),
            experts,
            hidden=settings.hidden,
            dropout=settings.dropout,
        ).to(leads.device)
        gate.standardise.fit(leads[labelled.train])
        model = with_lora(gate, rank=settings.rank, alpha=settings.alpha, dropout=settings.dropout)

        def losses(rows: Tensor) -> dict[str, Tensor]:
            weights = model(leads[rows])
            return {
                name: _mixture_loss(
                    labelled.targets[name],
                    mix(weight, predictions[name][:, rows]),
                    labelled.encoded[name][rows],
                )
                for name, weight in weights.items()
            }

        return Fit(model, _train(model, losses, labelled, settings, seed))


def _train(
    model: nn.Module,
    losses: Callable[[Tensor], dict[str, Tensor]],
    labelled: Labelled,
    settings: FitSettings,
    seed: int,
) -> dict[str, list[float]]:
    """Minimise the sum of the tasks' losses; leaves each task at its best epoch on validation."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimiser = torch.optim.AdamW(parameters.values(), lr=settings.learning_rate)
    history: dict[str, list[float]] = {name: [] for name in labelled.targets}
    # Epoch 0 counts: a gate that cannot be bettered stays the plain mean.
    best = {name: float("inf") for name in history}
    kept: dict[str, Tensor] = {}
    stale = 0
    order = np.random.default_rng(seed)
    for epoch in range(settings.epochs + 1):
        if epoch:
            model.train()
            for rows in _batches(labelled.train, settings.batch_size, order):
                optimiser.zero_grad()
                sum(losses(rows).values(), torch.zeros((), device=rows.device)).backward()
                optimiser.step()
        model.eval()
        with torch.inference_mode():
            validation = {name: float(loss) for name, loss in losses(labelled.validation).items()}
        stale += 1
        for name, loss in validation.items():
            history[name].append(loss)
            if loss < best[name]:
                best[name] = loss
                stale = 0
                kept |= {
                    key: copy.deepcopy(value.data)
                    for key, value in parameters.items()
                    if f".ffn.{name}." in key
                }
        if stale >= settings.patience:
            break
    with torch.no_grad():
        for key, value in kept.items():
            parameters[key].copy_(value)
    return history


def _batches(rows: Tensor, size: int, order: np.random.Generator) -> Iterator[Tensor]:
    shuffled = rows[torch.from_numpy(order.permutation(len(rows))).to(rows.device)]
    yield from shuffled.split(size)


def _head_loss(
    targets: Targets, output: Float[Tensor, "batch output"], encoded: Float[Tensor, " batch"]
) -> Tensor:
    known = ~encoded.isnan()
    if not known.any():
        return output.sum() * 0.0
    if targets.task.kind == "regression":
        return functional.smooth_l1_loss(output[known, 0], encoded[known])
    return functional.cross_entropy(output[known], encoded[known].long())


def _mixture_loss(
    targets: Targets, mixed: Float[Tensor, "batch output"], encoded: Float[Tensor, " batch"]
) -> Tensor:
    if targets.task.kind == "regression":
        return _head_loss(targets, mixed, encoded)
    # Mixed probabilities sum to 1 already, so their logarithms are logits of themselves.
    return _head_loss(targets, mixed.clamp_min(1e-7).log(), encoded)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw from `seed` inside, and leave the caller's random state as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
