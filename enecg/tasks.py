"""What is asked of an ECG: the tasks of EnECG (arXiv 2511.22935), and a lab's own.

For each: what is predicted, in which unit, how it is judged.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from enecg import metrics
from enecg.errors import UserError

Kind = Literal["regression", "binary", "multiclass"]


@dataclass(frozen=True)
class Task:
    """One question asked of an ECG.

    - `column`: the column of the label table that answers it.
    - `unit`: of a regression's values and error.
    - `metric_name`, `metric`: as the paper judges it; `higher_is_better` says which way.
    - `classes`: names of a binary task's classes 0 and 1; a multiclass task's are fitted on
      training patients.
    - `other_class`: the class of all labels that are not among a multiclass task's frequent ones;
      without it every label of the training patients is a class of its own.
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

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger metric is the better one."""
        return self.kind != "regression"


ARRHYTHMIA_CLASSES = 15
"""The 14 most frequent diagnoses of the training patients, and `OTHER_CLASS`."""
OTHER_CLASS = "Others"

TASKS = {
    task.name: task
    for task in (
        Task(
            "rr_interval",
            "RR interval",
            "regression",
            "rr_interval",
            "ms",
            "MAE",
            metrics.mean_absolute_error,
        ),
        Task(
            "age",
            "Age",
            "regression",
            "age",
            "years",
            "MAE",
            metrics.mean_absolute_error,
        ),
        Task("sex", "Sex", "binary", "sex", "", "macro-F1", metrics.macro_f1, ("female", "male")),
        Task(
            "potassium",
            "Potassium abnormality",
            "binary",
            "potassium",
            "",
            "macro-F1",
            metrics.macro_f1,
            ("normal", "abnormal"),
        ),
        Task(
            "arrhythmia",
            "Arrhythmia",
            "multiclass",
            "diagnosis",
            "",
            "accuracy",
            metrics.accuracy,
            other_class=OTHER_CLASS,
        ),
    )
}
"""The paper's tasks, in its order."""

ALL = "all"

_JUDGED_BY: dict[Kind, tuple[str, Callable[[np.ndarray, np.ndarray], float]]] = {
    "regression": ("MAE", metrics.mean_absolute_error),
    "binary": ("macro-F1", metrics.macro_f1),
    "multiclass": ("accuracy", metrics.accuracy),
}
_NAME = re.compile(r"[^\W_][\w -]*")
_LAYERS = ("hidden", "prediction", "base_layer", "original_module")
_PEFT_MARKS = ("lora_", "modules_to_save")


def parse_task(spec: str) -> Task:
    """A lab's own task, from `NAME:KIND` or `NAME:regression:UNIT`; the name is that of a column.

    A binary task's classes are not known before its labels are. Raises UserError where the kind
    is none, or the name cannot be a task's.
    """
    name, _, rest = (part.strip() for part in spec.partition(":"))
    word, colon, unit = (part.strip() for part in rest.partition(":"))
    kind = next((one for one in _JUDGED_BY if one == word), None)
    if kind is None:
        raise UserError(
            f"{spec!r} is no task: write NAME:KIND, KIND one of {', '.join(_JUDGED_BY)}, or "
            "NAME:regression:UNIT."
        )
    if colon and kind != "regression":
        raise UserError(f"{spec!r} has a unit, which a {kind} task has not; write {name}:{kind}.")
    if "|" in unit:
        raise UserError(f"The unit of {spec!r} has a |, which would end a cell of a table.")
    if name in TASKS or name == ALL:
        raise UserError(
            f"A task of your own cannot be called {name!r}, which --tasks knows already; give the "
            "column another name."
        )
    if not _NAME.fullmatch(name) or _taken(name):
        raise UserError(
            f"{name!r} cannot name a task: that takes letters, digits, _, - and spaces, and no "
            "word that torch or peft keeps for itself; give the column another name."
        )
    return custom_task(name, kind, unit)


def custom_task(name: str, kind: Kind, unit: str = "", classes: tuple[str, ...] = ()) -> Task:
    """A lab's own task from its parts; it is judged as the paper judges tasks of its kind.

    Its labels have a column of their own beside those of the paper's tasks.
    """
    title = name.replace("_", " ")
    return Task(name, title, kind, f"own:{name}", unit, *_JUDGED_BY[kind], classes)


def _taken(name: str) -> bool:
    """Whether a head of this name would hide a part of torch's modules or of peft's adapters."""
    # Imported here, for a table of results knows tasks and should not wait for torch.
    from torch import nn

    # peft takes every module for the output layer whose name ends as its does.
    in_the_way = (
        name in _LAYERS or name.endswith("prediction") or any(mark in name for mark in _PEFT_MARKS)
    )
    return in_the_way or hasattr(nn.ModuleDict(), name)


def parse_tasks(specs: Iterable[str]) -> tuple[Task, ...]:
    """A lab's own tasks. Raises UserError where two have one name, or one cannot be."""
    tasks = {}
    for task in map(parse_task, specs):
        if task.name in tasks:
            raise UserError(f"The task {task.name!r} is given twice; leave one of them out.")
        tasks[task.name] = task
    return tuple(tasks.values())


def select_tasks(names: Iterable[str], own: tuple[Task, ...] = ()) -> tuple[Task, ...]:
    """Tasks by name, of the paper's and these of a lab's own.

    Raises UserError for a name that is no task.
    """
    known = TASKS | {task.name: task for task in own}
    chosen = dict.fromkeys(names)
    for name in chosen:
        if name not in known:
            raise UserError(f"There is no task {name!r}; there are {', '.join(known)}, and all.")
    return tuple(known[name] for name in chosen)
