"""The tasks of EnECG (arXiv 2511.22935): what is predicted, in which unit, how it is judged."""

from collections.abc import Callable
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
    """

    name: str
    title: str
    kind: Kind
    column: str
    unit: str
    metric_name: str
    metric: Callable[[np.ndarray, np.ndarray], float]
    classes: tuple[str, ...] = ()

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger metric is the better one."""
        return self.kind != "regression"


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
        Task("age", "Age", "regression", "age", "years", "MAE", metrics.mean_absolute_error),
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
            "arrhythmia", "Arrhythmia", "multiclass", "diagnosis", "", "accuracy", metrics.accuracy
        ),
    )
}
"""The paper's tasks, in its order."""

ARRHYTHMIA_CLASSES = 15
"""The 14 most frequent diagnoses of the training patients, and `OTHERS`."""
OTHERS = "Others"


def choose(names: tuple[str, ...]) -> tuple[Task, ...]:
    """Tasks by name. Raises UserError for a name that is no task."""
    for name in names:
        if name not in TASKS:
            raise UserError(f"There is no task {name!r}; there are {', '.join(TASKS)}, and all.")
    return tuple(TASKS[name] for name in names)
