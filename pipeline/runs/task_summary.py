"""Summary of a task, as stored in `results.json` for tables and plots."""

from dataclasses import dataclass, fields
from typing import Self

from enecg.tasks import Kind, Task


@dataclass(frozen=True)
class TaskSummary:
    """Summary of an `enecg.tasks.Task`, as stored in `results.json` for tables and plots.

    Attributes:
        name: Name in files and command-line options.
        title: Name in tables and plots.
        kind: ``"regression"``, ``"binary"`` or ``"multiclass"``.
        unit: Unit of a regression task; empty for other kinds.
        metric_name: Name of the main metric.
        higher_is_better: Whether higher values of the main metric are better.
        classes: Class names of a binary task. Empty for regression tasks, which have no classes,
            and for multiclass tasks, whose classes differ between repeats.
    """

    name: str
    title: str
    kind: Kind
    unit: str
    metric_name: str
    higher_is_better: bool
    classes: tuple[str, ...]

    @classmethod
    def from_task(cls, task: Task) -> Self:
        """Copy the fields of a task."""
        return cls(**{field.name: getattr(task, field.name) for field in fields(cls)})
