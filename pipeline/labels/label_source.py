"""Labels for training and evaluation, read from a data set or a label file."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from enecg.errors import UserError
from enecg.tasks import Task
from pipeline.datasets.base import Dataset
from pipeline.datasets.id_columns import ID_COLUMNS, PATIENT_COLUMNS
from pipeline.datasets.label_columns import (
    count_missing,
    list_classes,
    parse_numbers,
    parse_strings,
    quote_examples,
)
from pipeline.datasets.label_values import parse_label
from pipeline.datasets.plausibility import find_suspicious_values, remove_implausible
from pipeline.datasets.record_labels import describe_skipped
from pipeline.labels.code_columns import add_code_columns, describe_code_task, split_name
from pipeline.labels.dataset_labels import read_dataset_labels
from pipeline.labels.label_file import read_label_file
from pipeline.labels.label_lists import check_lists, read_lists

MAX_CLASSES = 50
"""Maximum number of classes of a custom task. A column with more is probably not categorical."""


@dataclass(frozen=True)
class LabelSource:
    """Labels of the records of a data set for a set of tasks.

    Attributes:
        table: `patient_id`, one column per task with labels and, if the labels are not from a file,
            all other columns of the data set, indexed by `record_id`.
        own: The custom tasks that have a column, with the names of the classes if they are binary.
        source: ``"the data set"``, or the path of the label file.
        from_file: Whether the labels were read from a label file.
        notes: Sentences to print below every results table.
        unused: Those of `notes` that count ignored or replaced values.
    """

    table: pd.DataFrame
    own: tuple[Task, ...]
    source: str
    from_file: bool
    notes: tuple[str, ...]
    unused: tuple[str, ...]

    def has(self, task: Task) -> bool:
        """Return whether any record has a label for this task."""
        return task.column in self.table and bool(self.table[task.column].notna().any())


def resolve_labels(
    dataset: Dataset,
    file: str | Path | None,
    own: Sequence[Task],
    paper: Collection[Task],
    *,
    missing_values: Sequence[str] = (),
    trained: bool = False,
) -> LabelSource:
    """Return the labels for custom tasks and tasks of the paper.

    Args:
        dataset: The data set.
        file: Path of a label file to use instead of the data set's own labels; None uses the data
            set's labels.
        own: Custom tasks.
        paper: Tasks of the paper to read from the label file; ignored without a file.
        missing_values: Values that mean missing; see `parse_missing_values`.
        trained: Whether the tasks come from a run. If True, their classes are already set, and
            missing columns are not errors: tasks without a column are omitted.

    Returns:
        The labels, in the order of the data set's index.

    Raises:
        UserError: The label file or a missing value is invalid, a column of a custom task or of a
            missing value does not exist, or a column has values that its task does not accept.
    """
    skipped: Counter[str] = Counter()
    notes: tuple[str, ...] = ()
    codes = parse_missing_values(missing_values)
    if file is None:
        labels = read_dataset_labels(dataset)
        raw = _remove_codes(labels.values(), codes)
        source, table, columns = "the data set", raw.copy(), tuple(map(str, raw))
        skipped += labels.skipped
    else:
        names = {task.name for task in own} | {task.column for task in paper}
        names |= {split_name(task.name)[0] for task in own}
        names |= {name for task in own for name in task.columns}
        index = dataset.index()
        label_file = read_label_file(Path(file), index, names)
        raw, columns = _remove_codes(label_file.rows.table, codes), label_file.rows.columns
        notes = label_file.notes
        source = str(label_file.rows.path)
        table = pd.DataFrame({"patient_id": index.patient_id}, index=raw.index)
        for label in [task.column for task in paper if task.column in raw]:
            parsed = parse_label(label, raw[label], label_file.rows.path.name, skipped)
            table[label] = parsed[label]
    if not trained and (unknown := sorted(codes.keys() - set(columns))):
        raise UserError(
            f"--missing-value names column {unknown[0]!r}, which {source} does not have; available "
            f"columns: {', '.join(columns)}."
        )
    complete, defaults = [], []
    raw, own = add_code_columns(raw, own, source, trained=trained)
    for task in own:
        needed = task.columns or (task.name,)
        missing = [name for name in needed if name not in raw or name in PATIENT_COLUMNS]
        if missing:
            if trained:
                continue
            available = ", ".join(
                name for name in columns if name not in (*ID_COLUMNS, *PATIENT_COLUMNS)
            )
            raise UserError(
                f"No label column {missing[0]!r} in {source}; available columns: {available}."
            )
        if task.kind == "multilabel":
            table[task.column] = read_lists(raw, task, source, skipped)
            if not trained:
                check_lists(table[task.column], task, source)
            complete.append(task)
            continue
        column = raw[task.name]
        if task.kind == "regression":
            column = _parse_numbers(column, task, source, skipped)
            defaults += _describe_suspicious(column, task)
        else:
            column = parse_strings(column)
        if not trained:
            task = _with_classes(task, column, source)
            if task.kind == "binary" and not task.positive:
                defaults.append(_describe_default(task))
        if task.kind == "binary":
            column = _encode_binary(column, task, source, skipped)
        table[task.column] = column
        complete.append(task)
    unused = describe_skipped(skipped, len(table))
    notes = (*notes, *unused, *defaults)
    return LabelSource(table, tuple(complete), source, file is not None, notes, unused)


def _parse_numbers(column: pd.Series, task: Task, source: str, skipped: Counter[str]) -> pd.Series:
    """Return plausible numbers, else NaN; raise UserError if all values present are other text."""
    numbers, unreadable = parse_numbers(column)
    if unreadable.any() and numbers.isna().all():
        raise UserError(
            f"{source}: column {task.name} has no numbers, but values such as "
            f"{quote_examples(list_classes(parse_strings(column)))}; make the task binary or "
            "multiclass."
        )
    where = f"{Path(source).name}: values of {task.name}"
    count_missing(skipped, unreadable, column, f"{where} that are not numbers")
    return remove_implausible(task.name, numbers, Path(source).name, skipped)


def parse_missing_values(specs: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Parse values that mean missing.

    Args:
        specs: Texts ``COLUMN=VALUE``; a column may occur several times.

    Returns:
        The values by column.

    Raises:
        UserError: A spec has no column or no value.
    """
    codes: dict[str, tuple[str, ...]] = {}
    for spec in specs:
        name, _, value = (part.strip() for part in spec.partition("="))
        if not name or not value:
            raise UserError(
                f"{spec!r} is not valid in --missing-value; use COLUMN=VALUE, such as p_axis=-999."
            )
        codes[name] = (*codes.get(name, ()), value)
    return codes


def _remove_codes(table: pd.DataFrame, codes: Mapping[str, tuple[str, ...]]) -> pd.DataFrame:
    """Return the table with the values that mean missing replaced by NaN."""
    for name, values in codes.items():
        if name in table:
            numbers, _ = parse_numbers(table[name])
            numeric_codes, _ = parse_numbers(pd.Series(values))
            is_code = parse_strings(table[name]).isin(values) | numbers.isin(numeric_codes.dropna())
            table = table.assign(**{name: table[name].mask(is_code)})
    return table


def _describe_suspicious(numbers: pd.Series, task: Task) -> list[str]:
    """Return a note on values far outside the others; they may be codes for missing values."""
    suspicious = find_suspicious_values(numbers)
    if not suspicious:
        return []
    listed = ", ".join(f"{value:g} ({count:,} ECGs)" for value, count in suspicious.items())
    others = numbers[~numbers.isin(list(suspicious))]
    options = " ".join(f"--missing-value {task.name}={value:g}" for value in suspicious)
    return [
        f"{task.title} has values far outside the others ({others.min():g} to {others.max():g}): "
        f"{listed}. If they mean missing, add {options}."
    ]


def _encode_binary(column: pd.Series, task: Task, source: str, skipped: Counter[str]) -> pd.Series:
    """Return class numbers, else NaN; raise UserError if all values present are other text."""
    by_name = {name: float(number) for number, name in enumerate(task.classes)}
    numbers = column.map(by_name).astype("float64")
    unknown = column.notna() & numbers.isna()
    negative, positive = task.classes
    if unknown.any() and numbers.isna().all():
        raise UserError(
            f"{source}: column {task.name} has neither {negative!r} nor {positive!r}, but values "
            f"such as {quote_examples(list_classes(column))}; replace them with {negative!r} and "
            f"{positive!r}."
        )
    where = f"{Path(source).name}: values of {task.name}"
    count_missing(skipped, unknown, column, f"{where} other than {negative!r} and {positive!r}")
    return numbers


def _describe_default(task: Task) -> str:
    """Return a note that names the default positive class of a task."""
    negative, positive = task.classes
    return (
        f"{task.title}: {positive!r} is the positive class by default, the last of {negative!r} "
        f"and {positive!r} in sorted order. To choose the other class, write --task "
        f"{task.name}:binary:{negative}."
    )


def _with_classes(task: Task, column: pd.Series, source: str) -> Task:
    """Check that a column is suitable for its task, and set the classes of a binary task."""
    classes = [] if task.kind == "regression" else list_classes(column)
    distinct = column.nunique()
    problem = f"{source}: column {task.name} has {distinct} distinct values"
    if distinct < 2:
        labeled = column.notna().sum()
        values = f"only the value {column.dropna().iloc[0]!s}" if labeled else "no value"
        raise UserError(
            f"{source}: column {task.name} has {values} in the {labeled:,} labeled of "
            f"{len(column):,} records of the data set, but a task needs at least 2 values; "
            "complete the column, or omit the task."
        )
    if task.kind == "binary":
        if distinct > 2:
            raise UserError(
                f"{problem} ({quote_examples(classes)}), but a binary task has 2; change the kind "
                "of the task to multiclass or regression, or leave unknown values empty."
                f"{describe_code_task(task)}"
            )
        if task.positive:
            classes = _order_classes(task, classes, source)
        return replace(task, classes=tuple(classes))
    if task.kind == "multiclass" and distinct > MAX_CLASSES:
        raise UserError(
            f"{problem}, but a multiclass task has at most {MAX_CLASSES}; merge classes, or change "
            "the kind of the task: regression for numbers, multilabel for lists of codes."
            f"{describe_code_task(task)}"
        )
    return task


def _order_classes(task: Task, classes: list[str], source: str) -> list[str]:
    """Return a binary task's classes with the requested positive class last."""
    positive = parse_strings(pd.Series([task.positive]))[0]
    if positive not in classes:
        raise UserError(
            f"{source}: {task.positive!r} is given as the positive class of {task.name}, but the "
            f"column has the values {quote_examples(classes)}; write --task {task.name}:binary:"
            f"{classes[1]} or --task {task.name}:binary:{classes[0]}."
        )
    return [*(name for name in classes if name != positive), positive]
