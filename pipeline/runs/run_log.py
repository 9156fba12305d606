"""Log file of a run."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from pipeline.training.fitted_models import FittedModel

LOG = "log.txt"


class RunLog:
    """Writer of `log.txt` in a run folder.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOG

    def write(self, line: str) -> None:
        """Append a line with the current local time."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{now} {line}\n")

    def write_fits(self, name: str, fits: Sequence[FittedModel]) -> None:
        """Append a line for a finished step, and the lowest validation losses with their epochs.

        Args:
            name: Name of the training step, such as an expert's name.
            fits: Trained models, one per repeat; may be empty. Their losses take one line per task.
        """
        self.write(f"{name}: done.")
        for task in fits[0].validation_loss if fits else ():
            losses = [np.array(fit.validation_loss[task]) for fit in fits]
            best = (f"{np.nanmin(loss):.4f} at epoch {np.nanargmin(loss)}" for loss in losses)
            self.write(f"{name}, {task}: validation loss {', '.join(best)}")
