"""TEMPO (Cao et al., ICLR 2024, arXiv 2310.04948): GPT-2 on patches of a decomposed series.

A lead is decomposed into three parts: trend, season and residual. The input sequence of GPT-2
concatenates, for each part, the embedded tokens of a prompt and the embedded patches of the part.
Parameter names are those of DC-research/TEMPO, `tempo/models/TEMPO.py`, so that `TEMPO-80M_v1.pth`
can be loaded. The published code uses an STL decomposition only in its training loss, which is
omitted here.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from enecg.ecg_format import LEADS
from enecg.errors import UserError
from enecg.experts.base import FrozenExpert, build_seeded
from enecg.experts.checkpoints import build_strict, check_finite, read_checkpoint, read_config
from enecg.experts.definition import ExpertDefinition
from enecg.experts.definitions.tempo import STEPS
from enecg.experts.weights import Weights
from enecg.signal import moving_average, resample, standardize

PATCH = 16
STRIDE = 8
PATCHES = (STEPS - PATCH) // STRIDE + 2
"""Patches per part. One of them is added by repeating the last value `STRIDE` times."""
MOVING_AVERAGE = 25
LAYERS = 6
"""GPT-2 layers of TEMPO-80M_v1, from `configs/run_TEMPO.yml`."""
WIDTH = 768
HEADS = 12
VOCABULARY = 50257
LORA_ALPHA = 16
CHUNK_SERIES = {"cpu": 12, "cuda": 192}
"""Number of leads per forward pass of GPT-2, by device type.

This limits memory to about 2 GB for any batch size. On a CPU, 12 leads (one record) are fastest."""

# Token ids of "Predict the future time step given the trend", and likewise "season" and "residual".
# They are constants because, without a network connection, the tokenizer returns no tokens and
# raises no error. The published code names the modules of the residual "noise".
_PROMPT = (47, 17407, 262, 2003, 640, 2239, 1813, 262)
PROMPTS = {
    "trend": (*_PROMPT, 5182),
    "season": (*_PROMPT, 1622),
    "noise": (*_PROMPT, 29598),
}

# Prefixes of tensors that embeddings do not depend on: forecasting heads and losses, and modules
# that the published code creates but does not use.
_UNUSED = (
    "out_layer_", "mul_season.", "map_resid.", "rev_in_season.", "rev_in_noise.",
    "mu.", "sigma.", "nu.", "alpha.",
)  # fmt: skip
# Causal masks. Versions of transformers before 4.30 saved them among the weights of GPT-2.
_MASK = re.compile(r"\.attn\.(masked_)?bias$")
_LORA_A = re.compile(r"\.lora_A(\.default)?\.weight$")


class _Affine(nn.Module):
    """Affine map of RevIN, with one learned factor and one learned offset for all series."""

    def __init__(self) -> None:
        super().__init__()
        self.affine_weight = nn.Parameter(torch.ones(1))
        self.affine_bias = nn.Parameter(torch.zeros(1))

    def forward(self, series: Float[Tensor, "series time"]) -> Float[Tensor, "series time"]:
        return series * self.affine_weight + self.affine_bias


class Tempo(nn.Module):
    """TEMPO without its forecasting heads: from standardized series to the last states of GPT-2.

    Args:
        width: Size of the hidden states of GPT-2, a multiple of `HEADS`.
        layers: Number of GPT-2 layers.
        vocabulary: Number of tokens in the vocabulary of GPT-2.
    """

    def __init__(
        self, width: int = WIDTH, layers: int = LAYERS, vocabulary: int = VOCABULARY
    ) -> None:
        # Imported here because importing transformers takes seconds and only the model requires it.
        from transformers import GPT2Config, GPT2Model

        super().__init__()
        self.architecture = {"width": width, "layers": layers, "vocabulary": vocabulary}
        self.rev_in_trend = _Affine()
        self.map_trend = nn.Linear(STEPS, STEPS)
        self.map_season = nn.Sequential(
            nn.Linear(STEPS, 4 * STEPS), nn.ReLU(), nn.Linear(4 * STEPS, STEPS)
        )
        self.gpt2_trend = GPT2Model(
            GPT2Config(
                n_embd=width, n_layer=layers, n_head=HEADS, vocab_size=vocabulary, use_cache=False
            )
        )
        for part in PROMPTS:
            self.add_module(f"in_layer_{part}", nn.Linear(PATCH, width))
            self.add_module(f"prompt_layer_{part}", nn.Linear(width, width))

    def decompose(
        self, series: Float[Tensor, "series time"]
    ) -> dict[str, Float[Tensor, "series time"]]:
        """Decompose series into parts that sum to the series after the affine map of RevIN.

        Args:
            series: Standardized series of `STEPS` samples.

        Returns:
            Trend, season and residual, with the keys of `PROMPTS`.
        """
        series = self.rev_in_trend(series)
        trend = self.map_trend(moving_average(series, MOVING_AVERAGE))
        season = self.map_season(series - trend)
        return {"trend": trend, "season": season, "noise": series - trend - season}

    def forward(self, series: Float[Tensor, "series time"]) -> Float[Tensor, "series token width"]:
        """Compute the last states of GPT-2 for the patches; those of the prompts are dropped.

        Args:
            series: Standardized series of `STEPS` samples.

        Returns:
            States of ``3 * PATCHES`` tokens: the patches of trend, season and residual, in this
            order.
        """
        sequence = []
        for part, values in self.decompose(series).items():
            ids = torch.tensor(PROMPTS[part], device=series.device)
            prompt = self.get_submodule(f"prompt_layer_{part}")(self.gpt2_trend.wte(ids))
            padded = functional.pad(values, (0, STRIDE), mode="replicate")
            patches = self.get_submodule(f"in_layer_{part}")(padded.unfold(-1, PATCH, STRIDE))
            sequence += [prompt.expand(len(series), -1, -1), patches]
        states: Tensor = self.gpt2_trend(inputs_embeds=torch.cat(sequence, dim=1)).last_hidden_state
        parts = states.reshape(len(series), len(PROMPTS), -1, states.shape[-1])
        return parts[:, :, -PATCHES:].flatten(1, 2)


class TempoExpert(FrozenExpert):
    """Last states of GPT-2, computed separately for each lead.

    There is one token per patch position. It concatenates the states of trend, season and residual.
    """

    model: Tempo

    def states(self, ecg: Float[Tensor, "batch 12 5000"]) -> Float[Tensor, "batch 12 42 feature"]:
        """Compute the tokens of each lead; see `FrozenExpert.states`."""
        series = standardize(resample(ecg, STEPS))
        size = CHUNK_SERIES.get(ecg.device.type, len(LEADS))
        chunks = series.flatten(0, 1).split(size)
        tokens = torch.cat([self.model(chunk) for chunk in chunks])
        parts = tokens.reshape(*series.shape[:2], len(PROMPTS), PATCHES, -1)
        return parts.transpose(2, 3).flatten(3)


def _merge_lora(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Remove peft's prefixes from the keys, and merge the LoRA updates into the weights.

    Args:
        tensors: Tensors of a checkpoint, with or without LoRA.
        path: The checkpoint, for error messages.

    Returns:
        Tensors with the parameter names of `Tempo`.

    Raises:
        UserError: A LoRA update does not fit its weight, or one of the two is not finite.
    """
    # Keys below `base_model.model.` depend on the version of peft: `c_attn.lora_A.weight` is
    # `c_attn.lora_A.default.weight` since 0.3, `c_attn.weight` is `c_attn.base_layer.weight` since
    # 0.7.
    plain = {
        key.replace("gpt2_trend.base_model.model.", "gpt2_trend.").replace(".base_layer.", "."): t
        for key, t in tensors.items()
        if not _MASK.search(key)
    }
    for key in [key for key in plain if _LORA_A.search(key)]:
        pair, layer = key.replace(".lora_A.", ".lora_B."), _LORA_A.sub(".weight", key)
        if pair not in plain or layer not in plain:
            continue  # `build_strict` reports incomplete pairs
        down, up = plain.pop(key), plain.pop(pair)
        # GPT-2 stores weights as (input, output), LoRA as (output, input).
        fits = down.ndim == up.ndim == 2 and plain[layer].shape == (down.shape[1], up.shape[0])
        if not fits or down.shape[0] != up.shape[1] or down.shape[0] == 0:
            raise UserError(
                f"{path}: the LoRA update of {layer} has shapes {tuple(up.shape)} and "
                f"{tuple(down.shape)}, which do not fit the weight {tuple(plain[layer].shape)}; "
                "use the published checkpoint."
            )
        check_finite({key: down, pair: up, layer: plain[layer]}, path)
        plain[layer] = plain[layer] + (up @ down).T * (LORA_ALPHA / down.shape[0])
    return plain


def _infer_architecture(tensors: dict[str, Tensor]) -> dict[str, int]:
    """Infer the arguments of `Tempo` from the shapes of a checkpoint's tensors.

    Args:
        tensors: Tensors with the parameter names of `Tempo`.

    Returns:
        The arguments; without `vocabulary` or `width` if its tensor is missing, which
        `build_strict` reports.
    """
    # Count the indices, because the largest one in a damaged checkpoint can be arbitrary.
    layers = {found[1] for key in tensors if (found := re.match(r"gpt2_trend\.h\.(\d+)\.", key))}
    sizes = {"layers": len(layers) or LAYERS}
    tokens, norm = tensors.get("gpt2_trend.wte.weight"), tensors.get("gpt2_trend.ln_f.weight")
    if tokens is not None and tokens.ndim:
        sizes["vocabulary"] = tokens.shape[0]
    if norm is not None and norm.ndim and norm.shape[0] % HEADS == 0:
        sizes["width"] = norm.shape[0]
    return sizes


def _check_config(path: Path, sizes: Mapping[str, int]) -> None:
    """Raise UserError if the config.json next to a checkpoint contradicts the model."""
    file = path.parent / "config.json"
    if not file.exists():
        return
    expected: dict[str, Any] = {
        "gpt_layers": sizes["layers"],
        "d_model": sizes.get("width", WIDTH),
        "seq_len": STEPS,
        "patch_size": PATCH,
        "stride": STRIDE,
        "num_nodes": 1,
        "is_gpt": 1,
        "prompt": 1,
        "pool": False,
    }
    given = read_config(file)
    for key, value in expected.items():
        if given.get(key, value) != value:
            raise UserError(
                f"{file} has {key} = {given[key]}, but {path.name} requires {key} = {value}; "
                "replace config.json with that of the checkpoint, or remove it."
            )


def build(definition: ExpertDefinition, weights: Weights, pooling: str) -> TempoExpert:
    """Build the expert; see `ExpertDefinition.build`."""
    if weights.path is None:
        assert weights.seed is not None
        model = build_seeded(Tempo, weights.seed)
    else:
        path = weights.path
        tensors = _merge_lora(read_checkpoint(path), path)
        sizes = _infer_architecture(tensors)
        _check_config(path, sizes)
        model = build_strict(lambda: Tempo(**sizes), tensors, path, unused=_UNUSED)
    spec = definition.spec(
        weights,
        model,
        architecture=model.architecture,
        pooling=pooling,
        series=len(LEADS),
        size=len(PROMPTS) * model.architecture["width"],
    )
    return TempoExpert(spec, model)
