"""Tables of an evaluation on other data."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from enecg.tasks import Task
from pipeline.evaluation.scores import Score
from pipeline.report.paper_tables import all_other_metrics
from pipeline.report.table import Table, by_task, notes, notes_on_others
from pipeline.runs.results import RunResults, TaskSummary
from pipeline.runs.saved_run import SavedRun


def evaluation_tables(
    saved: SavedRun, config: dict[str, Any], tasks: Sequence[Task], scores: Sequence[Score]
) -> list[Table]:
    """Build the main table, the tables of other metrics, and the notes of an evaluation.

    Args:
        saved: The evaluated run.
        config: Contents of `evaluation.json`.
        tasks: Evaluated tasks.
        scores: Scores of all methods.

    Returns:
        The tables; the last one holds the notes.
    """
    results = RunResults(
        folder=saved.folder,
        config=config,
        provenance={str(number): store for number, store in enumerate(saved.stores)},
        tasks={task.name: TaskSummary.from_task(task) for task in tasks},
        parameters={},
        scores=tuple(scores),
    )
    main = by_task(results, results.methods, f"{saved.folder} on {config['dataset']}")
    # An evaluation trains nothing: drop the column of parameters.
    main = replace(main, heading=main.heading[:-1], rows=tuple(row[:-1] for row in main.rows))
    tables = [main, *all_other_metrics(results, results.methods)]
    with_notes = replace(tables[-1], notes=(*notes(results), *notes_on_others(results)))
    return [*tables[:-1], with_notes]
