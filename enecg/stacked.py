"""Compute many FFNs of the same shape in one pass.

The FFNs of a stack have two axes, groups and tasks. A group is one repeat, fold or sweep trial,
with its own records. A single FFN is so small that calling torch takes longer than the arithmetic.
Therefore, each layer of all `groups` x `tasks` FFNs is computed by one batched matrix product. Each
FFN has its own trained parameters, so training them together is equivalent to training them one by
one. After training, the parameters are copied to the modules of `heads.py` and `gate.py`, which
compute the same outputs. Run folders contain the state of these modules.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional

from enecg.heads import FFN
from enecg.lora import LoraLinear


@dataclass(frozen=True)
class StackConfig:
    """Configuration shared by all FFNs of a stack.

    Attributes:
        features: Number of input features.
        hidden: Units of each hidden layer.
        outputs: Largest number of outputs of any task.
        depth: Number of hidden layers; with 0, an FFN is a single linear layer.
        lora: Whether hidden layers are frozen and adapted by LoRA, instead of trained.
        shared: Whether all tasks of a group share the weights of the hidden layers. LoRA updates
            and output layers are not shared.
        zero_prediction: Whether the output layers are initialized to 0.
        rank: Rank of the LoRA updates.
        alpha: LoRA scaling; the update is multiplied by `alpha / rank`.
        dropout: Dropout probability after hidden layers and on the inputs of LoRA updates.
    """

    features: int
    hidden: int
    outputs: int
    depth: int = 1
    lora: bool = True
    shared: bool = False
    zero_prediction: bool = False
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.1


@dataclass(frozen=True)
class StackPart:
    """A selection of groups and tasks of a stack: every combination of the two is selected.

    Attributes:
        groups: Indices of the groups.
        tasks: Indices of the tasks.
    """

    groups: Int[Tensor, " group"]
    tasks: Int[Tensor, " task"]

    @classmethod
    def all_of(cls, stack: "StackedFFN") -> "StackPart":
        """Select all groups and tasks of a stack."""
        groups, tasks = stack.prediction_weight.shape[:2]
        device = stack.prediction_weight.device
        return cls(torch.arange(groups, device=device), torch.arange(tasks, device=device))

    def select(self, values: Shaped[Tensor, "group task_or_1 ..."]) -> Shaped[Tensor, "..."]:
        """Copy the values of the selected groups and tasks.

        Args:
            values: Values of all groups and tasks. The task axis has length 1 if all tasks share
                the values.

        Returns:
            The copy, with the leading axes (group, task), or (group, 1) for shared values.
        """
        if values.shape[1] == 1:
            return values[self.groups]
        return values[self.groups.unsqueeze(1), self.tasks]


class StackedFFN(nn.Module):
    """`groups` x `tasks` FFNs in one module.

    The leading axes of parameters are (group, task), and (group, 1) for weights and biases of
    hidden layers that all tasks of a group share.

    Args:
        config: Configuration of every FFN.
        parameters: Initial parameters by name, such as ``prediction_weight`` or ``lora_a.0``.

    Attributes:
        generator: Random generator of the dropout masks. Default: the global generator of torch.
    """

    def __init__(self, config: StackConfig, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.config = config
        self.generator: torch.Generator | None = None

        def layers(name: str, *, trained: bool = True) -> nn.ParameterList:
            found = [parameters.get(f"{name}.{depth}") for depth in range(config.depth)]
            return nn.ParameterList(
                nn.Parameter(values, trained) for values in found if values is not None
            )

        self.weight = layers("weight", trained=not config.lora)
        self.bias = layers("bias", trained=not config.lora)
        self.lora_a = layers("lora_a")
        self.lora_b = layers("lora_b")
        self.prediction_weight = nn.Parameter(parameters["prediction_weight"])
        self.prediction_bias = nn.Parameter(parameters["prediction_bias"])

    @classmethod
    def initialize(cls, config: StackConfig, tasks: int, seeds: Sequence[int]) -> "StackedFFN":
        """Create untrained FFNs, whose parameters are initialized as by torch and peft.

        Args:
            config: Configuration of every FFN.
            tasks: Number of FFNs per group.
            seeds: Seed of the initial parameters of each group. Equal seeds give equal parameters.

        Returns:
            The stack.
        """
        initial = {seed: _initialize(config, tasks, seed) for seed in set(seeds)}
        names = initial[seeds[0]]
        return cls(
            config, {name: torch.stack([initial[seed][name] for seed in seeds]) for name in names}
        )

    def select(self, part: StackPart) -> "StackedFFN":
        """Copy a part of this stack to a new stack, which uses the same generator object."""
        parameters = {
            name: part.select(parameter.detach()) for name, parameter in self.named_parameters()
        }
        selected = StackedFFN(self.config, parameters)
        selected.generator = self.generator
        return selected

    def first_layer(
        self, group: int, features: Float[Tensor, "record feature"]
    ) -> Float[Tensor, "record task hidden"]:
        """Compute a group's first hidden layer without LoRA, before the activation.

        With `config.lora` the layer is frozen, so one call per training run suffices.

        Args:
            group: Index of the group.
            features: Features of any number of records.

        Returns:
            The output of the linear layer. The task axis has length 1 if hidden layers are shared.
        """
        weight = self.weight[0][group]
        product = features @ weight.flatten(0, 1).mT
        layer: Tensor = product.unflatten(-1, weight.shape[:2]) + self.bias[0][group]
        return layer

    def forward(
        self,
        features: Float[Tensor, "group batch feature"],
        first: Float[Tensor, "group batch task_or_1 hidden"] | None = None,
    ) -> Float[Tensor, "group task batch output"]:
        """Compute the outputs of every FFN for the batch of its group.

        In training mode, all FFNs use the same dropout mask, because drawing one per FFN would take
        longer than all other operations. This does not make the FFNs depend on each other.

        Args:
            features: Features of one batch of records per group.
            first: Outputs of `first_layer` for these records. Default: they are computed.

        Returns:
            The outputs; see `FFN.forward`.
        """
        states = features.unsqueeze(1)
        for depth in range(self.config.depth):
            weight, bias = self.weight[depth], self.bias[depth]
            if depth == 0 and first is not None:
                before = first.transpose(1, 2)
            else:
                before = _multiply(states, weight) + bias.unsqueeze(2)
            if self.config.lora:
                low = _multiply(self._drop(states), self.lora_a[depth])
                scale = self.config.alpha / self.config.rank
                before = before + scale * _multiply(low, self.lora_b[depth])
            states = self._drop(functional.gelu(before))
        return _multiply(states, self.prediction_weight) + self.prediction_bias.unsqueeze(2)

    def scale_predictions(self, factors: Float[Tensor, "group task"]) -> None:
        """Multiply the output layer of each FFN by a factor, and thereby its outputs."""
        with torch.no_grad():
            self.prediction_weight.mul_(factors[..., None, None])
            self.prediction_bias.mul_(factors[..., None])

    def _drop(self, states: Tensor) -> Tensor:
        """Apply dropout with one mask of shape (batch, feature) for all groups and tasks."""
        probability = self.config.dropout
        if not self.training or not probability:
            return states
        kept = (
            torch.rand(states.shape[-2:], device=states.device, generator=self.generator)
            >= probability
        )
        return states * (kept / (1 - probability))

    def copy_to(self, group: int, ffns: Iterable[nn.Module]) -> None:
        """Copy the parameters of a group to separate `FFN` modules.

        With `config.lora`, their hidden layers become `LoraLinear`.

        Args:
            group: Index of the group.
            ffns: One `FFN` per task, modified in place.
        """
        with torch.no_grad():
            for task, ffn in enumerate(ffns):
                assert isinstance(ffn, FFN)
                outputs = ffn.prediction.out_features
                ffn.prediction.weight.copy_(self.prediction_weight[group, task, :outputs])
                ffn.prediction.bias.copy_(self.prediction_bias[group, task, :outputs])
                if self.config.lora:
                    ffn.requires_grad_(False)
                    ffn.prediction.requires_grad_(True)
                for depth, layer in enumerate(_linear_layers(ffn)):
                    shared = min(task, self.weight[depth].shape[1] - 1)
                    layer.weight.copy_(self.weight[depth][group, shared])
                    layer.bias.copy_(self.bias[depth][group, shared])
                    if self.config.lora:
                        a, b = self.lora_a[depth][group, task], self.lora_b[depth][group, task]
                        adapted = LoraLinear(layer, a.clone(), b.clone(), self.config.alpha)
                        if depth:
                            ffn.more[depth - 1] = adapted
                        else:
                            ffn.hidden = adapted


def _linear_layers(ffn: FFN) -> list[nn.Linear]:
    """Return the hidden layers of an FFN without LoRA updates."""
    return [layer for layer in ffn.hidden_layers if isinstance(layer, nn.Linear)]


def _multiply(
    states: Float[Tensor, "group task_or_1 batch in"],
    weight: Float[Tensor, "group task_or_1 out in"],
) -> Float[Tensor, "group task batch out"]:
    """Multiply the states of each FFN by its transposed weight."""
    # One product with the weights of all tasks reads states that all tasks share only once.
    if states.shape[1] == 1 and weight.shape[1] > 1:
        product: Tensor = torch.bmm(states[:, 0], weight.flatten(1, 2).mT)
        product = product.unflatten(-1, weight.shape[1:3])
        return product.transpose(1, 2)
    return states @ weight.mT


def _initialize(config: StackConfig, tasks: int, seed: int) -> dict[str, Tensor]:
    """Initialize the parameters of one group as torch and peft do; their first axis is the task."""
    generator = torch.Generator().manual_seed(seed)
    ffns = [_initialize_ffn(config, generator) for _ in range(tasks)]
    parameters = {
        "prediction_weight": torch.stack([ffn.prediction.weight.data for ffn in ffns]),
        "prediction_bias": torch.stack([ffn.prediction.bias.data for ffn in ffns]),
    }
    if config.zero_prediction:
        parameters = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for depth in range(config.depth):
        layers = [_linear_layers(ffn)[depth] for ffn in ffns]
        kept = layers[:1] if config.shared else layers
        parameters[f"weight.{depth}"] = torch.stack([layer.weight.data for layer in kept])
        parameters[f"bias.{depth}"] = torch.stack([layer.bias.data for layer in kept])
        if not config.lora:
            continue
        lora_a = torch.empty(tasks, config.rank, layers[0].in_features)
        for matrix in lora_a:
            nn.init.kaiming_uniform_(matrix, a=math.sqrt(5), generator=generator)
        parameters[f"lora_a.{depth}"] = lora_a
        parameters[f"lora_b.{depth}"] = torch.zeros(tasks, config.hidden, config.rank)
    return parameters


def _initialize_ffn(config: StackConfig, generator: torch.Generator) -> FFN:
    """Build an FFN with the default initialization of torch, drawn from a generator."""
    # The parameters that the constructor draws from torch's global generator are replaced, because
    # other threads share that generator.
    ffn = FFN(config.features, config.hidden, config.outputs, config.dropout, config.depth)
    for layer in [*_linear_layers(ffn), ffn.prediction]:
        nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
        bound = 1 / math.sqrt(layer.in_features)
        nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return ffn
