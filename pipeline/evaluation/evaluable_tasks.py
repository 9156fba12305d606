"""Select the tasks of a run that can be evaluated on a label table."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool

from enecg.tasks import Task
from pipeline.labels.targets import Targets


def has_target(targets: Targets, labels: pd.DataFrame) -> Bool[np.ndarray, " record"]:
    """Return which records have a label that the task's targets can encode."""
    known: np.ndarray = ~np.isnan(targets.encode(labels[targets.task.column]))
    return known


def select_tasks(
    targets: Sequence[dict[str, Targets]],
    labels: pd.DataFrame,
    unseen: Bool[np.ndarray, "repeat record"],
) -> tuple[tuple[Task, ...], tuple[str, ...]]:
    """Select the tasks for which every repeat has unseen records with a label.

    Args:
        targets: Fitted targets of each repeat, by task.
        labels: Label table, one row per record.
        unseen: Records that each repeat may be evaluated on.

    Returns:
        The tasks, and one note for each task or label that is skipped.
    """
    tasks, unlabeled, notes = [], [], []
    for name, first in targets[0].items():
        task = first.task
        if task.column not in labels or labels[task.column].isna().all():
            unlabeled.append(name)
            continue
        known_labels = labels[task.column].dropna()
        if task.kind == "multiclass":
            unknown = int((~known_labels.isin(first.classes)).sum())
            if unknown == len(known_labels):
                notes.append(f"{task.title} is skipped: no label is one of the run's classes.")
                continue
            if unknown:
                handling = f"count as {task.other_class}" if task.other_class else "are skipped"
                notes.append(
                    f"{task.title}: {unknown} of {len(known_labels)} labels are not among the "
                    f"run's classes and {handling}."
                )
        if not all(
            (has_target(of_repeat[name], labels) & mask).any()
            for of_repeat, mask in zip(targets, unseen, strict=True)
        ):
            notes.append(
                f"{task.title} is skipped: at least one repeat was trained or validated on every "
                "patient with a label."
            )
            continue
        tasks.append(task)
    if unlabeled:
        notes.append(f"Skipped without labels: {', '.join(unlabeled)}.")
    return tuple(tasks), tuple(notes)
