"""Notes on labels of multilabel tasks that cannot be trained or have no positive records."""

from collections import Counter
from collections.abc import Iterable, Sequence

from enecg.tasks import Task
from pipeline.labels.label_lists import count_labels
from pipeline.labels.targets import fit_targets
from pipeline.training.cohorts import Cohort
from pipeline.training.inputs import Inputs

_NAMES = 5
"""Maximum number of labels that a note names."""


def note_rare_labels(cohorts: Sequence[Cohort], inputs: Inputs) -> list[str]:
    """Return notes on labels that cannot be trained, or that no validation or test record has.

    Args:
        cohorts: The cohort of each repeat.
        inputs: Labels and tasks.

    Returns:
        Notes, one sentence each.
    """
    notes = []
    for task in inputs.tasks:
        if task.kind == "multilabel":
            notes += _note_task(task, cohorts, inputs)
    return notes


def _note_task(task: Task, cohorts: Sequence[Cohort], inputs: Inputs) -> list[str]:
    column = inputs.labels[task.column]
    all_labels = set(count_labels(column))
    untrained, no_validation, no_test = Counter[str](), Counter[str](), Counter[str]()
    for cohort in cohorts:
        classes = fit_targets(task, column.loc[cohort.train]).classes
        untrained.update(all_labels - set(classes))
        for counter, records in ((no_validation, cohort.validation), (no_test, cohort.test)):
            positives = count_labels(column.loc[records])
            counter.update(label for label in classes if not positives[label])
    title, repeats = task.title, len(cohorts)
    notes = []
    if untrained:
        notes.append(
            f"{title}: excluded {_list(untrained, repeats)} that occur in none or all of the "
            "training records."
        )
    if no_validation:
        notes.append(f"{title}: no positive validation record for {_list(no_validation, repeats)}.")
    if no_test:
        notes.append(
            f"{title}: no positive test record for {_list(no_test, repeats)}; excluded from the "
            "means over labels."
        )
    return notes


def _list(labels: Counter[str], repeats: int) -> str:
    """List labels, with the number of repeats if it is not all of them."""
    named = (
        label if count == repeats else f"{label} in {count} of {repeats} repeats"
        for label, count in sorted(labels.items())
    )
    return f"{len(labels)} labels ({', '.join(_first(named))}{', ...' * (len(labels) > _NAMES)})"


def _first(names: Iterable[str]) -> list[str]:
    return list(names)[:_NAMES]
