"""Selection of the tasks of a run that can be evaluated on other labels."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool

from enecg.tasks import Task
from pipeline.labels.label_lists import count_labels
from pipeline.labels.targets import Targets


def select_tasks(
    targets: Sequence[dict[str, Targets]],
    labels: pd.DataFrame,
    unseen: Bool[np.ndarray, "repeat record"],
) -> tuple[tuple[Task, ...], tuple[str, ...]]:
    """Select the tasks for which every repeat has labeled records of unseen patients.

    Args:
        targets: Fitted targets of each repeat, by task.
        labels: Label table, one row per record.
        unseen: Mask of the records of unseen patients, see `find_unseen`.

    Returns:
        The tasks, and notes on skipped tasks and labels.
    """
    tasks, unlabeled, notes = [], [], []
    for name, first in targets[0].items():
        task = first.task
        if task.column not in labels or labels[task.column].isna().all():
            unlabeled.append(name)
            continue
        known_labels = labels[task.column].dropna()
        # Repeats are trained on different records, so their classes can differ.
        classes = [by_task[name].classes for by_task in targets]
        common = set(first.classes).intersection(*classes)
        if task.kind == "multiclass":
            if not all(known_labels.isin(of_repeat).any() for of_repeat in classes):
                notes.append(
                    f"{task.title} is skipped: for at least one repeat, no label is one of the "
                    "run's classes."
                )
                continue
            if unknown := int((~known_labels.isin(common)).sum()):
                handling = f"count as {task.other_class}" if task.other_class else "are skipped"
                notes.append(
                    f"{task.title}: {unknown} of {len(known_labels)} labels are not among the "
                    f"classes of at least one repeat and {handling} there."
                )
        if task.kind == "multilabel":
            counts = count_labels(known_labels)
            if unknown_labels := sorted(counts.keys() - common):
                notes.append(
                    f"{task.title}: {len(unknown_labels)} labels, such as {unknown_labels[0]} "
                    f"({counts[unknown_labels[0]]} records), are not among those of at least one "
                    "repeat and are ignored there."
                )
        if not all(
            (by_task[name].known(labels[task.column]) & mask).any()
            for by_task, mask in zip(targets, unseen, strict=True)
        ):
            notes.append(
                f"{task.title} is skipped: for at least one repeat, all patients with a usable "
                "label were used for training or validation."
            )
            continue
        tasks.append(task)
    if unlabeled:
        notes.append(f"Skipped tasks without labels: {', '.join(unlabeled)}.")
    return tuple(tasks), tuple(notes)
