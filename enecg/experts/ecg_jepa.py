"""ECG-JEPA (Kim, arXiv 2410.08559): a transformer on patches of eight leads.

It was pretrained without labels by predicting the states of masked patches. Parameter names are
those of sehunfromdaegu/ECG_JEPA, `ecg_jepa.py`, so that its checkpoints can be loaded.
"""

import re
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from enecg.ecg_format import LEADS
from enecg.errors import UserError
from enecg.experts.base import FrozenExpert, build_seeded
from enecg.experts.checkpoints import build_strict, open_checkpoint
from enecg.experts.definition import ExpertDefinition
from enecg.experts.definitions.ecg_jepa import JEPA_LEADS, STEPS
from enecg.experts.weights import Weights
from enecg.signal import fourier_resample

PATCH_STEPS = 50
PATCHES = STEPS // PATCH_STEPS
"""Patches per lead, of 0.2 s each."""

HEAD_SIZE = 48
"""Features per attention head, which the tensors of a checkpoint do not determine."""

INITIAL_SD = 0.02


@dataclass(frozen=True)
class Architecture:
    """Sizes of the model; the defaults are the published ones.

    Attributes:
        size: Features of the states, a multiple of `HEAD_SIZE`.
        layers: Number of transformer layers.
        feed_forward_size: Units of the feed-forward layers.
    """

    size: int = 768
    layers: int = 12
    feed_forward_size: int = 3072


class _Attention(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(size, 3 * size, bias=False)
        self.proj = nn.Linear(size, size)

    def forward(
        self, states: Float[Tensor, "batch token size"], mask: Bool[Tensor, "token token"]
    ) -> Float[Tensor, "batch token size"]:
        parts = self.qkv(states).unflatten(-1, (3, -1, HEAD_SIZE)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        heads = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        result: Tensor = self.proj(heads.transpose(1, 2).flatten(2))
        return result


class _FeedForward(nn.Module):
    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(size, hidden)
        self.fc2 = nn.Linear(hidden, size)

    def forward(
        self, states: Float[Tensor, "batch token size"]
    ) -> Float[Tensor, "batch token size"]:
        result: Tensor = self.fc2(functional.gelu(self.fc1(states)))
        return result


class _Block(nn.Module):
    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        size = architecture.size
        self.norm1 = nn.LayerNorm(size)
        self.attn = _Attention(size)
        self.norm2 = nn.LayerNorm(size)
        self.mlp = _FeedForward(size, architecture.feed_forward_size)

    def forward(
        self, states: Float[Tensor, "batch token size"], mask: Bool[Tensor, "token token"]
    ) -> Float[Tensor, "batch token size"]:
        states = states + self.attn(self.norm1(states), mask)
        result: Tensor = states + self.mlp(self.norm2(states))
        return result


class _Blocks(nn.Module):
    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(architecture) for _ in range(architecture.layers))


class EcgJepa(nn.Module):
    """The encoder of ECG-JEPA, without the predictor that only pretraining uses.

    Args:
        architecture: Sizes of the model.
    """

    mask: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        tokens = len(JEPA_LEADS) * PATCHES
        self.pos_embed = nn.Parameter(torch.zeros(tokens, architecture.size))
        self.encoder_blocks = _Blocks(architecture)
        self.norm = nn.LayerNorm(architecture.size)
        self.W_P = nn.Linear(PATCH_STEPS, architecture.size)
        lead, patch = torch.arange(tokens) // PATCHES, torch.arange(tokens) % PATCHES
        allowed = (lead[:, None] == lead) | (patch[:, None] == patch)
        self.register_buffer("mask", allowed, persistent=False)

    def forward(self, leads: Float[Tensor, "batch lead time"]) -> Float[Tensor, "batch token size"]:
        """Compute the normalized states of the last layer.

        A patch attends to the patches of its lead and to those at the same time. The position
        embeddings are added to the states before every layer.

        Args:
            leads: The leads `JEPA_LEADS` in mV at 250 Hz.

        Returns:
            The states of 8 x 50 patches, lead by lead.
        """
        states = self.W_P(leads.unflatten(-1, (-1, PATCH_STEPS)).flatten(1, 2))
        for block in self.encoder_blocks.blocks:
            states = block(states + self.pos_embed, self.mask)
        result: Tensor = self.norm(states)
        return result


class EcgJepaExpert(FrozenExpert):
    """ECG-JEPA as an expert. Each of its eight leads is a series of 50 tokens of 0.2 s."""

    model: EcgJepa

    def states(self, ecg: Float[Tensor, "batch 12 5000"]) -> Float[Tensor, "batch 8 50 feature"]:
        """Compute the states; see `FrozenExpert.states`."""
        selected = ecg[:, [LEADS.index(lead) for lead in JEPA_LEADS]]
        tokens: Tensor = self.model(fourier_resample(selected, STEPS))
        states: Tensor = tokens.unflatten(1, (len(JEPA_LEADS), PATCHES))
        return states


def _positions(size: int) -> np.ndarray:
    """Return the sines and cosines of the patch's time, then of its lead: (tokens, size)."""
    lead, patch = np.divmod(np.arange(len(JEPA_LEADS) * PATCHES), PATCHES)
    rate = 10_000.0 ** (-np.arange(size // 4) / (size / 4))
    angles = [position[:, None] * rate for position in (patch, lead)]
    return np.concatenate(
        [function(angle) for angle in angles for function in (np.sin, np.cos)], axis=1
    )


def _initialize(model: EcgJepa) -> EcgJepa:
    """Draw the weights in place as the published code does, but in float64; return the model."""
    # Rounding float64 values to float32 removes differences between CPUs.
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                drawn = torch.empty_like(layer.weight, dtype=torch.float64)
                layer.weight.copy_(drawn.normal_(0, INITIAL_SD))
                if layer.bias is not None:
                    layer.bias.zero_()
        for depth, block in enumerate(model.encoder_blocks.blocks, start=1):
            assert isinstance(block, _Block)
            for last in (block.attn.proj, block.mlp.fc2):
                last.weight.div_((2 * depth) ** 0.5)
        model.pos_embed.copy_(torch.from_numpy(_positions(model.architecture.size)))
    return model


_FIRST_LAYER = re.compile(r"encoder_blocks\.blocks\.(\d+)\.mlp\.fc1\.weight")


def _infer_architecture(tensors: dict[str, Tensor], path: Path) -> Architecture:
    """Infer sizes from a checkpoint's shapes; `build_strict` reports keys that are missing."""
    layers = [
        tensor
        for key, tensor in tensors.items()
        if _FIRST_LAYER.fullmatch(key) and tensor.ndim == 2 and tensor.numel()
    ]
    if not layers:
        return Architecture()
    hidden, size = layers[0].shape
    if size % HEAD_SIZE:
        raise UserError(
            f"{path} has states of {size} features, which are not a multiple of {HEAD_SIZE}, the "
            "features per attention head of ECG-JEPA; use the published checkpoint."
        )
    return Architecture(size, len(layers), hidden)


def build(definition: ExpertDefinition, weights: Weights, pooling: str) -> EcgJepaExpert:
    """Build the expert; see `ExpertDefinition.build`."""
    if weights.path is None:
        assert weights.seed is not None
        model = build_seeded(lambda: _initialize(EcgJepa(Architecture())), weights.seed)
    else:
        tensors = open_checkpoint(weights.path, "encoder").tensors
        architecture = _infer_architecture(tensors, weights.path)
        model = build_strict(lambda: EcgJepa(architecture), tensors, weights.path)
    spec = definition.spec(
        weights,
        model,
        architecture={**asdict(model.architecture), "head_size": HEAD_SIZE},
        pooling=pooling,
        series=len(JEPA_LEADS),
        size=model.architecture.size,
    )
    return EcgJepaExpert(spec, model)
