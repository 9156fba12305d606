"""A linear model on top of all experts' outputs."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from enecg.ensembles.base import EnsembleOutput, HeadOutputs, features, labeled_rows, loss
from enecg.errors import UserError

ITERATIONS = 300
"""At most, of LogisticRegression's solver: a few seconds for ten thousand records of 15 classes."""


@dataclass(frozen=True)
class Stacking:
    """Wolpert's stacking ("Stacked Generalization", Neural Networks 1992) by scikit-learn: Ridge
    for a regression, LogisticRegression on log-probabilities for classes, standardised both.

    It is fitted on the `out_of_fold` answers of training records, once with each of the `penalties`
    (Ridge's alpha, LogisticRegression's 1 / C); the one of least validation loss stays, the
    strongest of equals if they fall. It has no weights. A class of no training record gets
    probability 0; where there is but one class, UserError.
    """

    penalties: tuple[float, ...] = (1e4, 1e3, 1e2, 1e1, 1e0, 1e-1, 1e-2)
    name = "stacking"

    def __call__(self, given: HeadOutputs, seed: int) -> EnsembleOutput:
        """See `Ensemble`."""
        train, validation = labeled_rows(given, "training"), labeled_rows(given, "validation")
        if given.kind != "regression" and len(given.encoded[train].unique()) < 2:
            raise UserError(
                "The training records of a task have one class only, so stacking cannot be fitted; "
                "leave the task out, or take more records."
            )
        seen = _numpy(features(given.kind, given.out_of_fold)[train])
        truth = _numpy(given.encoded[train])
        asked = _numpy(features(given.kind, given.outputs))
        best, least = given.outputs[0], float("inf")
        for penalty in self.penalties:
            answer = np.zeros(given.outputs.shape[1:])
            if given.kind == "regression":
                answer[:, 0] = _fit(Ridge(alpha=penalty), seen, truth).predict(asked)
            else:
                logistic = LogisticRegression(C=1 / penalty, max_iter=ITERATIONS)
                model = _fit(logistic, seen, truth.astype(int))
                answer[:, model.classes_] = model.predict_proba(asked)
            combined = torch.from_numpy(answer).to(given.outputs)
            now = float(loss(given.kind, combined[validation], given.encoded[validation]))
            if now < least:
                best, least = combined, now
        return EnsembleOutput(best, None)


def _fit(
    model: Any, seen: Float[np.ndarray, "train feature"], truth: Shaped[np.ndarray, " train"]
) -> Any:
    """The fitted model, a scaler before it."""
    with warnings.catch_warnings():
        # To stop before the end is a penalty too, and validation judges what came of it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return make_pipeline(StandardScaler(), model).fit(seen, truth)


def _numpy(values: Tensor) -> Float[np.ndarray, "..."]:
    return values.double().cpu().numpy()
