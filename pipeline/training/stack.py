"""Training loop for stacked FFNs, with separate records for each group and early stopping."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from enecg.stacked import StackedFFN
from pipeline.training.grouped_adamw import GroupedAdamW
from pipeline.training.labeled_repeat import LabeledRepeat
from pipeline.training.settings import FitSettings

VALIDATION_BATCH_SIZE = 1024
"""Validation records per group and batch."""

PADDING = -1
"""Row index of padding, used where groups have different numbers of records."""

Losses = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Function from row indices, shape (group, batch), to the summed losses and the numbers of known
labels, both of shape (group, task)."""


@dataclass(frozen=True)
class Group:
    """One group of a stack: the heads, or the gate, of all tasks of one repeat.

    Attributes:
        repeat: Index of the repeat in `StackedData`.
        fold: Index of the fold to train on; None for all training records.
        train: Row indices of the training records.
        validation: Row indices of the validation records.
        seed: Seed of the initial parameters and of the order of the training records.
        steps: Batches per epoch.
        learning_rate: Learning rate of AdamW.
    """

    repeat: int
    fold: int | None
    train: Int[Tensor, " row"]
    validation: Int[Tensor, " row"]
    seed: int
    steps: int
    learning_rate: float

    @classmethod
    def of(
        cls, index: int, repeat: LabeledRepeat, settings: FitSettings, fold: int | None = None
    ) -> "Group":
        """Create the group of a repeat, or of one of its folds.

        Args:
            index: Index of the repeat in `StackedData`.
            repeat: Records and labels.
            settings: Batch size and learning rate.
            fold: Index of the fold to train on; None for all training records.

        Returns:
            The group.
        """
        return cls(
            repeat=index,
            fold=fold,
            train=repeat.train if fold is None else repeat.folds[fold],
            validation=repeat.validation,
            seed=repeat.seed,
            # A fold takes as many steps per epoch as all training records.
            steps=math.ceil(len(repeat.train) / settings.batch_size),
            learning_rate=repeat.learning_rate or settings.learning_rate,
        )


def train_stack(
    stack: StackedFFN,
    losses: Losses,
    groups: Sequence[Group],
    settings: FitSettings,
    *,
    joint: bool = False,
) -> Float[np.ndarray, "epoch group task"]:
    """Minimize the loss of every FFN with AdamW and early stopping.

    An epoch has `Group.steps` full batches per group; a group with too few records repeats them in
    a new random order. An FFN stops when its validation loss has not improved for
    `settings.patience` epochs, and training ends when all FFNs have stopped. At the end, every FFN
    has the parameters of its best epoch, so its result does not depend on the other groups.

    Args:
        stack: The FFNs, trained in place.
        losses: The loss function.
        groups: The stack's groups, in order.
        settings: Batch size, epochs and patience.
        joint: Select the best epoch of a group by the sum of the losses of its tasks. Required
            if the tasks share a trained layer. Default: False.

    Returns:
        Validation losses. Epoch 0 is before training; losses are NaN after an FFN has stopped.
    """
    parameters = [parameter for parameter in stack.parameters() if parameter.requires_grad]
    optimizer = GroupedAdamW(parameters, [group.learning_rate for group in groups])
    rngs = [np.random.default_rng(group.seed) for group in groups]
    validation = _pad([group.validation for group in groups])
    stopping = _EarlyStopping(parameters, stack, settings.patience)
    history = []
    # Use a separate generator, because other threads train other stacks.
    stack.generator = torch.Generator(stack.prediction.device)
    for epoch in range(settings.epochs + 1):
        # Reseeding makes dropout independent of the number of batches of other groups.
        stack.generator.manual_seed(epoch)
        if epoch:
            stack.train()
            rows = _pad(
                [
                    _shuffle(group.train, group.steps * settings.batch_size, rng)
                    for group, rng in zip(groups, rngs, strict=True)
                ]
            )
            for step, batch in enumerate(rows.split(settings.batch_size, dim=1)):
                optimizer.zero_grad()
                total, known = losses(batch)
                (total / known.clamp_min(1)).sum().backward()
                optimizer.step([step < group.steps for group in groups])
        loss = _validation_loss(stack, losses, validation)
        history.append(loss.where(stopping.active, torch.nan).cpu().numpy())
        stopping.update(loss.sum(1, keepdim=True).expand_as(loss) if joint else loss)
        if not stopping.active.any():
            break
    stopping.restore_best()
    return np.stack(history)


class _EarlyStopping:
    """Best validation loss of each FFN and its parameters at that epoch."""

    def __init__(
        self, parameters: Sequence[nn.Parameter], stack: StackedFFN, patience: int
    ) -> None:
        self.parameters = parameters
        self.patience = patience
        self.saved = [parameter.detach().clone() for parameter in parameters]
        self.best = torch.full_like(stack.prediction[..., 0, 0], torch.inf)
        self.stale = torch.zeros_like(self.best)

    @property
    def active(self) -> Tensor:
        """Mask of the FFNs that have not stopped, shape (group, task)."""
        return self.stale < self.patience

    def update(self, loss: Float[Tensor, "group task"]) -> None:
        """Save the parameters of active FFNs whose loss has improved."""
        active = self.active
        better = active & (loss < self.best)
        self.best = torch.where(better, loss, self.best)
        for parameter, saved in zip(self.parameters, self.saved, strict=True):
            # The task axis of a shared layer has length 1.
            mask = better[:, : parameter.shape[1]]
            mask = mask.view(*parameter.shape[:2], *[1] * (parameter.dim() - 2))
            saved.copy_(torch.where(mask, parameter.detach(), saved))
        self.stale = torch.where(better, 0, self.stale + active)

    def restore_best(self) -> None:
        with torch.no_grad():
            for parameter, saved in zip(self.parameters, self.saved, strict=True):
                parameter.copy_(saved)


def _validation_loss(
    stack: StackedFFN, losses: Losses, rows: Int[Tensor, "group row"]
) -> Float[Tensor, "group task"]:
    """Return the mean validation loss of each FFN."""
    stack.eval()
    with torch.no_grad():
        sums = [losses(batch) for batch in rows.split(VALIDATION_BATCH_SIZE, dim=1)]
    total = torch.stack([loss for loss, _ in sums]).sum(0)
    return total / torch.stack([known for _, known in sums]).sum(0).clamp_min(1)


def _shuffle(rows: Int[Tensor, " row"], length: int, rng: np.random.Generator) -> Tensor:
    """Concatenate random permutations of `rows` and return the first `length` elements."""
    rounds = [rng.permutation(len(rows)) for _ in range(math.ceil(length / len(rows)))]
    return rows[torch.from_numpy(np.concatenate(rounds)[:length]).to(rows.device)]


def _pad(parts: Sequence[Int[Tensor, " row"]]) -> Int[Tensor, "group row"]:
    return torch.nn.utils.rnn.pad_sequence(list(parts), True, PADDING)
