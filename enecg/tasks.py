"""Prediction tasks: the five tasks of EnECG (arXiv 2511.22935) and user-defined tasks."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from enecg import label_metrics, metrics
from enecg.errors import UserError

Kind = Literal["regression", "binary", "multiclass", "multilabel"]


@dataclass(frozen=True)
class Task:
    """A prediction task.

    Attributes:
        name: Identifier in options and result files.
        title: Heading in tables.
        kind: Kind of target.
        column: Column of the label table that contains the labels.
        unit: Unit of the values and errors of a regression; empty if unknown, and for other kinds.
        metric_name: Name of the main metric.
        metric: Main metric, called as ``metric(truth, predicted)``, or as ``metric(truth,
            probability)`` for a multilabel task.
        classes: Names of classes 0 and 1 of a binary task. Empty if the names are derived from the
            labels, as always for a multiclass task.
        other_class: Name of the class to which all infrequent labels of a multiclass task are
            assigned. Empty if every label of the training patients is a class of its own.
        positive: Requested name of class 1 of a binary task whose classes are derived from the
            labels. Empty selects the last one in sorted order.
        columns: Columns of a multilabel task that has one column per label. Empty if the labels
            are codes in one column.
    """

    name: str
    title: str
    kind: Kind
    column: str
    unit: str
    metric_name: str
    metric: Callable[[np.ndarray, np.ndarray], float]
    classes: tuple[str, ...] = ()
    other_class: str = ""
    positive: str = ""
    columns: tuple[str, ...] = ()

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value of the main metric is better."""
        return self.kind != "regression"


ARRHYTHMIA_CLASSES = 15
"""Number of classes: the 14 most frequent diagnoses of the training patients and `OTHER_CLASS`."""

OTHER_CLASS = "Others"
"""Class of all less frequent diagnoses."""

_MAIN_METRICS: dict[Kind, tuple[str, Callable[[np.ndarray, np.ndarray], float]]] = {
    "regression": ("MAE", metrics.mean_absolute_error),
    "binary": ("macro-F1", metrics.macro_f1),
    "multiclass": ("accuracy", metrics.accuracy),
    "multilabel": ("macro-AUROC", label_metrics.auroc_of_labels),
}
"""Name and function of the main metric of each kind of task: the metric of the paper, or that of
PTB-XL's benchmark for multilabel tasks, which are not part of the paper."""


def _paper_task(
    name: str,
    title: str,
    kind: Kind,
    column: str,
    unit: str = "",
    classes: tuple[str, ...] = (),
    other_class: str = "",
) -> Task:
    return Task(name, title, kind, column, unit, *_MAIN_METRICS[kind], classes, other_class)


TASKS = {
    task.name: task
    for task in (
        _paper_task("rr_interval", "RR interval", "regression", "rr_interval", "ms"),
        _paper_task("age", "Age", "regression", "age", "years"),
        _paper_task("sex", "Sex", "binary", "sex", classes=("female", "male")),
        _paper_task(
            "potassium",
            "Potassium abnormality",
            "binary",
            "potassium",
            classes=("normal", "abnormal"),
        ),
        _paper_task("arrhythmia", "Arrhythmia", "multiclass", "diagnosis", other_class=OTHER_CLASS),
    )
}
"""The tasks of the paper, in its order."""

ALL = "all"
"""Value of `--tasks` that selects every task with labels."""

_NAME = re.compile(r"[^\W_][\w -]*")
_LAYERS = ("hidden", "prediction", "base_layer", "original_module")
"""Names of layers in heads and in modules that peft wraps."""
_PEFT_MARKS = ("lora_", "modules_to_save")
"""Substrings of the names of tensors that peft adds."""


def parse_task(spec: str) -> Task:
    """Parse a user-defined task.

    Args:
        spec: `NAME:KIND`, `NAME:regression:UNIT`, `NAME:binary:POSITIVE` or
            `NAME:multilabel:COLUMN+COLUMN...`. NAME is a column of the label file, KIND the kind of
            the task, and POSITIVE the column's value for the positive class. With COLUMNs, NAME is
            only the name of the task, and each COLUMN contains one label as 0 or 1.

    Returns:
        The task. The classes of a binary task are empty until its labels are read.

    Raises:
        UserError: The spec is malformed, or the name is reserved.
    """
    name, _, rest = (part.strip() for part in spec.partition(":"))
    kind_text, colon, detail = (part.strip() for part in rest.partition(":"))
    kind = next((kind for kind in _MAIN_METRICS if kind == kind_text), None)
    if kind is None:
        raise UserError(
            f"{spec!r} is not a valid task; use NAME:KIND (KIND is one of "
            f"{', '.join(_MAIN_METRICS)}), NAME:regression:UNIT, NAME:binary:POSITIVE or "
            "NAME:multilabel:COLUMN+COLUMN."
        )
    if colon and kind == "multiclass":
        raise UserError(
            f"{spec!r} has a unit or a positive class, which a multiclass task does not accept; "
            f"use {name}:{kind}."
        )
    if colon and kind == "binary" and not detail:
        raise UserError(
            f"{spec!r} does not name the positive class; use {name}:binary:POSITIVE with one of "
            f"the column's two values, or {name}:binary."
        )
    columns = tuple(part.strip() for part in detail.split("+")) if kind == "multilabel" else ()
    if colon and kind == "multilabel" and (len(set(columns)) < 2 or "" in columns):
        raise UserError(
            f"{spec!r} does not name two or more different columns; use "
            f"{name}:multilabel:COLUMN+COLUMN, or {name}:multilabel for a column of codes."
        )
    if "|" in detail:
        parts = {"regression": "unit", "binary": "positive class"}
        part = parts.get(kind, "label column")
        raise UserError(
            f"The {part} of {spec!r} contains '|', which separates table cells; use another {part}."
        )
    if name in TASKS or name == ALL:
        raise UserError(f"{name!r} is a built-in value of --tasks; rename your task or its column.")
    if not _NAME.fullmatch(name) or _is_reserved(name):
        raise UserError(
            f"{name!r} is not a valid task name; rename it or its column. Names consist of "
            "letters, digits, _, - and spaces, and must not be reserved by torch or peft."
        )
    task = custom_task(name, kind, detail if kind == "regression" else "")
    if kind == "multilabel":
        return replace(task, columns=columns if colon else ())
    return replace(task, positive=detail) if kind == "binary" else task


def custom_task(name: str, kind: Kind, unit: str = "", classes: tuple[str, ...] = ()) -> Task:
    """Create a user-defined task with the main metric of its kind.

    Args:
        name: Name of the task, and of its column in the label file unless it has `columns`.
        kind: Kind of target.
        unit: Unit of a regression.
        classes: Names of the classes, if known.

    Returns:
        The task. Its `column` differs from the columns of the paper's tasks.
    """
    title = name.replace("_", " ")
    return Task(name, title, kind, f"own:{name}", unit, *_MAIN_METRICS[kind], classes)


def _is_reserved(name: str) -> bool:
    """Return whether a head of this name would conflict with names that torch or peft uses."""
    # Imported here so that printing result tables does not import torch.
    from torch import nn

    # peft finds the output layer by the suffix of the module name.
    ambiguous = (
        name in _LAYERS or name.endswith("prediction") or any(mark in name for mark in _PEFT_MARKS)
    )
    return ambiguous or any(hasattr(kind(), name) for kind in (nn.ModuleDict, nn.ParameterDict))


def parse_tasks(specs: Iterable[str]) -> tuple[Task, ...]:
    """Parse user-defined tasks.

    Args:
        specs: Specs in the format of `parse_task`.

    Returns:
        The tasks, in order.

    Raises:
        UserError: A spec is invalid, or two tasks have the same name.
    """
    tasks = {}
    for task in map(parse_task, specs):
        if task.name in tasks:
            raise UserError(f"Task {task.name!r} is given twice; remove one of them.")
        tasks[task.name] = task
    return tuple(tasks.values())


def select_tasks(names: Iterable[str], own: tuple[Task, ...] = ()) -> tuple[Task, ...]:
    """Select tasks by name.

    Args:
        names: Names of tasks; duplicates are ignored.
        own: User-defined tasks that can be selected in addition to those of the paper.

    Returns:
        The tasks, in the order of `names`.

    Raises:
        UserError: A name is unknown.
    """
    available = TASKS | {task.name: task for task in own}
    selected = dict.fromkeys(names)
    for name in selected:
        if name not in available:
            raise UserError(f"Unknown task {name!r}; available: {', '.join(available)}, all.")
    return tuple(available[name] for name in selected)
