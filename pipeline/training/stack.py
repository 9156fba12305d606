"""The training loop of a stack: every group on its own records, every FFN at its own best epoch."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from enecg.stacked import StackedFFN
from pipeline.training.grouped_adamw import GroupedAdamW

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
    steps: Sequence[int],
    seeds: Sequence[int],
    batch_size: int,
    epochs: int,
    patience: int,
    learning_rates: Sequence[float],
    together: bool = False,
) -> Float[np.ndarray, "epoch group task"]:
    """Minimise every FFN's loss by AdamW; leaves each at its best epoch on validation.

    `train`, `validation`: a group's rows. An epoch is a group's own `steps` full batches; where
    they need more rows than it has, it begins anew. An FFN is done when it has not improved for
    `patience` epochs, and the stack when all are: each comes out as if it were alone. `together`:
    a group's tasks are judged by their sum, for they share layers. Returns the validation losses,
    of epoch 0 (before training) on, NaN where an FFN was done.
    """
    parameters = [one for one in stack.parameters() if one.requires_grad]
    device = stack.prediction.device
    optimiser = GroupedAdamW(parameters, learning_rates)
    orders = [np.random.default_rng(seed) for seed in seeds]
    validated = _padded(validation)
    best = torch.full(stack.prediction.shape[:2], torch.inf, device=device)
    stale = torch.zeros_like(best)
    kept = [one.detach().clone() for one in parameters]
    history = []
    with torch.random.fork_rng():
        for epoch in range(epochs + 1):
            # What is dropped in an epoch depends on no other group's number of batches.
            torch.manual_seed(epoch)
            if epoch:
                stack.train()
                batches = _padded(
                    [
                        _stream(rows, many * batch_size, order)
                        for rows, many, order in zip(train, steps, orders, strict=True)
                    ]
                )
                for number, rows in enumerate(batches.split(batch_size, dim=1)):
                    optimiser.zero_grad()
                    total, known = losses(rows)
                    (total / known.clamp_min(1)).sum().backward()
                    optimiser.step([number < many for many in steps])
            stack.eval()
            with torch.no_grad():
                sums = [losses(rows) for rows in validated.split(VALIDATED_AT_ONCE, dim=1)]
                total = torch.stack([one for one, _ in sums]).sum(0)
                loss = total / torch.stack([known for _, known in sums]).sum(0).clamp_min(1)
            going = stale < patience
            history.append(loss.where(going, torch.nan).cpu().numpy())
            judged = loss.sum(1, keepdim=True).expand_as(loss) if together else loss
            better = going & (judged < best)
            best = torch.where(better, judged, best)
            for one, saved in zip(parameters, kept, strict=True):
                which = better[:, : one.shape[1]].view(*one.shape[:2], *[1] * (one.dim() - 2))
                saved.copy_(torch.where(which, one.detach(), saved))
            stale = torch.where(better, 0, stale + 1)
            # Who is done stays so, whatever it would come to.
            stale = torch.where(going, stale, patience)
            if (stale >= patience).all():
                break
    with torch.no_grad():
        for one, saved in zip(parameters, kept, strict=True):
            one.copy_(saved)
    return np.stack(history)


def steps_of(train: Int[Tensor, " row"], batch_size: int) -> int:
    """How many batches show all of these rows."""
    return math.ceil(len(train) / batch_size)


def _stream(rows: Int[Tensor, " row"], length: int, order: np.random.Generator) -> Tensor:
    """Rows in random order, all of them before any comes again."""
    rounds = [order.permutation(len(rows)) for _ in range(math.ceil(length / len(rows)))]
    return rows[torch.from_numpy(np.concatenate(rounds)[:length]).to(rows.device)]


def _padded(parts: Sequence[Int[Tensor, " row"]]) -> Int[Tensor, "group row"]:
    return torch.nn.utils.rnn.pad_sequence(list(parts), True, PADDING)


@contextmanager
def one_thread() -> Iterator[None]:
    """Have torch use one CPU thread: the heads are small, and threads that wait for each other
    cost a busy machine six times the work itself.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
