"""Notes on runs and tasks that are not sufficiently calibrated."""

from collections.abc import Sequence

from pipeline.evaluation.conformal import patients_needed
from pipeline.prediction.live_run import LiveRun
from pipeline.runs.calibration import VALIDATION


def describe_gaps(live: LiveRun, coverage: float, tasks: Sequence[str]) -> tuple[str, ...]:
    """Describe tasks for which a run cannot provide useful intervals or sets at a coverage.

    Args:
        live: The run.
        coverage: Coverage of intervals and prediction sets.
        tasks: Names of the tasks.

    Returns:
        A note if the run is not calibrated, or one for each task with too few validation patients.
    """
    folder = live.saved.folder
    if not live.saved.is_calibrated:
        return (
            f"{folder} was trained by a version of EnECG that does not write {VALIDATION}; "
            "predictions have no intervals, no prediction sets and no warnings for ECGs that "
            "differ from the training data. Train again to add them.",
        )
    needed = patients_needed(coverage)
    notes = []
    for task in tasks:
        scores = [
            class_scores
            for repeat in live.calibrated
            for class_scores in repeat.calibrations[task].scores
        ]
        fewest = min(class_scores.patients for class_scores in scores)
        if fewest < needed:
            title = live.repeats[0].targets[task].task.title
            group = " of each class" if len(scores) > len(live.calibrated) else ""
            notes.append(
                f"{title}: a coverage of {coverage:.4g} needs at least {needed} validation "
                f"patients{group}, but the smallest number is {fewest}; use a lower --coverage, or "
                "train on more patients."
            )
    return tuple(notes)
