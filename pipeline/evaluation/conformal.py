"""Split conformal prediction from validation patients (Vovk et al. 2005; Lei et al. 2018).

The score of a validation record is the absolute error of a regression, or 1 minus the probability
of the true class or label. A candidate value, class or label of a new record is accepted if more
than the fraction 1 - coverage of the scores are at least as large as its score. If the new patient
and the validation patients are exchangeable, the true value, class or label is accepted with a
probability of at least the coverage.

Several records of a patient are not exchangeable with those of a new patient. Therefore every
patient has the same total weight, and one more patient with an infinite score stands for the new
one (hierarchical conformal prediction, Lee, Barber and Willett, arXiv 2306.06342).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from stores.record_ids import RecordIds

_TOLERANCE = 1e-9
"""Margin that prevents rounding errors of the weights from accepting one score too many."""


@dataclass(frozen=True)
class ConformalScores:
    """Scores of the labeled validation records of a task, or of one of its classes or labels.

    Attributes:
        score: Scores in ascending order.
        mass: Total weight of the scores from each position on, where a patient's weights add up to
            1 / (patients + 1). One element more than `score`; the last is 0.
        patients: Number of patients.
    """

    score: Float[np.ndarray, " record"]
    mass: Float[np.ndarray, " position"]
    patients: int

    @classmethod
    def of(cls, score: Float[np.ndarray, " record"], patient_id: RecordIds) -> "ConformalScores":
        """Sort scores and weight them by patient.

        Args:
            score: Score of each record.
            patient_id: Patient of each record.

        Returns:
            The scores.
        """
        _, patient, records = np.unique(patient_id, return_inverse=True, return_counts=True)
        patients = len(records)
        weight = 1 / (records[patient] * (patients + 1)) if patients else np.empty(0)
        order = np.argsort(score, kind="stable")
        mass = np.append(np.cumsum(weight[order][::-1])[::-1], 0.0)
        return cls(score[order], mass, patients)

    def p_value(self, score: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Return the weight of the scores that are at least as large, plus the new patient's."""
        position = np.searchsorted(self.score, score, side="left")
        p_value: np.ndarray = self.mass[position] + 1 / (self.patients + 1)
        return p_value

    def quantile(self, coverage: float) -> float:
        """Return the largest accepted score.

        Args:
            coverage: Requested coverage, between 0 and 1.

        Returns:
            The score; infinity if there are too few patients for this coverage, see
            `patients_needed`.
        """
        accepted = self.mass[:-1] + 1 / (self.patients + 1) > 1 - coverage + _TOLERANCE
        count = int(accepted.sum())
        # If the weight of the new patient alone exceeds 1 - coverage, every score is accepted.
        if 1 / (self.patients + 1) > 1 - coverage + _TOLERANCE:
            return float("inf")
        return float(self.score[count - 1]) if count else float("-inf")


def patients_needed(coverage: float) -> int:
    """Return the minimum number of validation patients for a finite `quantile`."""
    return int(np.ceil(coverage / (1 - coverage) - _TOLERANCE))
