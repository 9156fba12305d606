"""Scores of models that are trained on a fraction of the training and validation patients."""

from dataclasses import dataclass

from pipeline.evaluation.scores import Score


@dataclass(frozen=True)
class LabelFraction:
    """Scores on the test patients after training on a fraction of the other patients.

    Attributes:
        fraction: Fraction of the training and validation patients.
        patients: Number of training and validation patients in each repeat.
        scores: Scores by method and task.
    """

    fraction: float
    patients: tuple[int, ...]
    scores: tuple[Score, ...]

    def score(self, method: str, task: str) -> Score | None:
        """Return the score of a method on a task.

        Args:
            method: Name of the method.
            task: Name of the task.

        Returns:
            The score; None if the method has no score on the task, for example because the task has
            too few labels.
        """
        for score in self.scores:
            if (score.method, score.task) == (method, task):
                return score
        return None


def format_fraction(fraction: float) -> str:
    """Format a fraction as a percentage without trailing zeros, such as ``"0.5 %"``."""
    return f"{100 * fraction:.4g} %"
