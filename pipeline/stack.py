"""The training loop of a stack: every group on its own records, every FFN at its own best epoch."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from enecg.stacked import StackedFFN

VALIDATED_AT_ONCE = 1024
"""Validation records of a group whose losses are taken together."""

PADDING = -1
"""A row number that stands for no record: where groups have different numbers of records."""

Function = TypeVar("Function", bound=Callable[..., object])

Losses = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From rows (group, batch) to the summed loss and the number of known labels, (group, task)."""


def keeps_random_state(function: Function) -> Function:
    """The function, which may draw at random, leaving torch's random state as it was."""

    @functools.wraps(function)
    def kept(*arguments: object, **named: object) -> object:
        with torch.random.fork_rng():
            return function(*arguments, **named)

    return cast(Function, kept)


def train_stack(
    stack: StackedFFN,
    losses: Losses,
    train: Sequence[Int[Tensor, " row"]],
    validation: Sequence[Int[Tensor, " row"]],
    *,
    seeds: Sequence[int],
    batch_size: int,
    epochs: int,
    patience: int,
    learning_rates: Sequence[float],
    together: bool = False,
) -> Float[np.ndarray, "epoch group task"]:
    """Minimise every FFN's loss by AdamW; leaves each at its best epoch on validation.

    `train`, `validation`: a group's rows; an epoch is as many full batches as the largest group
    needs, and smaller groups begin anew within it. Stopped when no FFN has improved for
    `patience` epochs. `together`: a group's tasks are judged by their sum, for they share layers.
    Returns the validation losses, of epoch 0 (before training) on.
    """
    parameters = [one for one in stack.parameters() if one.requires_grad]
    # AdamW's step is proportional to its rate, so each group takes its own share of a step of 1.
    device = stack.prediction.device
    rates = torch.tensor(learning_rates, device=device)
    one_rate = learning_rates[0] if len(set(learning_rates)) == 1 else None
    optimiser = torch.optim.AdamW(parameters, lr=one_rate or 1.0, fused=True)
    orders = [np.random.default_rng(seed) for seed in seeds]
    steps = math.ceil(max(len(rows) for rows in train) / batch_size)
    validated = _padded(validation)
    best: Tensor | None = None
    kept = [one.detach().clone() for one in parameters]
    stale = 0
    history = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for epoch in range(epochs + 1):
            if epoch:
                stack.train()
                batches = torch.stack(
                    [
                        _stream(rows, steps * batch_size, order)
                        for rows, order in zip(train, orders, strict=True)
                    ]
                )
                for rows in batches.split(batch_size, dim=1):
                    optimiser.zero_grad()
                    total, known = losses(rows)
                    (total / known.clamp_min(1)).sum().backward()
                    before = None if one_rate else [one.detach().clone() for one in parameters]
                    optimiser.step()
                    if before is not None:
                        for one, old in zip(parameters, before, strict=True):
                            share = rates.view(-1, *[1] * (one.dim() - 1))
                            one.data = torch.lerp(old, one.data, share)
            stack.eval()
            with torch.no_grad():
                sums = [losses(rows) for rows in validated.split(VALIDATED_AT_ONCE, dim=1)]
                total = torch.stack([one for one, _ in sums]).sum(0)
                loss = total / torch.stack([known for _, known in sums]).sum(0).clamp_min(1)
            history.append(loss.cpu().numpy())
            judged = loss.sum(1, keepdim=True).expand_as(loss) if together else loss
            better = (
                judged < best if best is not None else torch.ones_like(judged, dtype=torch.bool)
            )
            best = judged if best is None else torch.minimum(best, judged)
            for one, saved in zip(parameters, kept, strict=True):
                which = better[:, : one.shape[1]].view(*one.shape[:2], *[1] * (one.dim() - 2))
                saved.copy_(torch.where(which, one.detach(), saved))
            stale = 0 if better.any() else stale + 1
            if stale >= patience:
                break
    with torch.no_grad():
        for one, saved in zip(parameters, kept, strict=True):
            one.copy_(saved)
    return np.stack(history)


def _stream(rows: Int[Tensor, " row"], length: int, order: np.random.Generator) -> Tensor:
    """Rows in random order, all of them before any comes again."""
    rounds = [order.permutation(len(rows)) for _ in range(math.ceil(length / len(rows)))]
    return rows[torch.from_numpy(np.concatenate(rounds)[:length]).to(rows.device)]


def _padded(parts: Sequence[Int[Tensor, " row"]]) -> Int[Tensor, "group row"]:
    return torch.nn.utils.rnn.pad_sequence(list(parts), True, PADDING)
