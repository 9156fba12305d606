"""Labels of multilabel tasks: a tuple of labels per record.

They come from a column of codes or from one column per label. An empty cell is a missing label. In
a column of codes, `NO_LABEL` means that a record has none of the labels.
"""

import ast
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from enecg.errors import UserError
from enecg.tasks import Task
from pipeline.datasets.label_columns import (
    count_missing,
    list_classes,
    parse_nullable_strings,
    parse_strings,
    quote_examples,
)

SEPARATORS = (";", "|", ",")
"""Separators of codes. The first of them that occurs in a column is used for all its cells."""

NO_LABEL = "-"
"""Value in a column of codes for a record that has none of the labels."""

MAX_LABELS = 200
"""Maximum number of labels of a task. A column with more labels probably does not contain codes."""

_PRESENCE = {
    **dict.fromkeys(("1", "true", "yes", "present"), True),
    **dict.fromkeys(("0", "false", "no", "absent"), False),
}
"""Values of the column of a label, in lower case, and whether the record has the label."""


def read_lists(table: pd.DataFrame, task: Task, source: str, skipped: Counter[str]) -> pd.Series:
    """Read the labels of a multilabel task.

    Args:
        table: Columns as they are in the file.
        task: The task.
        source: Path of the file or ``"the data set"``, for messages.
        skipped: Updated with numbers of values that are treated as missing, keyed by description.

    Returns:
        A sorted tuple of labels per record; None for missing labels.

    Raises:
        UserError: A column of a label has values, but none of them is in `_PRESENCE`.
    """
    if task.columns:
        return _combine_columns(table, task, source, skipped)
    cells = parse_nullable_strings(table[task.name])
    stated = cells.dropna()
    separator = next(
        (mark for mark in SEPARATORS if stated.str.contains(mark, regex=False).any()), ","
    )
    lists = [None if cell is pd.NA else _split(cell, separator) for cell in cells]
    column = pd.Series(lists, cells.index, dtype=object)
    unreadable = cells.notna() & column.isna()
    where = f"{source}: values of {task.name} that are not lists of codes"
    count_missing(skipped, unreadable, table[task.name], where)
    return column


def _split(cell: str, separator: str) -> tuple[str, ...] | None:
    """Return the codes of a cell, which may be a Python dict or list; None if it is malformed."""
    if cell == NO_LABEL:
        return ()
    codes: Iterable[object] = cell.split(separator)
    if cell[0] in "{[":
        try:
            codes = list(ast.literal_eval(cell))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
    return tuple(sorted({text for code in codes if (text := str(code).strip())}))


def _combine_columns(
    table: pd.DataFrame, task: Task, source: str, skipped: Counter[str]
) -> pd.Series:
    presence = {}
    for name in task.columns:
        cells = parse_strings(table[name])
        values = cells.str.lower().map(_PRESENCE)
        unknown = cells.notna() & values.isna()
        if unknown.any() and values.isna().all():
            raise UserError(
                f"{source}: column {name} of the multilabel task {task.name} has only "
                f"unknown values such as {quote_examples(list_classes(cells))}; use 0 and 1."
            )
        count_missing(skipped, unknown, cells, f"{source}: values of {name} other than 0 and 1")
        presence[name] = values
    frame = pd.DataFrame(presence)
    partial = frame.isna().any(axis=1) & frame.notna().any(axis=1)
    if partial.any():
        skipped[
            f"{source}: records with a value in some columns of {task.name} only, such as record "
            f"{frame.index[partial][0]}, treated as missing"
        ] += int(partial.sum())
    names = np.array(sorted(task.columns), object)
    known = frame.notna().all(axis=1).to_numpy()
    has_label = frame[names].fillna(False).to_numpy(bool)
    lists = [
        tuple(names[row]) if kept else None for row, kept in zip(has_label, known, strict=True)
    ]
    return pd.Series(lists, frame.index, dtype=object)


def check_lists(lists: pd.Series, task: Task, source: str) -> None:
    """Check the number of different labels.

    Args:
        lists: Result of `read_lists`.
        task: The task.
        source: Path of the file or ``"the data set"``, for messages.

    Raises:
        UserError: There is no label, or there are more than `MAX_LABELS`.
    """
    names = sorted({label for labels in lists.dropna() for label in labels})
    if not names:
        raise UserError(
            f"{source}: no record has a label of the multilabel task {task.name}; add labels, or "
            "omit the task."
        )
    if len(names) > MAX_LABELS:
        raise UserError(
            f"{source}: column {task.name} has {len(names)} different codes "
            f"({quote_examples(names)}), but a multilabel task has at most {MAX_LABELS}; separate "
            "codes by ';', '|' or ',', or merge them."
        )


def count_labels(lists: pd.Series) -> Counter[str]:
    """Count the records of each label."""
    return Counter(label for labels in lists.dropna() for label in labels)


def encode_lists(lists: pd.Series, classes: Sequence[str]) -> Float[np.ndarray, "record label"]:
    """Encode tuples of labels as indicators.

    Args:
        lists: Tuples of labels; labels that are not in `classes` are ignored.
        classes: The labels, in the order of the columns.

    Returns:
        1 where a record has the label, else 0; NaN in the rows of missing labels.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    known = lists.notna().to_numpy()
    encoded = np.where(known[:, None], np.zeros(len(classes)), np.nan)
    for row in np.flatnonzero(known):
        columns = [numbers[label] for label in lists.iloc[row] if label in numbers]
        encoded[row, columns] = 1
    return encoded
