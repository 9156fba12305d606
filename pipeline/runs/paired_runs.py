"""Paired differences between the predictions of two runs for the same test records."""

from dataclasses import replace

import numpy as np

from pipeline.evaluation.differences import Difference, compute_differences
from pipeline.evaluation.predictions import ENSEMBLE, TaskPredictions
from pipeline.runs.results import RunResults
from pipeline.runs.run_details import read_details


def compare_predictions(run: RunResults, reference: RunResults) -> tuple[Difference, ...]:
    """Compute the differences between EnECG of two runs: `run` minus `reference`.

    Both are evaluated on the same bootstrap draws of patients. Tasks whose test records, labels or
    classes differ between the runs are omitted.

    Args:
        run: Results of a run.
        reference: Results of the run to compare with.

    Returns:
        The differences of the tasks that both runs have, with the name of the folder of `reference`
        as the method.

    Raises:
        UserError: A file of a run is missing or damaged.
    """
    name = reference.folder.name
    ours, theirs = read_details(run), read_details(reference)
    predictions: list[TaskPredictions] = []
    tasks = []
    for task in run.tasks:
        if task not in reference.tasks or ours.classes(task) != theirs.classes(task):
            continue
        pairs = list(zip(ours.ensemble(task), theirs.ensemble(task), strict=False))
        same_length = len(ours.targets) == len(theirs.targets)
        if same_length and all(_is_same_test(*pair) for pair in pairs):
            tasks.append(task)
            for one, other in pairs:
                predictions += [one, replace(other, method=name)]
    choices = {name: {task: [name] * len(ours.targets) for task in tasks}}
    return compute_differences(predictions, choices) if tasks and name != ENSEMBLE else ()


def _is_same_test(one: TaskPredictions, other: TaskPredictions) -> bool:
    return np.array_equal(one.record_id, other.record_id) and np.array_equal(one.truth, other.truth)
