"""Selection of tasks if the repeats of a run have different classes."""

import numpy as np
import pandas as pd
import pytest

from enecg.tasks import Kind, custom_task
from pipeline.evaluation.evaluable_tasks import select_tasks
from pipeline.labels.targets import Targets


def select(kind: Kind, labels: list[object], *classes: tuple[str, ...]) -> tuple[int, str]:
    """Return the number of selected tasks and the notes, for the classes of each repeat."""
    task = custom_task("rhythm", kind)
    targets = [{"rhythm": Targets(task, of_repeat)} for of_repeat in classes]
    unseen = np.ones((len(classes), len(labels)), bool)
    tasks, notes = select_tasks(targets, pd.DataFrame({task.column: labels}), unseen)
    return len(tasks), " ".join(notes)


@pytest.mark.parametrize("classes", [[("a", "b"), ("a", "b", "c")], [("a", "b", "c"), ("a", "b")]])
def test_labels_without_a_class_in_some_repeats_are_counted(classes: list[tuple[str, ...]]):
    count, notes = select("multiclass", ["a", "b", "c"], *classes)
    assert count == 1
    assert notes == (
        "rhythm: 1 of 3 labels are not among the classes of at least one repeat and are skipped "
        "there."
    )
    count, notes = select("multilabel", [("a",), ("b", "c"), ("c",)], *classes)
    assert count == 1
    assert notes == (
        "rhythm: 1 labels, such as c (2 records), are not among those of at least one repeat and "
        "are ignored there."
    )


def test_task_without_a_known_label_in_some_repeat_is_skipped():
    assert select("multiclass", ["a", "b"], ("a", "b"), ("c", "d")) == (
        0,
        "rhythm is skipped: for at least one repeat, no label is one of the run's classes.",
    )
    assert select("multiclass", ["a", "c"], ("a", "b"), ("c", "d"))[0] == 1
