"""Losses of stacked heads and gates, summed over the records of each group (`stack.Group`)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from pipeline.training.stack_data import StackedData


def sum_output_losses(
    data: StackedData,
    repeats: Int[Tensor, " group"],
    rows: Int[Tensor, "group batch"],
    output: Float[Tensor, "group task batch output"],
) -> tuple[Float[Tensor, "group task"], Float[Tensor, "group task"]]:
    """Sum the losses of the outputs of heads over the records with a known label.

    Args:
        data: Labels.
        repeats: Index of the repeat of each group.
        rows: Row indices of records of that repeat, or `PADDING`.
        output: Outputs of the heads. For a regression task, output 0 is the standardized value; for
            other tasks, outputs are logits.

    Returns:
        The summed losses, and the number of records with a known label.
    """
    valid = data.valid[repeats].unsqueeze(2)
    logits = output.masked_fill(~valid, float("-inf")).log_softmax(-1)
    sums = sum_losses(output[..., 0], logits, data.targets(repeats, rows), data.regression)
    if not data.indicators:
        return sums
    present, absent = functional.logsigmoid(output), functional.logsigmoid(-output)
    return data.add_label_losses(sums, repeats, rows, present, absent)


def sum_losses(
    value: Float[Tensor, "group task batch"],
    log_probability: Float[Tensor, "group task batch output"],
    encoded: Float[Tensor, "group task batch"],
    regression: Bool[Tensor, " task"],
) -> tuple[Float[Tensor, "group task"], Float[Tensor, "group task"]]:
    """Sum smooth L1 losses and cross-entropies over the records with a known label.

    The losses of multilabel tasks are not meaningful; `StackedData.add_label_losses` replaces them.

    Args:
        value: Standardized predictions; used only for regression tasks.
        log_probability: Log probability of each class; not used for regression tasks.
        encoded: Standardized values or class indices; NaN where unknown.
        regression: Mask of the regression tasks, which have the smooth L1 loss. Other tasks have
            the cross-entropy.

    Returns:
        The summed losses, and the number of records with a known label.
    """
    known = ~encoded.isnan()
    truth = encoded.nan_to_num()
    mask = regression.view(1, -1, 1)
    classes = torch.where(mask, 0.0, truth).long()
    losses = torch.where(
        mask,
        functional.smooth_l1_loss(value, truth, reduction="none"),
        -log_probability.gather(-1, classes.unsqueeze(-1)).squeeze(-1),
    )
    return torch.where(known, losses, 0.0).sum(-1), known.sum(-1).float()
