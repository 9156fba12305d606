"""The prior of the gate: for each task, one weight per expert that is the same for all records."""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from enecg.ensembles.base import is_labeled, task_loss
from enecg.gate import Mixture, mix
from enecg.tasks import Kind
from pipeline.training.labeled_repeat import LabeledRepeat
from pipeline.training.likelihood import cross_entropy_log_likelihood, laplace_log_likelihood

ITERATIONS = 100
GRADIENT_TOLERANCE = 1e-7
"""Largest gradient at which the fit of the logits stops."""
LOGIT_SD = 3.0
"""Standard deviation of the zero-mean normal distribution that is assumed for the logits."""
MAX_LOGIT = 5.0
"""Bound of the logits. It keeps all weights above 0, so that the gate can use every expert."""


def fit_prior(
    repeat: LabeledRepeat,
    outputs: dict[str, Float[Tensor, "expert record output"]],
    mixture: Mixture = "probabilities",
) -> Float[Tensor, "task expert"]:
    """Fit the prior of each task on training and validation records together.

    Args:
        repeat: Records and labels.
        outputs: Predictions of the experts' heads by task, out of fold for training records.
        mixture: What the gate averages: ``"probabilities"`` or ``"logits"``.

    Returns:
        Logits of the experts' weights, centered over the experts and then limited to
        ``[-MAX_LOGIT, MAX_LOGIT]``.
    """
    logits = []
    for task, targets in repeat.targets.items():
        encoded = repeat.encoded[task]
        rows = torch.cat([repeat.train, repeat.validation])
        rows = rows[is_labeled(encoded[rows])]
        patients = len(repeat.patients[rows].unique())
        logits.append(
            _fit_logits(targets.task.kind, outputs[task][:, rows], encoded[rows], patients, mixture)
        )
    return torch.stack(logits)


def _fit_logits(
    kind: Kind,
    predictions: Float[Tensor, "expert record output"],
    encoded: Float[Tensor, "record *label"],
    patients: int,
    mixture: Mixture,
) -> Float[Tensor, " expert"]:
    """Maximize the posterior probability of the logits."""
    # Imported here because importing scipy.optimize takes a quarter of a second.
    from scipy.optimize import minimize

    predictions = predictions.detach().double()

    def objective(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = torch.from_numpy(values).to(predictions.device).requires_grad_()
        weights = logits.softmax(-1).expand(predictions.shape[1], 1, -1)
        mixed = mix(weights, predictions, kind=kind, mixture=mixture)
        if kind == "regression":
            error = (mixed.squeeze(-1) - encoded).abs().mean()
            likelihood = laplace_log_likelihood(error, patients)
        else:
            loss = task_loss(kind, mixed, encoded)
            likelihood = cross_entropy_log_likelihood(loss, patients)
        # Per patient, because the optimizer's tolerances are absolute.
        value = (logits.square().sum() / (2 * LOGIT_SD**2) - likelihood) / patients
        (gradient,) = torch.autograd.grad(value, logits)
        return value.item(), gradient.cpu().numpy()

    solution = minimize(
        objective,
        np.zeros(len(predictions)),
        method="L-BFGS-B",
        jac=True,
        options={"maxiter": ITERATIONS, "gtol": GRADIENT_TOLERANCE, "ftol": 0.0},
    )
    fitted = torch.from_numpy(solution.x).to(predictions).float()
    return (fitted - fitted.mean()).clamp(-MAX_LOGIT, MAX_LOGIT)
