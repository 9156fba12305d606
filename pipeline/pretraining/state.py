"""State of a pretraining run, written to its folder so that an interrupted one resumes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from enecg.errors import UserError
from enecg.experts.checkpoint_file import read_torch_file
from pipeline.runs.output_folder import write_file

STATE = "state.pt"

UNREADABLE_COLUMNS = ("record_id", "reason", "detail")


@dataclass(frozen=True)
class EpochErrors:
    """Mean squared errors of masked samples, in units of each lead's variance.

    Attributes:
        epoch: Number of finished epochs; 0 is before training.
        training: Error on training records during the epoch; None before training.
        validation: Error on validation records after the epoch, with the same masks every time.
    """

    epoch: int
    training: float | None
    validation: float


@dataclass
class PretrainingState:
    """State from which an interrupted pretraining resumes.

    Attributes:
        train: Rows of the training records in the data set's index.
        validation: Rows of the validation records in the data set's index.
        excluded: Number of excluded patients; see `PretrainSettings`.
        interpolation: Validation error of linear interpolation; None until it is computed.
        batch: Number of finished batches of the current epoch.
        error_sum: Sum of squared errors in these batches.
        error_count: Number of masked samples in these batches.
        epochs: Errors before training and of finished epochs.
        unreadable: Reason and details by row of each unreadable record.
        best: Tensors of the model with the lowest validation error.
        model: Tensors of the model.
        optimizer: State of the optimizer.
        generator: State of the random generator that draws masks.
    """

    train: Tensor
    validation: Tensor
    excluded: int
    interpolation: float | None = None
    batch: int = 0
    error_sum: float = 0.0
    error_count: int = 0
    epochs: list[EpochErrors] = field(default_factory=list)
    unreadable: dict[int, tuple[str, str]] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    model: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    generator: Tensor = field(default_factory=lambda: torch.Generator().get_state())

    @property
    def finished_epochs(self) -> int:
        """Number of finished epochs."""
        return self.epochs[-1].epoch if self.epochs else 0

    @property
    def best_epoch(self) -> EpochErrors:
        """The first epoch with the lowest validation error."""
        return min(self.epochs, key=lambda errors: errors.validation)

    def is_stopped(self, epochs: int, patience: int) -> bool:
        """Return whether training has reached its last epoch or has stopped early.

        Args:
            epochs: Maximum number of epochs.
            patience: Epochs without a lower validation error after which training stops.
        """
        if not self.epochs:
            return False
        done = self.finished_epochs
        return done >= epochs or done - self.best_epoch.epoch >= patience


def save_state(state: PretrainingState, folder: Path, *, share: bool) -> None:
    """Write a state atomically, replacing the earlier one.

    Args:
        state: The state.
        folder: Folder of the pretraining run.
        share: Whether other users may read the file, subject to the umask.
    """
    document = vars(state) | {"epochs": [vars(errors) for errors in state.epochs]}
    write_file(folder / STATE, lambda path: torch.save(document, path), share=share)


def load_state(folder: Path) -> PretrainingState | None:
    """Read the state in a folder.

    Args:
        folder: Folder of the pretraining run.

    Returns:
        The state; None if there is none.

    Raises:
        UserError: The file is damaged, would execute code, or was written by another version.
    """
    path = folder / STATE
    if not path.exists():
        return None
    contents = read_torch_file(path, remedy="remove it to pretrain again")
    try:
        epochs = [EpochErrors(**errors) for errors in contents["epochs"]]
        return PretrainingState(**(contents | {"epochs": epochs}))
    except (TypeError, KeyError) as error:
        raise UserError(
            f"{path} was not written by this version of EnECG; choose another --out."
        ) from error
