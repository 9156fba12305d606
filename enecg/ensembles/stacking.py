"""A linear model on the outputs of all experts."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from threadpoolctl import threadpool_limits
from torch import Tensor

from enecg.ensembles.base import (
    EnsembleOutput,
    HeadOutputs,
    concatenate,
    labeled_rows,
    task_loss,
)
from enecg.errors import UserError

ITERATIONS = 300
"""Maximum number of solver iterations. With 10,000 records and 15 classes, they take seconds."""


@dataclass(frozen=True)
class Stacking:
    """Stacked generalization (Wolpert, Neural Networks 1992) with scikit-learn.

    The model is ridge regression for a regression task, and logistic regression on
    log-probabilities for the other kinds, both on standardized inputs. It is fitted on the
    out-of-fold predictions of training records, once per penalty. The model with the lowest
    validation loss is used, or of several such models the one with the strongest penalty. There are
    no expert weights. The probability of a class without a training record is 0. For a multilabel
    task, one logistic regression per label is fitted on the experts' log-probabilities of its
    presence and absence. The prediction of a label that all or none of the training records have is
    the mean of the experts' predictions.

    Attributes:
        penalties: Regularization strengths, from strong to weak: `alpha` of `Ridge`, `1 / C` of
            `LogisticRegression`.
    """

    penalties: tuple[float, ...] = (1e4, 1e3, 1e2, 1e1, 1e0, 1e-1, 1e-2)
    name = "stacking"

    def __call__(self, heads: HeadOutputs, seed: int) -> EnsembleOutput:
        """Combine the heads; see `Ensemble.__call__`."""
        train, validation = labeled_rows(heads, "training"), labeled_rows(heads, "validation")
        if heads.kind == "multilabel":
            return self._stack_labels(heads, train, validation)
        if heads.kind != "regression" and len(heads.encoded[train].unique()) < 2:
            raise UserError(
                f"All training records of the task {heads.task} have one class, so stacking cannot "
                "be fitted; remove the task or use more records."
            )
        # Imported here because importing scikit-learn takes a second.
        from sklearn.linear_model import LogisticRegression, Ridge

        outputs = concatenate(heads.kind, heads.outputs)
        inputs, all_inputs = _to_numpy(outputs[train]), _to_numpy(outputs)
        truth = _to_numpy(heads.encoded[train])
        best, best_loss = heads.outputs[0], float("inf")
        # The products are so small that synchronizing threads takes longer than computing them. The
        # limit applies to libraries that are already loaded, so it is set after the import.
        with threadpool_limits(1, user_api="blas"):
            for penalty in self.penalties:
                predicted = np.zeros(heads.outputs.shape[1:])
                if heads.kind == "regression":
                    predicted[:, 0] = _fit(Ridge(alpha=penalty), inputs, truth).predict(all_inputs)
                else:
                    logistic = LogisticRegression(C=1 / penalty, max_iter=ITERATIONS)
                    model = _fit(logistic, inputs, truth.astype(int))
                    predicted[:, model.classes_] = model.predict_proba(all_inputs)
                prediction = torch.from_numpy(predicted).to(heads.outputs)
                loss = float(
                    task_loss(heads.kind, prediction[validation], heads.encoded[validation])
                )
                if loss < best_loss:
                    best, best_loss = prediction, loss
        return EnsembleOutput(best, None)

    def _stack_labels(
        self, heads: HeadOutputs, train: Int[Tensor, " train"], validation: Int[Tensor, " held_out"]
    ) -> EnsembleOutput:
        best = heads.outputs.mean(0)
        for label in range(best.shape[1]):
            truth = heads.encoded[:, label]
            one_label = HeadOutputs(
                heads.task,
                "binary",
                torch.stack([1 - heads.outputs[..., label], heads.outputs[..., label]], -1),
                truth,
                train,
                validation,
            )
            if len(truth[train].unique()) > 1:
                best[:, label] = self(one_label, 0).prediction[:, 1]
        return EnsembleOutput(best, None)


def _fit(
    model: Any, inputs: Float[np.ndarray, "train feature"], truth: Shaped[np.ndarray, " train"]
) -> Any:
    """Fit a model on standardized inputs."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    with warnings.catch_warnings():
        # A solver that stops before it converges has the effect of a stronger penalty, and the
        # penalty is selected on validation records, so the warning is not relevant.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return make_pipeline(StandardScaler(), model).fit(inputs, truth)


def _to_numpy(values: Tensor) -> Float[np.ndarray, "..."]:
    return values.double().cpu().numpy()
