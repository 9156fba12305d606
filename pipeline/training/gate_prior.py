"""The prior of the gate: for each task, one weight per expert that is the same for all records."""

import torch
from jaxtyping import Float
from torch import Tensor

from enecg.ensembles.base import is_labeled, task_loss
from enecg.gate import mix
from enecg.tasks import Kind
from pipeline.training.labeled_repeat import LabeledRepeat

ITERATIONS = 100
RIDGE = 1e-3
"""Penalty on the squared logits."""
MAX_LOGIT = 5.0
"""Keeps the weight of a useless expert above 0, so that the gate can still use it for a record."""


def fit_prior(
    repeat: LabeledRepeat, out_of_fold: dict[str, Float[Tensor, "expert record output"]]
) -> Float[Tensor, "task expert"]:
    """Fit the prior of each task on training and validation records together.

    Args:
        repeat: Records and labels.
        out_of_fold: The heads' out-of-fold predictions, by task.

    Returns:
        Logits of the experts' weights; their mean over the experts is 0.
    """
    logits = []
    for task, targets in repeat.targets.items():
        encoded = repeat.encoded[task]
        rows = torch.cat([repeat.train, repeat.validation])
        rows = rows[is_labeled(encoded[rows])]
        logits.append(_fit_logits(targets.task.kind, out_of_fold[task][:, rows], encoded[rows]))
    return torch.stack(logits)


def _fit_logits(
    kind: Kind,
    predictions: Float[Tensor, "expert record output"],
    encoded: Float[Tensor, "record *label"],
) -> Float[Tensor, " expert"]:
    """Minimize the loss of the mixture, which is convex in the weights."""
    predictions = predictions.detach().double()
    logits = torch.zeros(len(predictions), dtype=torch.float64, device=predictions.device)
    logits.requires_grad_(True)
    optimizer = torch.optim.LBFGS([logits], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        mixed = mix(logits.softmax(-1).expand(predictions.shape[1], 1, -1), predictions)
        loss = task_loss(kind, mixed, encoded) + RIDGE * logits.square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    found = logits.detach().float()
    return (found - found.mean()).clamp(-MAX_LOGIT, MAX_LOGIT)
