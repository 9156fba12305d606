"""Corrections of linear paths: the share that is used, and predictions for the other fold.

The best of many epochs on few validation patients is partly chosen by noise. Therefore the
correction is multiplied by the posterior probability that it helps. The prior probabilities of "no
correction" and "a correction" are equal, the latter is divided among the epochs, and the likelihood
is that of the validation patients.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from enecg.stacked import StackedFFN
from pipeline.training.stack import PADDING, VALIDATION_BATCH_SIZE, Group
from pipeline.training.stack_data import StackedData, precompute_first_layer

FOLDS = (None, 0, 1)
"""Heads of each repeat: on all training records, and on each fold of them."""


def fit_factors(
    history: Float[np.ndarray, "epoch group task"], data: StackedData, groups: Sequence[Group]
) -> Float[Tensor, "group task"]:
    """Compute the factor, from 0 to 1, of each correction.

    Args:
        history: Validation losses; epoch 0 is without a correction, NaN is after the last epoch.
        data: Labels and splits.
        groups: The groups.

    Returns:
        The factors.
    """
    losses = torch.from_numpy(history).double()
    patients = torch.tensor(
        [
            [
                len(data.repeats[group.repeat].patients[group.validation[known]].unique())
                for known in ~data.encoded[group.repeat][:, group.validation].isnan()
            ]
            for group in groups
        ]
    ).double()
    # The log-likelihood of normal errors with unknown variance, or of the classes.
    likelihood = torch.where(
        data.regression.cpu(), -patients / 2 * losses.clamp_min(1e-12).log(), -patients * losses
    )
    gains = likelihood[1:] - likelihood[0]
    epochs = (~gains.isnan()).sum(0)
    evidence = gains.nan_to_num(nan=-torch.inf).logsumexp(0) - epochs.clamp_min(1).log()
    return evidence.sigmoid().float().to(data.embedding.device)


def predict_other_folds(
    stack: StackedFFN, data: StackedData, groups: Sequence[Group]
) -> Float[Tensor, "group task record output"]:
    """Compute the outputs of the heads of each fold for the records of the other fold.

    Args:
        stack: The FFNs.
        data: The records.
        groups: The stack's groups, in order.

    Returns:
        The outputs, in the order of `LabeledRepeat.folds`. They are arbitrary beyond the records of
        a fold and for groups on all training records.
    """
    device = data.embedding.device
    repeats = torch.tensor([group.repeat for group in groups], device=device)
    rows = [
        torch.empty(0, dtype=torch.long, device=device)
        if group.fold is None
        else data.repeats[group.repeat].folds[1 - group.fold]
        for group in groups
    ]
    padded = torch.nn.utils.rnn.pad_sequence(rows, True, PADDING)
    stack.eval()
    with torch.no_grad():
        first = precompute_first_layer(stack, data, groups)
        parts = [
            stack(data.features(repeats, part), first(part))
            for part in padded.split(VALIDATION_BATCH_SIZE, dim=1)
        ]
    return torch.cat(parts, dim=2)
