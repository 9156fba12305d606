"""The paper's tables (EnECG, arXiv 2511.22935), made from a run, its own figures beside ours.

`paper.json` holds the paper's figures as far as they are at hand: by method and task, as printed.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

from enecg.errors import UserError
from enecg.tasks import TASKS
from pipeline.evaluation.predictions import CONSTANT, ENSEMBLE, ZERO_SHOT
from pipeline.report.resource_table import resource_table
from pipeline.report.table import (
    NOT_FOR_THIS,
    Table,
    by_task,
    notes,
    notes_on_others,
    other_metrics,
)
from pipeline.runs.results import RunResults

NOT_AT_HAND = "not at hand"
PAPERS_DATA = "mimic-iv-ecg/"

TITLES = {
    "1": "Table 1: experts under untrained heads (zero-shot)",
    "2": "Table 2: fine-tuned experts and EnECG",
    "3": "Table 3: ways to join the experts",
}


def methods(run: RunResults, which: str) -> list[str]:
    """The methods of one of the paper's tables, the constant predictor first."""
    of_table = {
        "1": [one for one in run.methods if one.startswith(ZERO_SHOT)],
        "2": [*run.weights, ENSEMBLE],
        "3": [one for one in run.ensembles if one != ENSEMBLE] + [ENSEMBLE],
    }
    return [CONSTANT, *(one for one in of_table[which] if one in run.methods)]


def has(run: RunResults, which: str) -> bool:
    """Whether a run has what a table is about."""
    return len(methods(run, which)) > (2 if which == "3" else 1)


def paper_table(run: RunResults, which: str) -> Table:
    """Table 1, 2 or 3. Raises UserError where the run has nothing for it."""
    if not has(run, which):
        lacking = {"1": "expert under untrained heads", "3": "ensemble besides EnECG"}
        raise UserError(
            f"{run.folder} has no {lacking.get(which, 'expert')}, which is what table {which} is "
            "about; train again with this version, which makes them."
        )
    chosen = methods(run, which)
    table = by_task(run, chosen, TITLES[which])
    rows = list(table.rows)
    best = set(table.best)
    for name, printed in _printed(run, chosen).items():
        place = chosen.index(name) + 1 + len(rows) - len(table.rows)
        # It has nothing to say of a lab's own tasks.
        lacking = {task: NOT_AT_HAND if task in TASKS else NOT_FOR_THIS for task in run.tasks}
        figures = (printed.get(task, lacking[task]) for task in run.tasks)
        rows.insert(place, (f"{name}, as the paper has it", *figures, NOT_AT_HAND))
        best = {(row + (row >= place), column) for row, column in best}
    return replace(table, rows=tuple(rows), best=frozenset(best))


def paper_notes(run: RunResults, chosen: Sequence[str]) -> tuple[str, ...]:
    """What is counted in tables of these methods, what the paper's figures in them are, and which
    are not at hand.
    """
    other = "" if run.config["dataset"].startswith(PAPERS_DATA) else ", other ECGs than these"
    told = []
    if set(chosen) & set(run.ensembles) - {ENSEMBLE}:
        told.append(
            "Parameters of ways to join the experts: those of all heads, and of EnECG its gate's "
            "too; what the other ways fit besides is not counted."
        )
    if TASKS.keys() & run.tasks:
        printed = _printed(run, chosen)
        told.append(f"The paper: {_paper()['source']}, 10,000 patients of MIMIC-IV-ECG{other}.")
        told.append(f"Its {'other ' if printed else ''}figures are not at hand.")
        if "age" in printed.get(ENSEMBLE, {}):
            told.append("Its age MAE of EnECG is about a constant predictor's.")
    return tuple(told)


def _printed(run: RunResults, chosen: Sequence[str]) -> dict[str, dict[str, str]]:
    """The paper's figures of these methods on the run's tasks, as far as there are any."""
    figures = _paper()["figures"]
    return {
        name: figures[name]
        for name in chosen
        if name in figures and figures[name].keys() & run.tasks
    }


def blocks(run: RunResults, which: str, *, extra: bool = False) -> list[Table]:
    """What `enecg table` prints: the table, the other metrics where asked for, and the notes."""
    if which == "figure3":
        return [resource_table(run)]
    chosen = methods(run, which)
    tables = [paper_table(run, which)]
    told = (*notes(run), *paper_notes(run, chosen))
    if extra:
        tables += all_other_metrics(run, chosen)
        told += notes_on_others(run)
    return [*tables[:-1], replace(tables[-1], notes=told)]


def all_tables(run: RunResults) -> list[Table]:
    """The paper's tables that the run has, the main one first; the notes come with the last."""
    shown = [which for which in ("2", "3", "1") if has(run, which)]
    chosen = [method for which in shown for method in methods(run, which)]
    tables = [paper_table(run, which) for which in shown]
    told = (*notes(run), *paper_notes(run, chosen))
    return [*tables[:-1], replace(tables[-1], notes=told)]


def all_other_metrics(run: RunResults, chosen: Sequence[str]) -> list[Table]:
    """The metrics besides the paper's of these methods, a table a task."""
    made = (other_metrics(run, chosen, task) for task in run.tasks.values())
    return [table for table in made if table is not None]


@cache
def _paper() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((files("pipeline.report") / "paper.json").read_text())
    return document
