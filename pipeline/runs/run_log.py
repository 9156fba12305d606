"""A run's log: what was done when, and how well heads and gates did on validation patients."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from pipeline.training.fit import Fit

LOG = "log.txt"


class RunLog:
    """Lines in a file, each with the time; they are there as soon as they are told."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOG

    def tell(self, line: str) -> None:
        """Add a line."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        with self._path.open("a") as file:
            file.write(f"{now} {line}\n")

    def tell_fits(self, name: str, fits: Sequence[Fit]) -> None:
        """Tell how well the repeats of a model came out, a line a task."""
        self.tell(f"{name}: done.")
        for task in fits[0].validation_loss if fits else ():
            of_repeats = [np.array(fit.validation_loss[task]) for fit in fits]
            best = (f"{np.nanmin(one):.4f} at epoch {np.nanargmin(one)}" for one in of_repeats)
            self.tell(f"{name}, {task}: validation loss {', '.join(best)}")
