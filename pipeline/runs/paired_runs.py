"""Paired differences between the predictions of two runs for the same test records."""

from dataclasses import replace

import numpy as np

from pipeline.evaluation.differences import Difference, compute_differences
from pipeline.evaluation.predictions import TaskPredictions
from pipeline.runs.results import RunResults
from pipeline.runs.run_details import read_details

_REFERENCE = "reference run"
"""Name of EnECG of the reference run among the methods that are compared."""


def compare_predictions(run: RunResults, reference: RunResults) -> tuple[Difference, ...]:
    """Compute the differences between EnECG's metrics in two runs: `run` minus `reference`.

    Both runs are evaluated on the same bootstrap draws of patients. Tasks whose test records, true
    values, or names of classes or labels differ between the runs are omitted.

    Args:
        run: Results of a run.
        reference: Results of the run to compare with.

    Returns:
        The differences of the common tasks, with the name of the folder of `reference` as their
        `reference`. Empty if the runs have different numbers of repeats.

    Raises:
        UserError: A file of a run is missing or damaged.
    """
    details, reference_details = read_details(run), read_details(reference)
    repeats = len(details.targets)
    if repeats != len(reference_details.targets):
        return ()
    predictions: list[TaskPredictions] = []
    tasks = []
    for task in run.tasks:
        if task not in reference.tasks or details.classes(task) != reference_details.classes(task):
            continue
        pairs = list(zip(details.ensemble(task), reference_details.ensemble(task), strict=True))
        if all(_is_same_test(*pair) for pair in pairs):
            tasks.append(task)
            for prediction, other in pairs:
                predictions += [prediction, replace(other, method=_REFERENCE)]
    choices = {reference.folder.name: {task: [_REFERENCE] * repeats for task in tasks}}
    return compute_differences(predictions, choices)


def _is_same_test(first: TaskPredictions, second: TaskPredictions) -> bool:
    """Return whether two predictions are for the same records and true values."""
    same_records = np.array_equal(first.record_id, second.record_id)
    return same_records and np.array_equal(first.truth, second.truth)
