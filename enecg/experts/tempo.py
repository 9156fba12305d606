"""TEMPO (Cao et al., ICLR 2024, arXiv 2310.04948): a lead taken apart into trend, season and
residual, whose patches GPT-2 reads one after the other, each part behind a prompt of its own.

Parameter names are those of DC-research/TEMPO, `tempo/models/TEMPO.py`, so `TEMPO-80M_v1.pth`
loads. What it gets from STL while it is trained enters its loss alone, so there is none here.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers import GPT2Config, GPT2Model

from enecg.errors import UserError
from enecg.experts.base import ExpertDefinition, FrozenExpert, build_seeded
from enecg.experts.checkpoints import load_strict, read_checkpoint
from enecg.experts.preprocessing import Preprocessing
from enecg.experts.weights import HubFile, Weights
from enecg.signal import LEADS, moving_average, resample, standardize

STEPS = 336
"""The length TEMPO was trained on: 33.6 Hz here."""
PATCH = 16
STRIDE = 8
PATCHES = (STEPS - PATCH) // STRIDE + 2  # one more than fit: the end is held for a stride
MOVING_AVERAGE = 25
LAYERS = 6
"""GPT-2 layers in the published configuration of TEMPO-80M_v1 (`configs/run_TEMPO.yml`)."""
WIDTH = 768
HEADS = 12
VOCABULARY = 50257
LORA_ALPHA = 16
SERIES_AT_ONCE = {"cpu": 12, "cuda": 192}
"""Leads that go through GPT-2 together: memory stays at some 2 GB, however large the batch.

On a CPU a record at a time is fastest (1.1 s against 1.4 s); a GPU wants more."""

# "Predict the future time step given the trend" (season, residual) in GPT-2's tokens. Written out:
# offline, its tokenizer comes back empty without an error.
_QUESTION = (47, 17407, 262, 2003, 640, 2239, 1813, 262)
PROMPTS = {
    "trend": (*_QUESTION, 5182),
    "season": (*_QUESTION, 1622),
    "noise": (*_QUESTION, 29598),
}

# Heads and losses of the forecast, an unused layer, and the normalisations that only they use.
_UNUSED = (
    "out_layer_", "mul_season.", "map_resid.", "rev_in_season.", "rev_in_noise.",
    "mu.", "sigma.", "nu.", "alpha.",
)  # fmt: skip
# Causal masks that transformers kept among GPT-2's weights until 4.30.
_MASK = re.compile(r"\.attn\.(masked_)?bias$")
_LORA_A = re.compile(r"\.lora_A(\.default)?\.weight$")


class _Affine(nn.Module):
    """What RevIN learns: one factor and one offset for every series."""

    def __init__(self) -> None:
        super().__init__()
        self.affine_weight = nn.Parameter(torch.ones(1))
        self.affine_bias = nn.Parameter(torch.zeros(1))

    def forward(self, series: Float[Tensor, "series time"]) -> Float[Tensor, "series time"]:
        return series * self.affine_weight + self.affine_bias


class Tempo(nn.Module):
    """TEMPO over standardised series, up to GPT-2's last states of the patches."""

    def __init__(
        self, width: int = WIDTH, layers: int = LAYERS, vocabulary: int = VOCABULARY
    ) -> None:
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
        """Trend, season and residual, which add up to the normalised series."""
        series = self.rev_in_trend(series)
        trend = self.map_trend(moving_average(series, MOVING_AVERAGE))
        season = self.map_season(series - trend)
        return {"trend": trend, "season": season, "noise": series - trend - season}

    def forward(self, series: Float[Tensor, "series time"]) -> Float[Tensor, "series token width"]:
        """The states of the trend's patches, then the season's, then the residual's."""
        read = []
        for part, values in self.decompose(series).items():
            ids = torch.tensor(PROMPTS[part], device=series.device)
            prompt = self.get_submodule(f"prompt_layer_{part}")(self.gpt2_trend.wte(ids))
            held = functional.pad(values, (0, STRIDE), mode="replicate")
            patches = self.get_submodule(f"in_layer_{part}")(held.unfold(-1, PATCH, STRIDE))
            read += [prompt.expand(len(series), -1, -1), patches]
        states: Tensor = self.gpt2_trend(inputs_embeds=torch.cat(read, dim=1)).last_hidden_state
        parts = states.reshape(len(series), len(PROMPTS), -1, states.shape[-1])
        return parts[:, :, -PATCHES:].flatten(1, 2)


class TempoExpert(FrozenExpert):
    """GPT-2's states of each lead, a token a patch: of trend, season and residual side by side."""

    model: Tempo

    def states(self, ecg: Float[Tensor, "batch 12 5000"]) -> Float[Tensor, "batch 12 42 feature"]:
        """See `FrozenExpert.states`."""
        series, _, _ = standardize(resample(ecg, STEPS))
        at_once = SERIES_AT_ONCE.get(ecg.device.type, len(LEADS))
        chunks = series.flatten(0, 1).split(at_once)
        tokens = torch.cat([self.model(chunk) for chunk in chunks])
        parts = tokens.reshape(*series.shape[:2], len(PROMPTS), PATCHES, -1)
        return parts.transpose(2, 3).flatten(3)


def _plain(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The checkpoint in GPT-2's own key names, peft's LoRA added to the weights it belongs to.

    Below `base_model.model.`, peft wrote `c_attn.weight` beside `c_attn.lora_A.weight` at first,
    `c_attn.lora_A.default.weight` since 0.3 and `c_attn.base_layer.weight` since 0.6.
    """
    plain = {
        key.replace("gpt2_trend.base_model.model.", "gpt2_trend.").replace(".base_layer.", "."): t
        for key, t in tensors.items()
        if not _MASK.search(key)
    }
    for key in [key for key in plain if _LORA_A.search(key)]:
        other, layer = key.replace(".lora_A.", ".lora_B."), _LORA_A.sub(".weight", key)
        if other not in plain or layer not in plain:
            continue  # `load_strict` names what is missing and what is left over
        down, up = plain.pop(key), plain.pop(other)
        # GPT-2's layers are stored input by output, LoRA's output by input.
        if down.shape[0] != up.shape[1] or plain[layer].shape != (down.shape[1], up.shape[0]):
            raise UserError(
                f"The LoRA in {path} does not fit {layer}: {tuple(up.shape)} by "
                f"{tuple(down.shape)} for {tuple(plain[layer].shape)}."
            )
        plain[layer] = plain[layer] + (up @ down).T * (LORA_ALPHA / down.shape[0])
    return plain


def _architecture(tensors: dict[str, Tensor]) -> dict[str, int]:
    """The sizes that a checkpoint's own shapes tell; its missing keys are told by `load_strict`."""
    layers = [
        int(found[1]) for key in tensors if (found := re.match(r"gpt2_trend\.h\.(\d+)\.", key))
    ]
    sizes = {"layers": max(layers, default=LAYERS - 1) + 1}
    words, norm = tensors.get("gpt2_trend.wte.weight"), tensors.get("gpt2_trend.ln_f.weight")
    if words is not None and words.ndim:
        sizes["vocabulary"] = words.shape[0]
    if norm is not None and norm.ndim and norm.shape[0] % HEADS == 0:
        sizes["width"] = norm.shape[0]
    return sizes


def _check_config(path: Path, model: Tempo) -> None:
    """Refuse a checkpoint whose config.json, where there is one, describes another model."""
    file = path.parent / "config.json"
    if not file.exists():
        return
    here: dict[str, Any] = {
        "gpt_layers": model.architecture["layers"],
        "d_model": model.architecture["width"],
        "seq_len": STEPS,
        "patch_size": PATCH,
        "stride": STRIDE,
        "num_nodes": 1,
        "is_gpt": 1,
        "prompt": 1,
        "pool": False,
    }
    try:
        given = json.loads(file.read_text())
    except ValueError as error:
        raise UserError(f"{file} is no JSON ({error}); fetch it anew.") from error
    for key, value in here.items():
        if given.get(key, value) != value:
            raise UserError(
                f"{file} says {key} = {given[key]}, and the checkpoint beside it is read with "
                f"{key} = {value}; put the config.json there that belongs to {path.name}, or none."
            )


def _build(definition: ExpertDefinition, weights: Weights, pooling: str) -> TempoExpert:
    if weights.path is None:
        assert weights.seed is not None
        model = build_seeded(Tempo, weights.seed)
    else:
        path = weights.path
        tensors = _plain(read_checkpoint(path), path)
        model = Tempo(**_architecture(tensors))
        _check_config(path, model)
        load_strict(model, tensors, path, unused=_UNUSED)
    spec = definition.spec(
        weights,
        model,
        architecture=model.architecture,
        pooling=pooling,
        series=len(LEADS),
        size=len(PROMPTS) * model.architecture["width"],
    )
    return TempoExpert(spec, model)


TEMPO = ExpertDefinition(
    name="tempo",
    code_version=1,
    preprocessing=Preprocessing.resampled(STEPS, normalization="zscore"),
    pooling="mean-std",
    license="Apache-2.0",
    source="arXiv 2310.04948",
    published=HubFile("Melady/TEMPO", "TEMPO-80M_v1.pth", companions=("config.json",)),
    embedding_size=4632,
    parameters=84_741_602,
    build=_build,
)
