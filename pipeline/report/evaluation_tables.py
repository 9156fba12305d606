"""Result tables for the evaluation of a saved run."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from enecg.tasks import Task
from pipeline.evaluation.scores import Score
from pipeline.report.notes import other_metrics_notes, run_notes
from pipeline.report.paper_tables import other_metrics_tables
from pipeline.report.table import Table, score_table
from pipeline.runs.results import RunResults
from pipeline.runs.saved_run import SavedRun
from pipeline.runs.task_summary import TaskSummary


def evaluation_tables(
    saved: SavedRun, config: dict[str, Any], tasks: Sequence[Task], scores: Sequence[Score]
) -> list[Table]:
    """Build the result tables of an evaluation.

    Args:
        saved: The evaluated run.
        config: Contents of `evaluation.json`.
        tasks: The evaluated tasks.
        scores: Scores of all methods and tasks.

    Returns:
        The table of `score_table` without numbers of parameters, then those of
        `other_metrics_tables`. The last table contains the notes.
    """
    results = RunResults(
        folder=saved.folder,
        config=config,
        provenance={str(index): store for index, store in enumerate(saved.stores)},
        tasks={task.name: TaskSummary.from_task(task) for task in tasks},
        parameters={},
        scores=tuple(scores),
    )
    main = score_table(results, results.methods, f"{saved.folder} on {config['dataset']}")
    # Drop the last column, the number of parameters, because an evaluation does not count them.
    main = replace(main, heading=main.heading[:-1], rows=tuple(row[:-1] for row in main.rows))
    tables = [main, *other_metrics_tables(results, results.methods)]
    notes = (*run_notes(results), *other_metrics_notes(results))
    return [*tables[:-1], replace(tables[-1], notes=notes)]
