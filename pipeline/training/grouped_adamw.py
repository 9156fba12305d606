"""AdamW for stacked parameters with one learning rate and one step count per group."""

from collections.abc import Sequence

from torch import Tensor, nn

from enecg.adamw import AdamWParameter, update
from enecg.stacked import StackPart


class GroupedAdamW:
    """`torch.optim.AdamW` applied independently to each group of stacked parameters.

    The first axis of a stacked parameter is the group. `torch.optim.AdamW` has one step count per
    tensor, so the groups could not take different numbers of steps. Therefore each group's slice,
    a view of the parameter, is optimized as a separate parameter.

    Args:
        parameters: Stacked parameters, updated in place.
        learning_rates: Learning rate of each group.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], learning_rates: Sequence[float]) -> None:
        self.parameters = list(parameters)
        self.learning_rates = list(learning_rates)
        self.groups = [
            [AdamWParameter(parameter.detach()[group]) for parameter in self.parameters]
            for group in range(len(learning_rates))
        ]

    def select(self, part: StackPart, parameters: Sequence[nn.Parameter]) -> "GroupedAdamW":
        """Return an optimizer for some groups and tasks that continues with their state.

        Args:
            part: The groups and tasks.
            parameters: Their parameters, in the order of the parameters of this optimizer.

        Returns:
            An optimizer with the state of these groups and tasks.
        """
        groups = part.groups.tolist()
        selected = GroupedAdamW(parameters, [self.learning_rates[group] for group in groups])
        for copies, group in zip(selected.groups, groups, strict=True):
            for copy, source in zip(copies, self.groups[group], strict=True):
                tasks = part.tasks if len(source.mean) > 1 else slice(None)
                copy.mean.copy_(source.mean[tasks])
                copy.square.copy_(source.square[tasks])
                copy.step.copy_(source.step)
        return selected

    def zero_grad(self) -> None:
        """Clear the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self, active: Sequence[bool]) -> None:
        """Update the active groups; parameters and optimizer state of the others do not change."""
        by_rate: dict[float, list[tuple[AdamWParameter, Tensor]]] = {}
        for number, (group, rate) in enumerate(zip(self.groups, self.learning_rates, strict=True)):
            if active[number]:
                by_rate.setdefault(rate, []).extend(
                    (part, parameter.grad[number])
                    for part, parameter in zip(group, self.parameters, strict=True)
                    if parameter.grad is not None
                )
        for rate, updates in by_rate.items():
            update([part for part, _ in updates], [gradient for _, gradient in updates], rate)
