"""Bootstrap draws of patients, and sums over the records of each draw.

A draw is represented by the number of times that it contains each patient. This number is the
weight of each record of that patient.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Draws = Float[np.ndarray, " draw"]
"""A value for each draw."""
DRAWS = 1000
"""Number of draws, except for slow metrics; see `bootstrap.RANK_DRAWS`."""
DENSE_CELLS = 20_000
"""Cells of a histogram up to which a dense matrix is faster than a sparse one."""


@dataclass(frozen=True)
class Resamples:
    """Test records and bootstrap draws of their patients.

    Attributes:
        truth: True values in the task's unit, class indices, or indicators of labels.
        predicted: Predictions, in the format of `truth`.
        probability: Probabilities of classes or labels; None for a regression task.
        patient: For each record, the column of its patient in `counts`.
        counts: Number of times that each draw contains each patient.
    """

    truth: Float[np.ndarray, "record *label"]
    predicted: Float[np.ndarray, "record *label"]
    probability: Float[np.ndarray, "record class"] | None
    patient: Int[np.ndarray, " record"]
    counts: Float[np.ndarray, "draw patient"]

    def sum(self, value: Float[np.ndarray, " record"]) -> Draws:
        """Sum a value over the records of each draw."""
        draws: np.ndarray = self.sums([value])[0]
        return draws

    def sums(
        self, values: Sequence[Float[np.ndarray, " record"]]
    ) -> Float[np.ndarray, "value draw"]:
        """Sum each of several values over the records of each draw, in one matrix product."""
        patients = self.counts.shape[1]
        by_patient = np.stack(
            [np.bincount(self.patient, weights=value, minlength=patients) for value in values]
        )
        sums: np.ndarray = by_patient @ self.counts.T
        return sums

    def mean(self, value: Float[np.ndarray, " record"]) -> Draws:
        """Average a value over the records of each draw."""
        mean: np.ndarray = self.sum(value) / self.size()
        return mean

    def size(self) -> Draws:
        """Return the number of records in each draw."""
        return self.sum(np.ones(len(self.patient)))

    def histogram(
        self, bins: int, index: Int[np.ndarray, " selected"], rows: Int[np.ndarray, " selected"]
    ) -> "csr_array | Float[np.ndarray, 'bin patient']":
        """Count the selected records of each patient in each bin.

        Args:
            bins: Number of bins.
            index: Bin of each selected record.
            rows: Selected records.

        Returns:
            Matrix (bin, patient) of float32, sparse if it is large. Its product with `counts` is
            exact if the elements of the product are below 2**24.
        """
        patients = self.counts.shape[1]
        if bins * patients <= DENSE_CELLS:
            cells = np.bincount(index * patients + self.patient[rows], minlength=bins * patients)
            dense: np.ndarray = cells.reshape(bins, patients).astype(np.float32)
            return dense
        # Imported here because most commands that read results compute no metrics.
        from scipy.sparse import csr_array

        ones = np.ones(len(rows), np.float32)
        return csr_array((ones, (index, self.patient[rows])), shape=(bins, patients))


def draw_counts(
    patients: int, draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "draw patient"]:
    """Draw bootstrap samples of `patients` patients each, with replacement.

    Args:
        patients: Number of patients.
        draws: Number of draws.
        rng: Random generator.

    Returns:
        Number of times that each draw contains each patient.
    """
    counts: np.ndarray = rng.multinomial(patients, np.full(patients, 1 / patients), size=draws)
    return counts.astype(np.float64)
