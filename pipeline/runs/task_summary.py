"""The fields of a task that tables and plots need, as stored in `results.json`."""

from dataclasses import dataclass, fields
from typing import Self

from enecg.tasks import Kind, Task


@dataclass(frozen=True)
class TaskSummary:
    """The fields of an `enecg.tasks.Task` that tables and plots need.

    Attributes:
        name: Identifier in files and command-line options.
        title: Heading in tables and plots.
        kind: ``"regression"``, ``"binary"``, ``"multiclass"`` or ``"multilabel"``.
        unit: Unit of the values of a regression task; empty for other kinds.
        metric_name: Name of the main metric.
        higher_is_better: Whether higher values of the main metric are better.
        classes: Names of classes 0 and 1 of a binary task. Empty for regression tasks, which have
            no classes, and for multiclass and multilabel tasks, whose classes or labels can differ
            between repeats.
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
        """Create the summary of a task."""
        return cls(**{field.name: getattr(task, field.name) for field in fields(cls)})
