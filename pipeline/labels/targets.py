"""Training targets: labels encoded as numbers, with parameters fitted on training records."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from enecg.errors import UserError
from enecg.tasks import ARRHYTHMIA_CLASSES, TASKS, Kind, Task, custom_task
from pipeline.labels.label_lists import count_labels, encode_lists


@dataclass(frozen=True)
class Targets:
    """The encoding of a task's labels.

    Attributes:
        task: The task.
        classes: Class names, indexed by class number; empty for a regression. For a multilabel
            task, the labels with both positive and negative training records.
        mean: Mean of the training labels, in the task's unit (regression).
        scale: Standard deviation of the training labels, in the task's unit (regression).
        constant: Prediction of the constant predictor: the median of the training labels in the
            task's unit (regression), or the number of the most frequent class. 0 for a multilabel
            task, for which `shares` are the predicted probabilities.
        shares: Fraction of each class among the training labels, or fraction of training records
            with each label; empty for a regression.
    """

    task: Task
    classes: tuple[str, ...] = ()
    mean: float = 0.0
    scale: float = 1.0
    constant: float = 0.0
    shares: tuple[float, ...] = ()

    @property
    def outputs(self) -> int:
        """Number of outputs of a head for this task."""
        return 1 if self.task.kind == "regression" else len(self.classes)

    def encode(self, labels: pd.Series) -> Float[np.ndarray, "record *label"]:
        """Encode labels as standardized values, class numbers, or indicators.

        Args:
            labels: The task's column of the label table.

        Returns:
            The encoded labels as float64; NaN for missing labels. Labels that are not among
            `classes` are encoded as `task.other_class`, or as NaN if the task has no such class.
            For a multilabel task, one column per class; other labels are ignored.
        """
        if self.task.kind == "multilabel":
            return encode_lists(labels, self.classes)
        if self.task.kind == "regression":
            return (labels.to_numpy(np.float64) - self.mean) / self.scale
        if self.task.kind == "binary":
            return labels.to_numpy(np.float64, copy=True)
        numbers = {name: float(number) for number, name in enumerate(self.classes)}
        if self.task.other_class:
            labels = labels.where(labels.isin(self.classes) | labels.isna(), self.task.other_class)
        return labels.map(numbers).to_numpy(np.float64, na_value=np.nan, copy=True)

    def known(self, labels: pd.Series) -> Bool[np.ndarray, " record"]:
        """Return a mask of the records with a label that can be encoded."""
        mask: np.ndarray = is_known(self.encode(labels))
        return mask

    def decode(self, standardized: Float[np.ndarray, " record"]) -> Float[np.ndarray, " record"]:
        """Convert a regression's standardized values to the task's unit."""
        return standardized * self.scale + self.mean

    def to_document(self) -> dict[str, Any]:
        """Return the fields as a JSON document, which `from_document` reads."""
        return {
            "kind": self.task.kind,
            "unit": self.task.unit,
            "classes": list(self.classes),
            "mean": self.mean,
            "scale": self.scale,
            "constant": self.constant,
            "shares": list(self.shares),
            "columns": list(self.task.columns),
        }

    @classmethod
    def from_document(cls, name: str, document: dict[str, Any]) -> "Targets":
        """Restore targets from the document of a saved run.

        Args:
            name: Name of the task.
            document: Result of `to_document`.

        Returns:
            The targets.

        Raises:
            KeyError: A field is missing.
        """
        kind, classes = document["kind"], tuple(document["classes"])
        own_classes = classes if kind == "binary" else ()
        task = TASKS.get(name) or custom_task(name, kind, document["unit"], own_classes)
        task = replace(task, columns=tuple(document.get("columns", ())))
        return cls(
            task,
            classes,
            document["mean"],
            document["scale"],
            document["constant"],
            tuple(document["shares"]),
        )


def is_known(encoded: Float[np.ndarray, "record *label"]) -> Bool[np.ndarray, " record"]:
    """Return a mask of the records whose encoded label is not missing."""
    mask: np.ndarray = ~np.isnan(encoded.reshape(len(encoded), -1)).any(1)
    return mask


class Constant(NamedTuple):
    """The best constant prediction for some labels.

    Attributes:
        value: Median of the labels (regression), or the number of the most frequent class; 0 for
            a multilabel task.
        shares: Fraction of each class, or of records with each label; empty for a regression.
    """

    value: np.floating
    shares: Float[np.ndarray, " class"]


def fit_constant(kind: Kind, labels: Float[np.ndarray, "record *label"], outputs: int) -> Constant:
    """Fit the constant predictor.

    Args:
        kind: Kind of the task.
        labels: Labels of the training records, none missing: values (regression), class numbers,
            or indicators (multilabel).
        outputs: Number of classes; ignored for a regression or multilabel task.

    Returns:
        The constant prediction, in the unit of `labels`.
    """
    if kind == "regression":
        return Constant(np.median(labels), np.empty(0))
    if kind == "multilabel":
        return Constant(np.float64(0), labels.mean(0))
    shares = np.bincount(labels.astype(int), minlength=outputs) / len(labels)
    return Constant(np.float64(shares.argmax()), shares)


def fit_targets(task: Task, labels: pd.Series) -> Targets:
    """Fit the encoding and the constant predictor on training labels.

    Args:
        task: The task.
        labels: The task's column of the label table, for training records only.

    Returns:
        The targets.

    Raises:
        UserError: There are fewer than two distinct labels, or no label of a multilabel task has
            a positive and a negative record.
    """
    known = labels.dropna()
    if task.kind == "multilabel":
        targets = Targets(task, _fit_labels(task, known, len(labels)))
        shares = targets.encode(known).mean(0)
        return replace(targets, shares=tuple(shares.tolist()))
    if known.nunique() < 2:
        raise UserError(
            f"{task.name} has {known.nunique()} distinct labels among the training patients "
            f"({len(known)} of {len(labels)} records are labeled), but a task needs at least 2; "
            "omit the task, or use more records."
        )
    if task.kind == "regression":
        targets = Targets(task, mean=float(known.mean()), scale=float(known.std(ddof=0)))
        encoded = known.to_numpy(np.float64)
    else:
        targets = Targets(task, _fit_classes(task, known))
        encoded = targets.encode(known)
    constant = fit_constant(task.kind, encoded, targets.outputs)
    shares = tuple(constant.shares.tolist())
    return replace(targets, constant=float(constant.value), shares=shares)


def _fit_labels(task: Task, known: pd.Series, records: int) -> tuple[str, ...]:
    """Return the labels that some but not all records have, by decreasing frequency."""
    counts = count_labels(known)
    labels = sorted(
        (label for label, count in counts.items() if count < len(known)),
        key=lambda label: (-counts[label], label),
    )
    if not labels:
        raise UserError(
            f"Each label of {task.name} is in all or in none of the {len(known)} labeled training "
            f"records (of {records} in total); remove the task from --task, or use more records."
        )
    return tuple(labels)


def _fit_classes(task: Task, known: pd.Series) -> tuple[str, ...]:
    """Return the classes; if not binary, by decreasing frequency with `other_class` last."""
    if task.kind == "binary":
        return task.classes
    # Ties are broken by name, so that the result does not depend on the order of the records.
    counts = known.value_counts().reset_index().set_axis(["name", "count"], axis=1)
    ranked = counts.sort_values(["count", "name"], ascending=[False, True])["name"]
    classes = tuple(ranked[ranked != task.other_class].astype(str))
    if task.other_class:
        classes = (*classes[: ARRHYTHMIA_CLASSES - 1], task.other_class)
    return classes
