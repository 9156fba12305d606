"""The prior of the gate: for each task, one weight per expert that is the same for all records."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from enecg.ensembles.base import is_labeled, task_loss
from enecg.gate import Mixture, mix
from enecg.tasks import Kind
from pipeline.training.labeled_repeat import LabeledRepeat
from pipeline.training.likelihood import log_likelihood

ITERATIONS = 100
LOGIT_SD = 3.0
"""Standard deviation of the normal distribution that the logits are assumed to come from."""
MAX_LOGIT = 5.0
"""Keeps the weight of a useless expert above 0, so that the gate can still use it for a record."""


def fit_prior(
    repeat: LabeledRepeat,
    outputs: dict[str, Float[Tensor, "expert record output"]],
    mixture: Mixture = "probabilities",
) -> Float[Tensor, "task expert"]:
    """Fit the prior of each task on training and validation records together.

    Args:
        repeat: Records and labels.
        outputs: Predictions of the experts' heads by task, out of fold for training records.
        mixture: What the gate averages.

    Returns:
        Logits of the experts' weights; their mean over the experts is 0.
    """
    logits = []
    for task, targets in repeat.targets.items():
        encoded = repeat.encoded[task]
        rows = torch.cat([repeat.train, repeat.validation])
        rows = rows[is_labeled(encoded[rows])]
        patients = len(repeat.patients[rows].unique())
        predictions = outputs[task][:, rows].detach().double()
        kind, labels = targets.task.kind, encoded[rows]

        def likelihood(
            weights: Tensor,
            kind: Kind = kind,
            predictions: Tensor = predictions,
            labels: Tensor = labels,
            patients: int = patients,
        ) -> Tensor:
            weights = weights.to(predictions.device).expand(len(labels), 1, -1)
            mixed = mix(weights, predictions, kind=kind, mixture=mixture)
            return log_likelihood(task_loss(kind, mixed, labels), patients, kind == "regression")

        logits.append(_fit_logits(likelihood, len(predictions), patients).to(labels))
    return torch.stack(logits)


def _fit_logits(
    likelihood: Callable[[Float[Tensor, " expert"]], Float[Tensor, ""]], experts: int, patients: int
) -> Float[Tensor, " expert"]:
    """Maximize the posterior probability of the logits, given the likelihood of weights."""
    logits = torch.zeros(experts, dtype=torch.float64).requires_grad_(True)
    optimizer = torch.optim.LBFGS([logits], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        prior = logits.square().sum() / (2 * LOGIT_SD**2)
        # Per patient, because the optimizer's tolerances are absolute.
        loss = (prior - likelihood(logits.softmax(-1))) / patients
        loss.backward()
        return loss

    optimizer.step(closure)
    found = logits.detach()
    return (found - found.mean()).clamp(-MAX_LOGIT, MAX_LOGIT)
