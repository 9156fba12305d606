"""Table of scores after training on fractions of the patients."""

from pipeline.evaluation.label_fractions import LabelFraction, format_fraction
from pipeline.report.table import Table, format_measure, score_heading
from pipeline.runs.results import RunResults

TITLE = "Label efficiency: training on a fraction of the patients"


def label_efficiency_table(run: RunResults) -> Table:
    """Build a table with one row per fraction and method, and one column per task.

    Args:
        run: Results of a run with fractions.

    Returns:
        Main metrics on the test patients.
    """
    rows = [
        (
            _describe(fraction),
            method,
            *(format_measure(fraction.score(method, task)) for task in run.tasks),
        )
        for fraction in run.label_fractions
        for method in list_methods(run)
    ]
    heading = ("patients", "", *(score_heading(task) for task in run.tasks.values()))
    note = (
        "Label efficiency: heads, gate and baselines are trained and selected on this fraction of "
        "the training and validation patients (in parentheses: number of patients in each repeat). "
        "Smaller fractions are subsets of larger ones. All fractions have the same test patients; "
        "classes and labels without training patients are not scored."
    )
    return Table(TITLE, heading, tuple(rows), notes=(note,))


def list_methods(run: RunResults) -> list[str]:
    """Return the methods that have a score for any fraction, the baselines first."""
    scores = (score for fraction in run.label_fractions for score in fraction.scores)
    return list(dict.fromkeys(score.method for score in scores))


def _describe(fraction: LabelFraction) -> str:
    counts = dict.fromkeys(f"{patients:,}" for patients in fraction.patients)
    return f"{format_fraction(fraction.fraction)} ({' / '.join(counts)})"
