"""Log-likelihood of predictions."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MIN_LOSS = 1e-12
"""Lower bound of losses of regressions before their logarithm is taken."""


def log_likelihood(
    loss: Float[Tensor, "*batch"],
    patients: Float[Tensor, "*batch"] | int,
    regression: Bool[Tensor, "*batch"] | bool,
) -> Float[Tensor, "*batch"]:
    """Compute the log-likelihood of labels up to a constant.

    Args:
        loss: Mean loss of the predictions; see `enecg.ensembles.base.task_loss`.
        patients: Number of patients. ECGs of one patient count as one observation.
        regression: Whether the task is a regression. Its errors are assumed to be normal. Their
            variance is estimated from the smooth L1 loss, which is proportional to it if no error
            exceeds 1.

    Returns:
        The log-likelihood.
    """
    normal = -patients / 2 * loss.clamp_min(MIN_LOSS).log()
    classes = cross_entropy_log_likelihood(loss, patients)
    return torch.where(torch.as_tensor(regression, device=loss.device), normal, classes)


def laplace_log_likelihood(
    error: Float[Tensor, "*batch"], patients: int
) -> Float[Tensor, "*batch"]:
    """Compute the log-likelihood of the labels of a regression task up to a constant.

    Errors are assumed to have a Laplace distribution, whose scale is estimated from the mean
    absolute error. The most likely model has the lowest mean absolute error, the metric of
    regression tasks. A normal distribution would penalize large errors more.

    Args:
        error: Mean absolute error of the predictions.
        patients: Number of patients. ECGs of one patient count as one observation.

    Returns:
        The log-likelihood.
    """
    return -patients * error.clamp_min(MIN_LOSS).log()


def cross_entropy_log_likelihood(
    loss: Float[Tensor, "*batch"], patients: Float[Tensor, "*batch"] | int
) -> Float[Tensor, "*batch"]:
    """Compute the log-likelihood of the labels of a classification or multilabel task.

    Args:
        loss: Mean cross-entropy of the predictions; for a multilabel task, also over the labels.
        patients: Number of patients. ECGs of one patient count as one observation.

    Returns:
        The log-likelihood; for a multilabel task, divided by the number of labels.
    """
    return -patients * loss
