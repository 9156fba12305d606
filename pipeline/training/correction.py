"""Factors of corrections, and out-of-fold corrections.

A correction is the output that an FFN adds to the linear path of a head, or to the prior of the
gate. With few patients, the epoch with the lowest validation loss is partly selected by noise, and
the loss on new patients is lower if the correction is multiplied by a factor below 1. There are two
estimates of the factor. The first is from the validation patients, on which the epoch was selected.
The second is from the training patients, with out-of-fold corrections: those of each half of the
training patients are learned from the other half, and are therefore less accurate. The factor of
heads is the mean of both. That of gates is the second, because the prior is also fitted on the
validation patients.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from enecg.stacked import StackedFFN, StackPart
from pipeline.training.first_layer import precompute_first_layer
from pipeline.training.likelihood import log_likelihood
from pipeline.training.stack import PADDING, VALIDATION_BATCH_SIZE, Group
from pipeline.training.stack_data import StackedData

FOLDS = (None, 0, 1)
"""Folds on which the FFNs of each repeat are trained; None is all training records."""

FACTORS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Candidate factors of corrections, which are averaged with their likelihoods as weights."""

CorrectedLosses = Callable[
    [int, Int[Tensor, "1 row"], float],
    tuple[Float[Tensor, "1 task"], Float[Tensor, "1 task"]],
]
"""Function that returns the sum of the losses and the number of records with a known label, by
task. Its arguments are the index of a repeat, the rows of training records, and the factor of their
out-of-fold corrections."""


def fit_factors(
    history: Float[np.ndarray, "epoch repeat task"],
    data: StackedData,
    corrected_losses: CorrectedLosses,
) -> Float[Tensor, "repeat task"]:
    """Compute the factor, from 0 to 1, of the heads' corrections of each repeat and task.

    Args:
        history: Validation losses. Epoch 0 is without a correction; losses are NaN after the last
            epoch.
        data: Labels and splits.
        corrected_losses: Losses of training records.

    Returns:
        The factors.
    """
    return (_weigh_epochs(history, data) + fit_train_factors(data, corrected_losses)) / 2


def _weigh_epochs(
    history: Float[np.ndarray, "epoch repeat task"], data: StackedData
) -> Float[Tensor, "repeat task"]:
    """Compute the posterior probability that corrections lower the loss of validation patients."""
    # The prior probability of "no correction" is 1/2; the other 1/2 is divided among the epochs.
    patients = torch.stack(
        [data.count_patients(index, repeat.validation) for index, repeat in enumerate(data.repeats)]
    )
    losses = torch.from_numpy(history).double()
    likelihood = log_likelihood(losses, patients.cpu(), data.regression.cpu())
    gains = likelihood[1:] - likelihood[0]
    epochs = (~gains.isnan()).sum(0)
    evidence = gains.nan_to_num(nan=-torch.inf).logsumexp(0) - epochs.clamp_min(1).log()
    return evidence.sigmoid().float().to(data.embedding.device)


def fit_train_factors(
    data: StackedData, corrected_losses: CorrectedLosses
) -> Float[Tensor, "repeat task"]:
    """Compute the mean of `FACTORS`, weighted by the likelihood of the training labels.

    Args:
        data: Labels and splits.
        corrected_losses: Losses of training records.

    Returns:
        The factors, from 0 to 1.
    """
    factors = torch.tensor(FACTORS, device=data.embedding.device)
    fitted = []
    for index, repeat in enumerate(data.repeats):
        losses = []
        for factor in FACTORS:
            total, known = corrected_losses(index, repeat.train.unsqueeze(0), factor)
            losses.append((total / known.clamp_min(1))[0])
        patients = data.count_patients(index, repeat.train)
        likelihood = log_likelihood(torch.stack(losses), patients, data.regression)
        fitted.append(factors @ likelihood.softmax(0))
    return torch.stack(fitted)


def predict_other_folds(
    stack: StackedFFN, data: StackedData, groups: Sequence[Group]
) -> Float[Tensor, "repeat task record output"]:
    """Compute the outputs of the FFNs of each fold for the records of the other fold.

    Args:
        stack: The FFNs.
        data: The records.
        groups: The stack's groups, in order.

    Returns:
        Outputs of training records, out of fold; NaN for other records, and for all records if no
        group is a fold.
    """
    device = data.embedding.device
    folds = [(index, group) for index, group in enumerate(groups) if group.fold is not None]
    shape = (len(data.repeats), len(data.tasks), data.rows.shape[1], stack.config.outputs)
    outputs = torch.full(shape, torch.nan, device=device)
    repeats = torch.tensor([group.repeat for group in groups], device=device)
    rows = [torch.empty(0, dtype=torch.long, device=device)] * len(groups)
    for index, group in folds:
        rows[index] = data.repeats[group.repeat].folds[1 - (group.fold or 0)]
    if not folds:
        return outputs
    padded = torch.nn.utils.rnn.pad_sequence(rows, True, PADDING)
    stack.eval()
    with torch.no_grad():
        first = precompute_first_layer(stack, data, groups)
        every = StackPart.all_of(stack)
        parts = [
            stack(data.features(repeats, part), first(every, part))
            for part in padded.split(VALIDATION_BATCH_SIZE, dim=1)
        ]
        predicted = torch.cat(parts, dim=2)
    for index, group in folds:
        outputs[group.repeat][:, rows[index]] = predicted[index, :, : len(rows[index])]
    return outputs
