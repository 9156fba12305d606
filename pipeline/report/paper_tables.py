"""Tables 1 to 3 of the paper (EnECG, arXiv 2511.22935) for a run, with the paper's values.

`paper.json` contains the values of the paper by table, method and task, as printed.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

from enecg.errors import UserError
from enecg.tasks import TASKS
from pipeline.evaluation.predictions import BASELINES, ENSEMBLE, RANDOM, RIDGE, ZERO_SHOT
from pipeline.report.difference_table import (
    difference_table,
    enecg_differences,
    random_weights_table,
)
from pipeline.report.label_efficiency_table import label_efficiency_table
from pipeline.report.leave_one_out_table import leave_one_out_table, list_left_out
from pipeline.report.notes import other_metrics_notes, run_notes
from pipeline.report.resource_table import resource_table
from pipeline.report.table import (
    NOT_APPLICABLE,
    Table,
    other_metrics_table,
    score_columns,
    score_table,
)
from pipeline.runs.results import RunResults

PAPER_DATASET = "mimic-iv-ecg/"

TITLES = {
    "1": "Table 1: experts with untrained heads (zero-shot)",
    "2": "Table 2: fine-tuned experts and EnECG",
    "3": "Table 3: ensembles of the experts",
}

FURTHER_TABLES: dict[
    str, tuple[Callable[[RunResults], Table], Callable[[RunResults], Collection[Any]], str]
] = {
    "differences": (
        difference_table,
        enecg_differences,
        "Train again with this version.",
    ),
    "random-weights": (
        random_weights_table,
        lambda run: run.random_baselines,
        "Train again with --baselines random.",
    ),
    "leave-one-out": (
        leave_one_out_table,
        list_left_out,
        "Train again with --leave-one-out.",
    ),
    "label-efficiency": (
        label_efficiency_table,
        lambda run: run.label_fractions,
        "Train again with --label-fractions.",
    ),
}
"""Tables that are not in the paper: function that builds the table, function that returns its
values, and remedy if there are none."""


def table_methods(run: RunResults, number: str) -> list[str]:
    """Return the methods of one of the paper's tables, the baselines first.

    Args:
        run: Results of a run.
        number: ``"1"``, ``"2"`` or ``"3"``.

    Returns:
        The methods that the run has.
    """
    by_table = {
        "1": [method for method in run.methods if method.startswith(ZERO_SHOT)],
        "2": [*_with_baselines(run.weights), *([ENSEMBLE] if len(run.weights) > 1 else [])],
        "3": [method for method in run.ensembles if method != ENSEMBLE] + [ENSEMBLE],
    }
    return [method for method in (*BASELINES, RIDGE, *by_table[number]) if method in run.methods]


def _with_baselines(experts: Iterable[str]) -> Iterator[str]:
    for name in experts:
        yield from (name, RANDOM + name)


def has_table(run: RunResults, number: str) -> bool:
    """Return whether a run has enough methods for one of the paper's tables.

    Args:
        run: Results of a run.
        number: ``"1"``, ``"2"`` or ``"3"``.

    Returns:
        Whether there is a method besides baselines and ridge regression; for table 3, two methods.
    """
    baselines = (*BASELINES, RIDGE)
    methods = [method for method in table_methods(run, number) if method not in baselines]
    return len(methods) > (1 if number == "3" else 0)


def paper_table(run: RunResults, number: str) -> Table:
    """Build one of the paper's tables, with the paper's values in additional rows.

    Args:
        run: Results of a run.
        number: ``"1"``, ``"2"`` or ``"3"``.

    Returns:
        The table, without notes. A row of the paper is below its method, or after all methods if
        the run does not have the method.

    Raises:
        UserError: The run has no methods for this table.
    """
    if not has_table(run, number):
        missing = {"1": "experts with untrained heads", "3": "ensembles besides EnECG"}
        if number == "3" and len(run.weights) == 1:
            raise UserError(
                f"{run.folder} has one expert and no ensembles for table 3; train several experts."
            )
        raise UserError(
            f"{run.folder} has no {missing.get(number, 'experts')} for table {number}. "
            "Train again with this version."
        )
    methods = table_methods(run, number)
    table = score_table(run, methods, TITLES[number])
    values = _paper_values(run, number)
    rows: list[tuple[str, ...]] = []
    position = {}
    for index, (method, row) in enumerate(zip(methods, table.rows, strict=False)):
        position[index] = len(rows)
        rows.append(row)
        if method in values:
            rows.append(_paper_row(run, method, values.pop(method)))
    rows += [_paper_row(run, method, printed) for method, printed in values.items()]
    rows.append(table.rows[-1])
    best = frozenset((position[row], column) for row, column in table.best)
    return replace(table, rows=tuple(rows), best=best)


def _paper_row(run: RunResults, method: str, printed: Mapping[str, str | None]) -> tuple[str, ...]:
    values = (
        printed.get(task.name) or NOT_APPLICABLE if metric == task.metric_name else NOT_APPLICABLE
        for task, metric, _ in score_columns(run)
    )
    return (f"{method.removeprefix(ZERO_SHOT)} (paper)", *values, NOT_APPLICABLE)


def _paper_notes(run: RunResults, numbers: Sequence[str]) -> tuple[str, ...]:
    """Explain the parameters of ensembles and the paper's values in these tables."""
    notes = []
    methods = {method for number in numbers for method in table_methods(run, number)}
    if methods & set(run.ensembles) - {ENSEMBLE}:
        notes.append(
            "Parameters of ensembles: all heads, and for EnECG also the gate; the parameters of "
            "other ensembling methods are not counted."
        )
    if TASKS.keys() & run.tasks:
        same_source = run.config["dataset"].startswith(PAPER_DATASET)
        notes.append(
            f'Paper: values of {_paper()["source"]} (for sex and potassium, its "F1"), mean ± SD '
            "over three repeats of 10,000 patients of MIMIC-IV-ECG"
            f"{'' if same_source else ', not these ECGs'}. Rows of the paper at the end of a table "
            "are methods that this run does not have."
        )
    return tuple(notes)


def _paper_values(run: RunResults, number: str) -> dict[str, dict[str, str | None]]:
    """Return the paper's values in a table, by method; empty without a task of the paper."""
    if not TASKS.keys() & run.tasks:
        return {}
    prefix = ZERO_SHOT if number == "1" else ""
    return {prefix + name: values for name, values in _paper()["tables"][number].items()}


def tables_with_notes(run: RunResults, which: str, *, extra: bool = False) -> list[Table]:
    """Build the tables that ``enecg table`` prints.

    Args:
        run: Results of a run.
        which: ``"1"``, ``"2"``, ``"3"``, ``"figure3"``, or one of `FURTHER_TABLES`.
        extra: Whether to add tables of the other metrics to one of the tables 1 to 3.

    Returns:
        The tables, with the notes below the last one.

    Raises:
        UserError: The run has no methods or values for this table.
    """
    if which == "figure3":
        return [figure3(run)]
    if which in FURTHER_TABLES:
        build, values, remedy = FURTHER_TABLES[which]
        if not values(run):
            raise UserError(f"{run.folder} has no values for this table. {remedy}")
        table = build(run)
        return [replace(table, notes=(*table.notes, *run_notes(run)))]
    methods = table_methods(run, which)
    tables = [paper_table(run, which)]
    notes = (*run_notes(run), *_paper_notes(run, [which]))
    if extra:
        tables += other_metrics_tables(run, methods)
        notes += other_metrics_notes(run)
    return [*tables[:-1], replace(tables[-1], notes=notes)]


def all_tables(run: RunResults) -> list[Table]:
    """Build the tables of `page_tables`, with the notes below the last one."""
    tables, notes = page_tables(run)
    if not tables:
        return []
    return [*tables[:-1], replace(tables[-1], notes=(*tables[-1].notes, *notes))]


def page_tables(run: RunResults) -> tuple[list[Table], tuple[str, ...]]:
    """Build the tables of a run's results page.

    Args:
        run: Results of the run.

    Returns:
        Table 2, those of `FURTHER_TABLES`, and tables 3 and 1, with label efficiency last, if the
        run has them; and the notes that apply to all of them.
    """
    numbers = [number for number in ("2", "3", "1") if has_table(run, number)]
    tables = [paper_table(run, number) for number in numbers]
    if tables:
        further = {
            name: build(run) for name, (build, values, _) in FURTHER_TABLES.items() if values(run)
        }
        last = [further.pop("label-efficiency")] if "label-efficiency" in further else []
        tables = [tables[0], *further.values(), *tables[1:], *last]
    return tables, (*run_notes(run), *_paper_notes(run, numbers))


def other_metrics_tables(run: RunResults, methods: Sequence[str]) -> list[Table]:
    """Build a table of the other metrics for every task that has any.

    Args:
        run: Results of a run.
        methods: Methods in rows.

    Returns:
        One table per task.
    """
    tables = (other_metrics_table(run, methods, task) for task in run.tasks.values())
    return [table for table in tables if table is not None]


def figure3(run: RunResults) -> Table:
    """Build the table of memory and throughput, with the paper's values."""
    return resource_table(run, _paper()["figure3"])


@cache
def _paper() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        (files("pipeline.report") / "paper.json").read_text(encoding="utf-8")
    )
    return document
