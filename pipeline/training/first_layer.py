"""Cache of the outputs of a stack's frozen first layer."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from enecg.stacked import StackedFFN, StackPart
from pipeline.training.mapped_tensor import MappedTensor
from pipeline.training.stack import Group
from pipeline.training.stack_data import PREDICTION_BATCH_SIZE, StackedData


def precompute_first_layer(
    stack: StackedFFN, data: StackedData, groups: Sequence[Group]
) -> Callable[[StackPart, Tensor], Tensor | None]:
    """Compute the outputs of a frozen first layer for all records, to reuse them in every epoch.

    Groups of the same repeat with equal frozen weights share the outputs.

    Args:
        stack: The stacked FFNs.
        data: Features of the records.
        groups: Groups of the stack, in the order of its group axis.

    Returns:
        Function of a part of the stack and row indices of shape (group, batch). It returns the
        argument `first` of `StackedFFN.forward`: the outputs for these records, or None if the
        first layer is not frozen.

    Raises:
        UserError: A temporary file cannot be allocated; see `MappedTensor`.
    """
    if not (stack.config.lora and stack.config.depth):
        return lambda part, rows: None
    weights = stack.weight[0]
    distinct: list[int] = []  # index of the first group of each pair of repeat and weights
    output_indices = []
    for index, group in enumerate(groups):
        same = [
            position
            for position, other in enumerate(distinct)
            if groups[other].repeat == group.repeat and torch.equal(weights[other], weights[index])
        ]
        output_indices.append(same[0] if same else len(distinct))
        if not same:
            distinct.append(index)
    shape = (len(distinct), data.rows.shape[1], *weights.shape[1:3])
    outputs = MappedTensor(shape, weights.dtype, weights.device, data.max_bytes)
    for number, index in enumerate(distinct):
        repeat = torch.tensor([groups[index].repeat], device=weights.device)
        for start in range(0, shape[1], PREDICTION_BATCH_SIZE):
            rows = torch.arange(
                start, min(start + PREDICTION_BATCH_SIZE, shape[1]), device=weights.device
            )
            part = stack.first_layer(index, data.features(repeat, rows.unsqueeze(0))[0])
            outputs.tensor[number, start : start + len(part)] = part
            outputs.count(part)
    output_of_group = torch.tensor(output_indices, device=weights.device)

    def take(part: StackPart, rows: Int[Tensor, "group batch"]) -> Tensor:
        number = output_of_group[part.groups].unsqueeze(1)
        if len(part.tasks) == shape[2] or shape[2] == 1:  # omitting the task index is faster
            return outputs.take((number, rows))
        return outputs.take((number.unsqueeze(2), rows.unsqueeze(2), part.tasks))

    return take
