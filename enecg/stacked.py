"""Many FFNs of one shape computed in one pass: repeats, tasks and trials side by side.

A head is so small that calling torch costs more than computing it, so `groups` x `tasks` of them
are one batched product. Each has parameters of its own, so training them together is training
them one by one. What is trained here is handed over to the plain modules of `heads.py` and
`gate.py`, which peft saves, and which answer alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional

from enecg.heads import FFN


@dataclass(frozen=True)
class StackConfig:
    """What the FFNs of a stack have in common.

    `outputs`: the most that any task has. `lora`: the hidden layers learn by LoRA of this
    `rank` alone; else they are trained outright. `shared`: all tasks of a group have the same
    hidden layers. `zero_prediction`: the prediction begins at 0.
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


class StackedFFN(nn.Module):
    """`groups` x `tasks` FFNs, drawn from `seeds`, one a group: of one seed they are drawn alike.

    Parameters have the leading axes (group, task); where hidden layers are shared, (group, 1).
    """

    def __init__(self, config: StackConfig, tasks: int, seeds: Sequence[int]) -> None:
        super().__init__()
        self.config = config
        drawn = {seed: _draw(config, tasks, seed) for seed in set(seeds)}

        def stacked(name: str) -> nn.Parameter:
            return nn.Parameter(torch.stack([drawn[seed][name] for seed in seeds]))

        depths = range(config.depth)
        self.weight = nn.ParameterList(stacked(f"weight{depth}") for depth in depths)
        self.bias = nn.ParameterList(stacked(f"bias{depth}") for depth in depths)
        self.lora_a = nn.ParameterList()
        self.lora_b = nn.ParameterList()
        if config.lora:
            self.weight.requires_grad_(False)
            self.bias.requires_grad_(False)
            self.lora_a.extend(stacked(f"lora_a{depth}") for depth in depths)
            self.lora_b.extend(stacked(f"lora_b{depth}") for depth in depths)
        self.prediction = stacked("prediction")
        self.prediction_bias = stacked("prediction_bias")

    def first_layer(
        self, group: int, features: Float[Tensor, "record feature"]
    ) -> Float[Tensor, "record task hidden"]:
        """What the first hidden layer of a group makes of features without LoRA.

        It stays the same as long as the layer is frozen, so it need be computed but once.
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
        """Every FFN's output on its group's batch; `first` as it comes from `first`.

        Dropout leaves out the same units in all groups and tasks, which know nothing of each
        other: drawing for each of them would take longer than all the rest.
        """
        states = features.unsqueeze(1)
        for depth in range(self.config.depth):
            weight, bias = self.weight[depth], self.bias[depth]
            if depth == 0 and first is not None:
                before = first.transpose(1, 2)
            else:
                before = _times(states, weight) + bias.unsqueeze(2)
            if self.config.lora:
                low = _times(self._drop(states), self.lora_a[depth])
                scale = self.config.alpha / self.config.rank
                before = before + scale * _times(low, self.lora_b[depth])
            states = self._drop(functional.gelu(before))
        return _times(states, self.prediction) + self.prediction_bias.unsqueeze(2)

    def _drop(self, states: Tensor) -> Tensor:
        share = self.config.dropout
        if not self.training or not share:
            return states
        kept = torch.rand(states.shape[-2:], device=states.device) >= share
        return states * (kept / (1 - share))

    def copy_to(self, group: int, ffns: Sequence[nn.Module]) -> None:
        """Copy a group's parameters into its tasks' FFNs, plain or wrapped by peft."""
        with torch.no_grad():
            for task, adapted in enumerate(ffns):
                ffn = adapted.get_base_model() if isinstance(adapted, PeftModel) else adapted
                assert isinstance(ffn, FFN)
                layers = [ffn.hidden, *ffn.more] if ffn.depth else []
                for depth, layer in enumerate(layers):
                    shared = min(task, self.weight[depth].shape[1] - 1)
                    plain = layer.base_layer if self.config.lora else layer
                    plain.weight.copy_(self.weight[depth][group, shared])
                    plain.bias.copy_(self.bias[depth][group, shared])
                    if self.config.lora:
                        layer.lora_A["default"].weight.copy_(self.lora_a[depth][group, task])
                        layer.lora_B["default"].weight.copy_(self.lora_b[depth][group, task])
                last = ffn.prediction
                if not isinstance(last, nn.Linear):
                    last = last.modules_to_save["default"]
                outputs = last.out_features
                last.weight.copy_(self.prediction[group, task, :outputs])
                last.bias.copy_(self.prediction_bias[group, task, :outputs])


def _times(
    states: Float[Tensor, "group task_or_1 batch in"],
    weight: Float[Tensor, "group task_or_1 out in"],
) -> Float[Tensor, "group task batch out"]:
    """Each FFN's states times its weight. States that all tasks have in common are read once."""
    if states.shape[1] == 1 and weight.shape[1] > 1:
        product: Tensor = torch.bmm(states[:, 0], weight.flatten(1, 2).mT)
        product = product.unflatten(-1, weight.shape[1:3])
        return product.transpose(1, 2)
    return states @ weight.mT


def _draw(config: StackConfig, tasks: int, seed: int) -> dict[str, Tensor]:
    """A group's initial parameters, each with a leading task axis, as torch and peft draw them."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        ffns = [
            FFN(config.features, config.hidden, config.outputs, config.dropout, config.depth)
            for _ in range(tasks)
        ]
        drawn = {
            "prediction": torch.stack([ffn.prediction.weight.data for ffn in ffns]),
            "prediction_bias": torch.stack([ffn.prediction.bias.data for ffn in ffns]),
        }
        if config.zero_prediction:
            drawn = {name: torch.zeros_like(value) for name, value in drawn.items()}
        for depth in range(config.depth):
            layers = [[ffn.hidden, *ffn.more][depth] for ffn in ffns]
            kept = layers[:1] if config.shared else layers
            drawn[f"weight{depth}"] = torch.stack([layer.weight.data for layer in kept])
            drawn[f"bias{depth}"] = torch.stack([layer.bias.data for layer in kept])
            low = torch.empty(tasks, config.rank, layers[0].in_features)
            for one in low:
                nn.init.kaiming_uniform_(one, a=math.sqrt(5))
            drawn[f"lora_a{depth}"] = low
            drawn[f"lora_b{depth}"] = torch.zeros(tasks, config.hidden, config.rank)
    return drawn
