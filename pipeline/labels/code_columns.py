"""Binary labels for single codes in a column of lists, such as `dx_164889003` from `dx`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from enecg.errors import UserError
from enecg.tasks import Task
from pipeline.datasets.base import CODE_COLUMNS
from pipeline.datasets.label_columns import parse_nullable_strings, quote_examples

ABSENT, PRESENT = "absent", "present"
"""Labels of a record whose list does not contain, or contains, the code."""


def split_name(name: str) -> tuple[str, str]:
    """Return ``("dx", "164889003")`` for ``dx_164889003``; empty strings for other names."""
    column, _, code = name.partition("_")
    return (column, code) if column in CODE_COLUMNS and code else ("", "")


def add_code_columns(
    table: pd.DataFrame, tasks: Sequence[Task], source: str, *, trained: bool
) -> tuple[pd.DataFrame, list[Task]]:
    """Add a column for each task that refers to a code.

    Args:
        table: Table of labels. A column that already has the name of a task is kept.
        tasks: Custom tasks.
        source: Name of the table, for error messages.
        trained: Whether the tasks come from a run. If True, a code without records is not an error.

    Returns:
        The table with a column for each task that refers to a code: `ABSENT`, `PRESENT` or, without
        a list, missing; and the tasks, with `PRESENT` as the default positive class.

    Raises:
        UserError: No record has the code of a task.
    """
    completed = []
    for task in tasks:
        column, code = split_name(task.name)
        if column in table and task.name not in table:
            lists = [_split(text) for text in parse_nullable_strings(table[column]).fillna("")]
            counts = Counter(item for items in lists for item in dict.fromkeys(items))
            if code not in counts and not trained:
                raise UserError(
                    f"{source}: no record has the code {code!r} in the column {column} (most "
                    f"frequent: {quote_examples([item for item, _ in counts.most_common()])}); "
                    "correct the code or omit the task."
                )
            labels = [(PRESENT if code in items else ABSENT) if items else None for items in lists]
            table = table.assign(**{task.name: pd.Series(labels, table.index, dtype="string")})
            if task.kind == "binary" and not task.positive:
                task = replace(task, positive=PRESENT)
        completed.append(task)
    return table, completed


def describe_code_task(task: Task) -> str:
    """Return a sentence for an error message if the task is on a column of lists, else ``""``."""
    if task.name not in CODE_COLUMNS:
        return ""
    single = f"{task.name}_{task.positive or 'CODE'}:binary"
    return f" For a single code, write --task {single}; for all, {task.name}:multilabel."


def _split(text: str) -> list[str]:
    items = (item.strip() for item in text.replace(";", ",").split(","))
    return [item for item in items if item]
