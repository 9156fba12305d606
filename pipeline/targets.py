"""From the label table to what a head is trained on, and back; fitted on training records."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from enecg.errors import UserError
from enecg.tasks import ARRHYTHMIA_CLASSES, OTHERS, Task


@dataclass(frozen=True)
class Targets:
    """How a task's labels become numbers: a regression's mean and scale, or the list of classes."""

    task: Task
    classes: tuple[str, ...] = ()
    mean: float = 0.0
    scale: float = 1.0

    @property
    def outputs(self) -> int:
        """How many numbers a head gives for this task."""
        return 1 if self.task.kind == "regression" else len(self.classes)

    def encode(self, labels: pd.Series) -> Float[np.ndarray, " record"]:
        """Standard units or class numbers, float64; NaN where the label is not known."""
        if self.task.kind == "regression":
            return (labels.to_numpy(np.float64) - self.mean) / self.scale
        if self.task.kind == "binary":
            return labels.to_numpy(np.float64, copy=True)
        number = {name: float(place) for place, name in enumerate(self.classes)}
        known = labels.where(labels.isin(self.classes) | labels.isna(), OTHERS)
        return known.map(number).to_numpy(np.float64, na_value=np.nan, copy=True)

    def decode(self, standard: Float[np.ndarray, " record"]) -> Float[np.ndarray, " record"]:
        """A regression's predictions in its unit."""
        return standard * self.scale + self.mean


def fit(task: Task, labels: pd.Series) -> Targets:
    """Fit on the labels of training records. Raises UserError where they cannot be learned from."""
    known = labels.dropna()
    if known.nunique() < 2:
        raise UserError(
            f"The training patients have {known.nunique()} different labels for {task.name} "
            f"({len(known)} of {len(labels)} records have one); leave it out of --tasks, or "
            "take more records."
        )
    if task.kind == "regression":
        return Targets(task, mean=float(known.mean()), scale=float(known.std(ddof=0)))
    if task.kind == "binary":
        return Targets(task, classes=task.classes)
    # Ties are broken by name, so that the list does not depend on the order of records.
    counts = known.value_counts().reset_index().set_axis(["name", "count"], axis=1)
    ranked = counts.sort_values(["count", "name"], ascending=[False, True])["name"]
    frequent = ranked.head(ARRHYTHMIA_CLASSES - 1).astype(str)
    return Targets(task, classes=(*frequent, OTHERS))


def constant(
    targets: Targets, encoded: Float[np.ndarray, " record"]
) -> Float[np.ndarray, ""] | Int[np.ndarray, ""]:
    """The constant that does best on training records: their median, or their commonest class."""
    known = encoded[~np.isnan(encoded)]
    if targets.task.kind == "regression":
        return np.asarray(np.median(known))
    return np.asarray(np.bincount(known.astype(int)).argmax())
