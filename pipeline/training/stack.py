"""Training loop for stacked FFNs. Each group has its own records, each FFN its early stopping."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from enecg.stacked import StackedFFN, StackPart
from pipeline.training.grouped_adamw import GroupedAdamW
from pipeline.training.labeled_repeat import LabeledRepeat
from pipeline.training.settings import FitSettings

VALIDATION_BATCH_SIZE = 1024
"""Validation records per group and batch."""

EPOCH_STEPS = 25
"""Maximum number of batches in an epoch that uses all training records; see `count_steps`."""

EPOCHS_PER_PASS = 10
"""Epochs that together have as many batches as one pass over many training records."""

PADDING = -1
"""Row index of padding, used where groups have different numbers of records."""

LossFunction = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Function from row indices, shape (group, batch), to the summed losses and the numbers of records
with a known label, both of shape (group, task)."""

BuildLossFunction = Callable[[StackedFFN, StackPart], LossFunction]
"""Function that returns the loss function for the FFNs of the given groups and tasks."""


@dataclass(frozen=True)
class Group:
    """One group of a stack: the heads, or the gate, of all tasks of one repeat or fold.

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
            # A fold has as many steps as all training records, so its FFNs are updated as often.
            steps=count_steps(len(repeat.train), settings.batch_size),
            learning_rate=repeat.learning_rate or settings.learning_rate,
        )


def count_steps(records: int, batch_size: int) -> int:
    """Return the number of batches per epoch.

    With many records, an epoch has only a part of the batches of a pass over all records, because
    FFNs often stop improving during the first pass.

    Args:
        records: Number of training records.
        batch_size: Records per batch.

    Returns:
        The number of batches of a pass, but at most the larger of `EPOCH_STEPS` and the number of
        batches of a pass divided by `EPOCHS_PER_PASS`.
    """
    steps = math.ceil(records / batch_size)
    return min(steps, max(EPOCH_STEPS, math.ceil(steps / EPOCHS_PER_PASS)))


def train_stack(
    stack: StackedFFN,
    build_loss_function: BuildLossFunction,
    groups: Sequence[Group],
    settings: FitSettings,
    *,
    joint: bool = False,
) -> Float[np.ndarray, "epoch group task"]:
    """Minimize the loss of every FFN with AdamW and early stopping.

    An epoch has `Group.steps` full batches of random records per group; a group with too few
    records repeats them in a new random order. An FFN stops when its validation loss has not
    improved for `settings.patience` epochs. Training ends when all FFNs have stopped, or after
    `settings.epochs` epochs. Every FFN then has the parameters of its best epoch, so its result
    does not depend on the other groups.

    Groups and tasks are no longer computed when all of their FFNs have stopped.

    Args:
        stack: The FFNs, trained in place.
        build_loss_function: Returns the loss function for the FFNs of the given groups and tasks.
        groups: The stack's groups, in order.
        settings: Batch size, epochs and patience.
        joint: Select the best epoch of a group by the sum of the losses of its tasks. Required
            if the tasks share a trained layer. Default: False.

    Returns:
        Validation losses. Epoch 0 is before training; losses are NaN after an FFN has stopped.
    """
    rngs = [np.random.default_rng(group.seed) for group in groups]
    stopping = _EarlyStopping(stack, settings.patience)
    history = []
    # Use a separate generator, because other threads train other stacks.
    stack.generator = torch.Generator(stack.prediction_weight.device)
    training = _Training.start(stack, groups)
    loss_function = build_loss_function(training.stack, training.part)
    for epoch in range(settings.epochs + 1):
        # Reseeding makes dropout independent of the number of batches of other groups.
        stack.generator.manual_seed(epoch)
        remaining = training.part.groups.tolist()
        remaining_groups = [groups[number] for number in remaining]
        if epoch:
            training.stack.train()
            rows = _pad(
                [
                    _shuffle(group.train, group.steps * settings.batch_size, rngs[number])
                    for number, group in zip(remaining, remaining_groups, strict=True)
                ]
            )
            for step, batch in enumerate(rows.split(settings.batch_size, dim=1)):
                training.optimizer.zero_grad()
                total, known = loss_function(batch)
                (total / known.clamp_min(1)).sum().backward()
                training.optimizer.step([step < group.steps for group in remaining_groups])
        validation = _pad([group.validation for group in remaining_groups])
        loss = _validation_loss(training.stack, loss_function, validation)
        history.append(stopping.update(training, loss, joint=joint).cpu().numpy())
        if not stopping.active.any():
            break
        previous, training = training, training.drop_stopped(stopping.active)
        if training is not previous:
            loss_function = build_loss_function(training.stack, training.part)
    stopping.restore_best(stack)
    return np.stack(history)


@dataclass(frozen=True)
class _Training:
    """The groups and tasks that are still being trained.

    Attributes:
        part: Their indices in the complete stack.
        stack: Their FFNs.
        optimizer: Optimizer of their parameters.
    """

    part: StackPart
    stack: StackedFFN
    optimizer: GroupedAdamW

    @classmethod
    def start(cls, stack: StackedFFN, groups: Sequence[Group]) -> "_Training":
        rates = [group.learning_rate for group in groups]
        return cls(StackPart.all_of(stack), stack, GroupedAdamW(_trainable(stack), rates))

    def drop_stopped(self, active: Bool[Tensor, "group task"]) -> "_Training":
        """Return the training state without the groups and tasks whose FFNs have all stopped.

        Args:
            active: Mask of the FFNs of the complete stack that have not stopped.

        Returns:
            The training state; `self` if there are no such groups and tasks.
        """
        active = self.part.select(active)
        kept = StackPart(active.any(1).nonzero()[:, 0], active.any(0).nonzero()[:, 0])
        if (len(kept.groups), len(kept.tasks)) == active.shape:
            return self
        stack = self.stack.select(kept)
        return _Training(
            StackPart(self.part.groups[kept.groups], self.part.tasks[kept.tasks]),
            stack,
            self.optimizer.select(kept, _trainable(stack)),
        )


def _trainable(stack: StackedFFN) -> list[nn.Parameter]:
    """Return the parameters that require gradients."""
    return [parameter for parameter in stack.parameters() if parameter.requires_grad]


class _EarlyStopping:
    """Best validation loss of each FFN, and its parameters at the epoch of that loss."""

    def __init__(self, stack: StackedFFN, patience: int) -> None:
        self.patience = patience
        self.saved = [parameter.detach().clone() for parameter in _trainable(stack)]
        self.best = torch.full_like(stack.prediction_weight[..., 0, 0], torch.inf)
        self.stale = torch.zeros_like(self.best)

    @property
    def active(self) -> Bool[Tensor, "group task"]:
        """Mask of the FFNs that have not stopped."""
        return self.stale < self.patience

    def update(
        self, training: _Training, loss: Float[Tensor, "some_group some_task"], *, joint: bool
    ) -> Float[Tensor, "group task"]:
        """Save the parameters of active FFNs whose loss has improved.

        Args:
            training: The groups and tasks that are still being trained.
            loss: Validation losses of their FFNs.
            joint: Whether to compare the sum of the group's losses, instead of the loss of each
                task.

        Returns:
            The losses of active FFNs; NaN for FFNs that have stopped.
        """
        groups, tasks = training.part.groups, training.part.tasks
        active = self.active
        losses = torch.full_like(self.best, torch.nan)
        losses[groups.unsqueeze(1), tasks] = loss
        losses = losses.where(active, torch.nan)
        compared = losses.sum(1, keepdim=True).expand_as(losses) if joint else losses
        better = compared < self.best
        self.best = torch.where(better, compared, self.best)
        self.stale = torch.where(better, 0, self.stale + active)
        group, task = training.part.select(better).nonzero(as_tuple=True)
        for parameter, saved in zip(_trainable(training.stack), self.saved, strict=True):
            if saved.shape[1] == 1:  # shared by all tasks
                saved[groups[group], 0] = parameter.detach()[group, 0]
            else:
                saved[groups[group], tasks[task]] = parameter.detach()[group, task]
        return losses

    def restore_best(self, stack: StackedFFN) -> None:
        """Copy the saved parameters to the complete stack."""
        with torch.no_grad():
            for parameter, saved in zip(_trainable(stack), self.saved, strict=True):
                parameter.copy_(saved)


def _validation_loss(
    stack: StackedFFN, loss_function: LossFunction, rows: Int[Tensor, "group row"]
) -> Float[Tensor, "group task"]:
    """Return the mean validation loss of each FFN."""
    stack.eval()
    with torch.no_grad():
        sums = [loss_function(batch) for batch in rows.split(VALIDATION_BATCH_SIZE, dim=1)]
    total = torch.stack([loss for loss, _ in sums]).sum(0)
    return total / torch.stack([known for _, known in sums]).sum(0).clamp_min(1)


def _shuffle(rows: Int[Tensor, " row"], length: int, rng: np.random.Generator) -> Tensor:
    """Concatenate random permutations of `rows` and return the first `length` elements."""
    rounds = [rng.permutation(len(rows)) for _ in range(math.ceil(length / len(rows)))]
    return rows[torch.from_numpy(np.concatenate(rounds)[:length]).to(rows.device)]


def _pad(parts: Sequence[Int[Tensor, " row"]]) -> Int[Tensor, "group row"]:
    return torch.nn.utils.rnn.pad_sequence(list(parts), True, PADDING)
