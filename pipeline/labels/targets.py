"""From the label table to what a head is trained on, and back; fitted on training records."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from enecg.errors import UserError
from enecg.tasks import ARRHYTHMIA_CLASSES, TASKS, Task, make_own


@dataclass(frozen=True)
class Targets:
    """How a task's labels become numbers: a regression's mean and scale, or the list of classes.

    `constant`: what a predictor that looks at no ECG says, in the task's unit or as a class
    number: the median, or the commonest class; `shares`: how common each class is.
    """

    task: Task
    classes: tuple[str, ...] = ()
    mean: float = 0.0
    scale: float = 1.0
    constant: float = 0.0
    shares: tuple[float, ...] = ()

    @property
    def outputs(self) -> int:
        """How many numbers a head gives for this task."""
        return 1 if self.task.kind == "regression" else len(self.classes)

    def encode(self, labels: pd.Series) -> Float[np.ndarray, " record"]:
        """Standard units or class numbers, float64; NaN where the label is not known.

        Where a multiclass task has no class for the others, a label that no training record has
        is NaN too: there is no answer that would be right.
        """
        if self.task.kind == "regression":
            return (labels.to_numpy(np.float64) - self.mean) / self.scale
        if self.task.kind == "binary":
            return labels.to_numpy(np.float64, copy=True)
        number = {name: float(place) for place, name in enumerate(self.classes)}
        if self.task.others:
            labels = labels.where(labels.isin(self.classes) | labels.isna(), self.task.others)
        return labels.map(number).to_numpy(np.float64, na_value=np.nan, copy=True)

    def decode(self, standard: Float[np.ndarray, " record"]) -> Float[np.ndarray, " record"]:
        """A regression's predictions in its unit."""
        return standard * self.scale + self.mean

    def document(self) -> dict[str, Any]:
        """All of it as JSON values, to be read by `from_document`."""
        task = self.task
        return {
            "kind": task.kind,
            "unit": task.unit,
            "classes": list(self.classes),
            "mean": self.mean,
            "scale": self.scale,
            "constant": self.constant,
            "shares": list(self.shares),
        }


def from_document(name: str, document: dict[str, Any]) -> Targets:
    """The targets of a task that a run has saved. Raises KeyError where something is not there."""
    kind, classes = document["kind"], tuple(document["classes"])
    task = TASKS.get(name) or make_own(
        name,
        kind,
        document["unit"],
        classes if kind == "binary" else (),
    )
    return Targets(
        task,
        classes,
        document["mean"],
        document["scale"],
        document["constant"],
        tuple(document["shares"]),
    )


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
        middle, scale = float(known.mean()), float(known.std(ddof=0))
        return Targets(task, mean=middle, scale=scale, constant=float(known.median()))
    classes = task.classes
    if task.kind == "multiclass":
        # Ties are broken by name, so that the list does not depend on the order of records.
        counts = known.value_counts().reset_index().set_axis(["name", "count"], axis=1)
        ranked = counts.sort_values(["count", "name"], ascending=[False, True])["name"]
        ranked = ranked[ranked != task.others]
        classes = tuple(ranked.astype(str))
        if task.others:
            classes = (*classes[: ARRHYTHMIA_CLASSES - 1], task.others)
    targets = Targets(task, classes)
    number = targets.encode(known).astype(int)
    shares = np.bincount(number, minlength=len(classes)) / len(number)
    return replace(targets, constant=float(shares.argmax()), shares=tuple(shares.tolist()))


def constant(
    targets: Targets, encoded: Float[np.ndarray, " record"]
) -> Float[np.ndarray, ""] | Int[np.ndarray, ""]:
    """The constant that does best on training records: their median, or their commonest class."""
    known = encoded[~np.isnan(encoded)]
    if targets.task.kind == "regression":
        return np.asarray(np.median(known))
    return np.asarray(np.bincount(known.astype(int)).argmax())
