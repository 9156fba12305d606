"""ECGFounder (Li et al., NEJM AI 2025, arXiv 2410.04133): a residual network on 12 filtered leads.

It was pretrained on the diagnoses of the Harvard-Emory ECG Database. Parameter names are those of
PKUDigitalHealth/ECGFounder, `net1d.py`, so that its checkpoints can be loaded.
"""

from dataclasses import asdict

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from enecg.ecg_format import LEADS
from enecg.experts.apply_filters import apply_filters
from enecg.experts.base import FrozenExpert, build_seeded
from enecg.experts.checkpoints import build_strict
from enecg.experts.definition import ExpertDefinition
from enecg.experts.definitions.ecgfounder import FILTERING
from enecg.experts.ecgfounder_checkpoint import (
    Architecture,
    read_ecgfounder_checkpoint,
)
from enecg.experts.filtering import Filtering
from enecg.experts.weights import Weights

NORMALIZE_EPSILON = 1e-8
"""Constant added to the SD of the record, as in the published code."""


class _Convolution(nn.Module):
    """A convolution whose output has one sample per `stride` samples, rounded up."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride, groups=groups)

    def forward(
        self, states: Float[Tensor, "batch channel time"]
    ) -> Float[Tensor, "batch other_channel shorter_time"]:
        steps = states.shape[-1]
        last = -(-steps // self.stride) - 1
        padding = max(0, last * self.stride + self.kernel - steps)
        left = padding // 2
        result: Tensor = self.conv(functional.pad(states, (left, padding - left)))
        return result


class _Block(nn.Module):
    """A residual block: three convolutions, squeeze and excitation, and a shortcut.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        halves: Whether the block halves the number of samples.
        is_first: Whether the block is the first of the network, whose input is already activated.
        architecture: Sizes of the model.
    """

    def __init__(
        self, inputs: int, outputs: int, halves: bool, is_first: bool, architecture: Architecture
    ) -> None:
        super().__init__()
        self.halves = halves
        self.is_first = is_first
        self.conv1 = _Convolution(inputs, outputs)
        self.conv2 = _Convolution(
            outputs,
            outputs,
            architecture.kernel,
            stride=2 if halves else 1,
            groups=outputs // architecture.group_width,
        )
        self.conv3 = _Convolution(outputs, outputs)
        self.se_fc1 = nn.Linear(outputs, outputs // 2)
        self.se_fc2 = nn.Linear(outputs // 2, outputs)

    def forward(
        self, states: Float[Tensor, "batch channel time"]
    ) -> Float[Tensor, "batch other_channel shorter_time"]:
        hidden = self.conv1(states if self.is_first else functional.silu(states))
        hidden = self.conv2(functional.silu(hidden))
        hidden = self.conv3(functional.silu(hidden))
        gate = self.se_fc2(functional.silu(self.se_fc1(hidden.mean(-1)))).sigmoid()
        shortcut = states
        if self.halves:
            # A zero completes the last pair of an odd number of samples.
            shortcut = functional.max_pool1d(functional.pad(shortcut, (0, 1)), 2)
        added = hidden.shape[1] - shortcut.shape[1]
        shortcut = functional.pad(shortcut, (0, 0, added // 2, added - added // 2))
        result: Tensor = hidden * gate[..., None] + shortcut
        return result


class _Stage(nn.Module):
    def __init__(self, blocks: list[_Block]) -> None:
        super().__init__()
        self.block_list = nn.ModuleList(blocks)

    def forward(
        self, states: Float[Tensor, "batch channel time"]
    ) -> Float[Tensor, "batch other_channel shorter_time"]:
        for block in self.block_list:
            states = block(states)
        return states


class EcgFounder(nn.Module):
    """ECGFounder without its classifier.

    Args:
        architecture: Sizes of the model.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.first_conv = _Convolution(len(LEADS), architecture.stem, architecture.kernel, stride=2)
        stages: list[_Stage] = []
        width = architecture.stem
        for outputs, blocks in zip(architecture.widths, architecture.blocks, strict=True):
            inputs = [width] + [outputs] * (blocks - 1)
            stages.append(
                _Stage(
                    [
                        _Block(count, outputs, index == 0, not stages and index == 0, architecture)
                        for index, count in enumerate(inputs)
                    ]
                )
            )
            width = outputs
        self.stage_list = nn.ModuleList(stages)

    def forward(
        self, leads: Float[Tensor, "batch 12 time"]
    ) -> Float[Tensor, "batch channel token"]:
        """Compute the states of the last stage: 20 tokens from 5,000 samples."""
        states = functional.silu(self.first_conv(leads))
        for stage in self.stage_list:
            states = stage(states)
        return states


def preprocess(
    ecg: Float[Tensor, "batch 12 time"], filtering: Filtering = FILTERING
) -> Float[Tensor, "batch 12 time"]:
    """Filter each lead, and standardize the record over all leads together.

    Args:
        ecg: ECGs in mV at 500 Hz.
        filtering: The filters.

    Returns:
        Records with mean 0 and variance 1; a record of constant leads becomes 0,
        except for rounding errors.
    """
    filtered = apply_filters(ecg, filtering)
    centered = filtered - filtered.mean((1, 2), keepdim=True)
    # Unlike that of a square root, the gradient of a norm is finite at 0.
    norm = torch.linalg.vector_norm(centered, dim=(1, 2), keepdim=True)
    standardized: Tensor = centered / (norm / centered[0].numel() ** 0.5 + NORMALIZE_EPSILON)
    return standardized


class EcgFounderExpert(FrozenExpert):
    """The states of the last stage, one series of 20 tokens of 0.5 s."""

    model: EcgFounder

    def states(self, ecg: Float[Tensor, "batch 12 5000"]) -> Float[Tensor, "batch 1 token feature"]:
        """Compute the states; see `FrozenExpert.states`."""
        filtering = self.spec.preprocessing.filtering
        assert filtering is not None
        states: Tensor = self.model(preprocess(ecg, filtering))
        return states.transpose(1, 2)[:, None]


def _initialize(model: EcgFounder) -> EcgFounder:
    """Draw the weights from torch's default distributions, but in float64.

    Args:
        model: A model with random weights.

    Returns:
        The model.
    """
    # Rounding float64 values to float32 removes differences between CPUs.
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Conv1d | nn.Linear):
                bound = layer.weight[0].numel() ** -0.5
                for tensor in layer.parameters():
                    drawn = torch.empty_like(tensor, dtype=torch.float64)
                    tensor.copy_(drawn.uniform_(-bound, bound))
    return model


def build(definition: ExpertDefinition, weights: Weights, pooling: str) -> EcgFounderExpert:
    """Build the expert; see `ExpertDefinition.build`."""
    if weights.path is None:
        assert weights.seed is not None
        model = build_seeded(lambda: _initialize(EcgFounder(Architecture())), weights.seed)
    else:
        architecture, tensors, unused = read_ecgfounder_checkpoint(weights.path)
        model = build_strict(lambda: EcgFounder(architecture), tensors, weights.path, unused)
    spec = definition.spec(
        weights,
        model,
        architecture=asdict(model.architecture),
        pooling=pooling,
        series=1,
        size=model.architecture.widths[-1],
    )
    return EcgFounderExpert(spec, model)
