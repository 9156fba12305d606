"""What is asked of a data set: the labels, its own or a file's, and a lab's own tasks."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from enecg.errors import UserError
from enecg.tasks import Task
from pipeline.datasets.base import Dataset
from pipeline.datasets.id_columns import ID_COLUMNS, PATIENT_COLUMNS
from pipeline.labels import label_values as values
from pipeline.labels.label_file import read_label_file
from pipeline.labels.rules import PLAUSIBLE_RR_MS

MAX_CLASSES = 50
"""Of a multiclass task of a lab's own; a column with more values is hardly a list of classes."""


@dataclass(frozen=True)
class Questions:
    """Labels indexed by `record_id`: `patient_id`, and each task's column as `Targets` takes it.

    `own`: the lab's tasks, complete: a binary one has its classes.
    `source`: whose labels they are; `from_file`: not the data set's own. `notes`: what is to be
    said of them below every table.
    """

    table: pd.DataFrame
    own: tuple[Task, ...]
    source: str
    from_file: bool
    notes: tuple[str, ...]

    def has(self, task: Task) -> bool:
        """Whether there is a label at all for a task."""
        return task.column in self.table and bool(self.table[task.column].notna().any())


def ask(
    dataset: Dataset,
    file: str | Path | None,
    own: Sequence[Task],
    paper: Collection[Task],
    *,
    trained: bool = False,
) -> Questions:
    """The labels for a lab's `own` tasks, and for those of the `paper` that are asked.

    With a `file`, the data set's own tables of labels are not opened. `trained`: the tasks are
    those of a run, complete already, and one that has no column is left out. Raises UserError
    where an own task's column is not there, or a column does not hold what its task takes.
    """
    if file is None:
        raw = dataset.labels()
        source, table, columns = "the data set", raw.copy(), tuple(raw.columns)
        notes: tuple[str, ...] = ()
    else:
        wanted = {task.name for task in own} | {task.column for task in paper}
        index = dataset.index()
        of_file = read_label_file(Path(file), index, wanted)
        raw, source, notes, columns = of_file.table, str(file), of_file.notes, of_file.columns
        table = pd.DataFrame({"patient_id": index.patient_id}, index=raw.index)
        for task in paper:
            if task.column in raw:
                table[task.column] = of_the_paper(task, raw[task.column], source)
    complete = []
    for task in own:
        if task.name not in raw or task.name in PATIENT_COLUMNS:
            if trained:
                continue
            no_labels = (*ID_COLUMNS, *PATIENT_COLUMNS)
            there = ", ".join(name for name in columns if name not in no_labels)
            raise UserError(
                f"There is no column of labels {task.name!r} in {source}, there are {there}; "
                "name one of them."
            )
        table[task.column] = _read(task, raw[task.name], source)
        whole = task if trained else _complete(task, table[task.column], source)
        if whole.kind == "binary":
            table[task.column] = values.class_numbers(
                table[task.column], whole.classes, task.name, source
            )
        complete.append(whole)
    positive = (
        f"{task.title}: {task.classes[1]!r} is the positive class, {task.classes[0]!r} the other."
        for task in complete
        if task.kind == "binary"
    )
    return Questions(table, tuple(complete), source, file is not None, (*notes, *positive))


_LETTERS = {"sex": (("f", "m"),)}
"""Other spellings of the classes 0 and 1 of a task."""


def of_the_paper(task: Task, column: pd.Series, source: str) -> pd.Series:
    """A table's labels for one of the paper's tasks, as `LABEL_COLUMNS` tells them.

    Raises UserError where there is something else in the column; `source`: whose it is.
    """
    if task.kind == "multiclass":
        return values.words(column)
    if task.kind == "regression":
        known = values.numbers(column, task.column, source)
        if task.name == "rr_interval":
            known = known.where(known.between(*PLAUSIBLE_RR_MS))
        return known
    spellings = (*values.TWO_CLASSES, task.classes, *_LETTERS.get(task.name, ()))
    return values.class_numbers_of_any(values.words(column), spellings, task.column, source)


def _read(task: Task, column: pd.Series, source: str) -> pd.Series:
    if task.kind == "regression":
        return values.numbers(column, task.name, source)
    return values.words(column)


def _complete(task: Task, column: pd.Series, source: str) -> Task:
    """A lab's own task with all that its labels tell of it."""
    if task.kind == "regression":
        _refuse_unless_two(task, column.nunique(), source)
        return task
    words = tuple(values.distinct_words(column))
    _refuse_unless_two(task, len(words), source)
    if task.kind == "binary":
        if len(words) > 2:
            raise UserError(
                f"{task.name} in {source} has {len(words)} different values, "
                f"{values.examples(words)}, and a binary task two; ask for it as multiclass or "
                "regression, or leave what is unknown empty."
            )
        return replace(task, classes=words)
    if len(words) > MAX_CLASSES:
        raise UserError(
            f"{task.name} in {source} has {len(words)} different values, and a multiclass task "
            f"at most {MAX_CLASSES}; bring them together, or ask for it as regression."
        )
    return task


def _refuse_unless_two(task: Task, different: int, source: str) -> None:
    if different < 2:
        raise UserError(
            f"{task.name} in {source} has {different} different values for the data set's "
            "records, and nothing can be learned from fewer than two; leave the task out."
        )
