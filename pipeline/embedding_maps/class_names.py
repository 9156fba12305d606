"""Names of the classes of binary labels."""

from typing import TYPE_CHECKING

from enecg.tasks import TASKS

if TYPE_CHECKING:
    import pandas as pd


def name_classes(label: "pd.Series") -> "pd.Series":
    """Replace 0 and 1 with class names if the column belongs to a binary task of the paper.

    Args:
        label: A column of a label table.

    Returns:
        The column with names such as ``female`` and ``male``. Other columns, and other values, are
        unchanged.
    """
    for task in TASKS.values():
        if task.classes and task.column == label.name:
            names = label.map(dict(enumerate(task.classes)))
            return names.where(names.notna(), label)
    return label
