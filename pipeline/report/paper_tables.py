"""Tables 1 to 3 of the paper (EnECG, arXiv 2511.22935) for a run, with the paper's values.

`paper.json` contains the known values of the paper by method and task, as printed.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

from enecg.errors import UserError
from enecg.tasks import TASKS
from pipeline.evaluation.predictions import BASELINES, ENSEMBLE, ZERO_SHOT
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

NOT_AVAILABLE = "n/a"
PAPER_DATASET = "mimic-iv-ecg/"

TITLES = {
    "1": "Table 1: experts with untrained heads (zero-shot)",
    "2": "Table 2: fine-tuned experts and EnECG",
    "3": "Table 3: ensembles of the experts",
}


def table_methods(run: RunResults, number: str) -> list[str]:
    """Return the methods of table ``"1"``, ``"2"`` or ``"3"``, the baselines first."""
    by_table = {
        "1": [method for method in run.methods if method.startswith(ZERO_SHOT)],
        "2": [*run.weights, ENSEMBLE],
        "3": [method for method in run.ensembles if method != ENSEMBLE] + [ENSEMBLE],
    }
    return [method for method in (*BASELINES, *by_table[number]) if method in run.methods]


def has_table(run: RunResults, number: str) -> bool:
    """Return whether a run has the methods of a table."""
    methods = [method for method in table_methods(run, number) if method not in BASELINES]
    return len(methods) > (1 if number == "3" else 0)


def paper_table(run: RunResults, number: str) -> Table:
    """Build one of the paper's tables, with a row of the paper's values below each method.

    Args:
        run: Results of a run.
        number: ``"1"``, ``"2"`` or ``"3"``.

    Returns:
        The table, without notes.

    Raises:
        UserError: The run has no methods for this table.
    """
    if not has_table(run, number):
        missing = {"1": "experts with untrained heads", "3": "ensembles besides EnECG"}
        raise UserError(
            f"{run.folder} has no {missing.get(number, 'experts')} for table {number}. "
            "Train again with this version."
        )
    methods = table_methods(run, number)
    table = score_table(run, methods, TITLES[number])
    rows = list(table.rows)
    best = set(table.best)
    for name, printed in _paper_values(run, methods).items():
        position = methods.index(name) + 1 + len(rows) - len(table.rows)
        values = (
            printed.get(task.name, NOT_AVAILABLE)
            if metric == task.metric_name and task.name in TASKS
            else NOT_APPLICABLE
            for task, metric, _ in score_columns(run)
        )
        rows.insert(position, (f"{name} (paper)", *values, NOT_AVAILABLE))
        best = {(row + (row >= position), column) for row, column in best}
    return replace(table, rows=tuple(rows), best=frozenset(best))


def _paper_notes(run: RunResults, methods: Sequence[str]) -> tuple[str, ...]:
    """Explain the parameters of ensembles and the paper's values in tables of these methods."""
    notes = []
    if set(methods) & set(run.ensembles) - {ENSEMBLE}:
        notes.append(
            "Parameters of ensembles: all heads, and for EnECG also the gate; the parameters of "
            "other ensembling methods are not counted."
        )
    if TASKS.keys() & run.tasks:
        printed = _paper_values(run, methods)
        same_source = run.config["dataset"].startswith(PAPER_DATASET)
        sample = "10,000 patients of MIMIC-IV-ECG"
        notes.append(
            f"Paper: {_paper()['source']}, {sample}{'' if same_source else ', not these ECGs'}. "
            + (
                f"{NOT_AVAILABLE}: value of the paper not available."
                if printed
                else "Its values are not available."
            )
        )
    return tuple(notes)


def _paper_values(run: RunResults, methods: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the known values of the paper for these methods and the run's tasks."""
    values = _paper()["figures"]
    return {
        name: values[name] for name in methods if name in values and values[name].keys() & run.tasks
    }


def tables_with_notes(run: RunResults, which: str, *, extra: bool = False) -> list[Table]:
    """Build the tables that ``enecg table`` prints.

    Args:
        run: Results of a run.
        which: ``"1"``, ``"2"``, ``"3"`` or ``"figure3"``.
        extra: Add tables of the other metrics.

    Returns:
        The tables, with the notes below the last one.

    Raises:
        UserError: The run has no methods for this table.
    """
    if which == "figure3":
        return [resource_table(run)]
    methods = table_methods(run, which)
    tables = [paper_table(run, which)]
    notes = (*run_notes(run), *_paper_notes(run, methods))
    if extra:
        tables += other_metrics_tables(run, methods)
        notes += other_metrics_notes(run)
    return [*tables[:-1], replace(tables[-1], notes=notes)]


def all_tables(run: RunResults) -> list[Table]:
    """Build those of tables 2, 3 and 1 that the run has, with the notes below the last one."""
    numbers = [number for number in ("2", "3", "1") if has_table(run, number)]
    methods = [method for number in numbers for method in table_methods(run, number)]
    tables = [paper_table(run, number) for number in numbers]
    notes = (*run_notes(run), *_paper_notes(run, methods))
    return [*tables[:-1], replace(tables[-1], notes=notes)] if tables else []


def other_metrics_tables(run: RunResults, methods: Sequence[str]) -> list[Table]:
    """Build a table of the other metrics for every task that has any."""
    tables = (other_metrics_table(run, methods, task) for task in run.tasks.values())
    return [table for table in tables if table is not None]


@cache
def _paper() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((files("pipeline.report") / "paper.json").read_text())
    return document
