"""ECG-FM (McKeen et al., arXiv 2408.05178): wav2vec 2.0 over 5 s of twelve leads, trained on
MIMIC-IV-ECG and PhysioNet 2021.

Its checkpoints are those of fairseq-signals, pretrained or fine-tuned; the modules here are the
Wav2Vec2 ones of transformers, which take the same weights under other names.
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from enecg.errors import UserError
from enecg.experts.base import ExpertDefinition, FrozenExpert, build_seeded
from enecg.experts.checkpoints import load_strict, read_torch_file
from enecg.experts.preprocessing import Preprocessing
from enecg.experts.weights import HubFile, Weights
from enecg.signal import LEADS, SAMPLE_RATE_HZ, SAMPLES

SEGMENT_SECONDS = 5
"""The length ECG-FM was trained on; fairseq-signals cuts a record so, and drops the rest."""
SEGMENTS = SAMPLES // (SEGMENT_SECONDS * SAMPLE_RATE_HZ)


@dataclass(frozen=True)
class Architecture:
    """The sizes that a checkpoint's cfg tells, by its own names; the defaults are ECG-FM's.

    `conv_feature_layers` holds (channels, kernel, stride) of each convolution.
    """

    encoder_layers: int = 12
    encoder_embed_dim: int = 768
    encoder_ffn_embed_dim: int = 3072
    encoder_attention_heads: int = 12
    conv_feature_layers: tuple[tuple[int, int, int], ...] = ((256, 2, 2),) * 4
    conv_pos: int = 128
    conv_pos_groups: int = 16


_FIXED = {
    "in_d": len(LEADS),
    "extractor_mode": "default",
    "conv_bias": False,
    "layer_norm_first": False,
    "quantize_input": False,
    "normalize": False,
    "filter": False,
}
"""What a cfg must say for the model below to be the one it describes; left out, it does."""


class EcgFm(nn.Module):
    """ECG-FM's encoder, without what only its pretraining needs (mask, quantizer, projections)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        from transformers import Wav2Vec2Config
        from transformers.models.wav2vec2 import modeling_wav2vec2 as wav2vec2

        channels, kernels, strides = zip(*architecture.conv_feature_layers, strict=True)
        config = Wav2Vec2Config(
            conv_dim=channels,
            conv_kernel=kernels,
            conv_stride=strides,
            conv_bias=False,
            feat_extract_norm="group",
            do_stable_layer_norm=False,
            hidden_size=architecture.encoder_embed_dim,
            num_hidden_layers=architecture.encoder_layers,
            num_attention_heads=architecture.encoder_attention_heads,
            intermediate_size=architecture.encoder_ffn_embed_dim,
            num_conv_pos_embeddings=architecture.conv_pos,
            num_conv_pos_embedding_groups=architecture.conv_pos_groups,
            attn_implementation="sdpa",
        )
        self.architecture = architecture
        self.feature_extractor: nn.ModuleList = wav2vec2.Wav2Vec2FeatureEncoder(config).conv_layers
        # transformers knows one channel of sound, and this is the only layer that sees the leads.
        self.feature_extractor[0].conv = nn.Conv1d(
            len(LEADS), channels[0], kernels[0], strides[0], bias=False
        )
        self.feature_projection: nn.Module = wav2vec2.Wav2Vec2FeatureProjection(config)
        self.encoder: nn.Module = wav2vec2.Wav2Vec2Encoder(config)

    def forward(
        self, segments: Float[Tensor, "segment 12 time"]
    ) -> Float[Tensor, "segment token feature"]:
        """The last layer's states: 156 tokens from 2,500 samples."""
        states = segments
        for layer in self.feature_extractor:
            states = layer(states)
        projected, _ = self.feature_projection(states.transpose(1, 2))
        tokens: Tensor = self.encoder(projected).last_hidden_state
        return tokens


def standardize_leads(ecg: Float[Tensor, "batch 12 time"]) -> Float[Tensor, "batch 12 time"]:
    """Each lead to mean 0 and variance 1 over the whole record; a constant lead to zeros.

    As fairseq-signals does: before the record is cut, population variance, nothing added to it.
    """
    flat = ecg.amax(-1, keepdim=True) == ecg.amin(-1, keepdim=True)
    # A constant lead is told by its extremes: its mean is rounded, and z-scores of rounding
    # errors are of size one.
    centred = torch.where(flat, 0.0, ecg - ecg.mean(-1, keepdim=True))
    variance = torch.where(flat, 1.0, centred.square().mean(-1, keepdim=True))
    return centred / variance.sqrt()


class EcgFmExpert(FrozenExpert):
    """The last layer's states of each 5 s of the record, a token 16 samples (32 ms).

    The mean over tokens is the source's own pooling: its sum over non-zero states divided by their
    count, since only padding is zero there, and no record is padded here.
    """

    model: EcgFm

    def states(self, ecg: Float[Tensor, "batch 12 5000"]) -> Float[Tensor, "batch 2 156 feature"]:
        """See `FrozenExpert.states`; a series is a segment of 5 s."""
        segments = standardize_leads(ecg).unflatten(-1, (SEGMENTS, -1)).transpose(1, 2)
        states: Tensor = self.model(segments.flatten(0, 1)).unflatten(0, (-1, SEGMENTS))
        return states


_PUBLISHED_NAMES = (
    (r"^feature_extractor\.(\d+)\.conv", r"feature_extractor.conv_layers.\1.0"),
    (r"^feature_extractor\.0\.layer_norm", "feature_extractor.conv_layers.0.2"),
    (r"^feature_projection\.layer_norm", "layer_norm"),
    (r"^feature_projection\.projection", "post_extract_proj"),
    (r"^encoder\.pos_conv_embed\.conv", "conv_pos.pos_conv.0"),
    (r"\.parametrizations\.weight\.original0$", ".weight_g"),
    (r"\.parametrizations\.weight\.original1$", ".weight_v"),
    (r"^(encoder\.layers\.\d+)\.layer_norm", r"\1.self_attn_layer_norm"),
    (r"^(encoder\.layers\.\d+)\.attention", r"\1.self_attn"),
    (r"^(encoder\.layers\.\d+)\.feed_forward\.intermediate_dense", r"\1.fc1"),
    (r"^(encoder\.layers\.\d+)\.feed_forward\.output_dense", r"\1.fc2"),
)
_PRETRAINING: tuple[str, ...] = (
    "mask_emb",
    "quantizer.",
    "project_q.",
    "final_proj.",
    "target_glu.",
)
_FINE_TUNED_ENCODER = ("encoder.feature_extractor.", "encoder.encoder.")
_FINE_TUNED_HEAD = ("proj.",)


def published_name(key: str) -> str:
    """A checkpoint's name for one of the keys of `EcgFm`."""
    for pattern, name in _PUBLISHED_NAMES:
        key = re.sub(pattern, name, key)
    return key


# Beside its weights a checkpoint holds the state of its training, where numpy's scalars and
# arrays may be (scores, the best loss); numpy 1 and 2 write other names for the same functions.
_NUMPY_DATA: tuple[Any, ...] = (
    np.ndarray,
    np.dtype,
    *(type(np.dtype(kind)) for kind in (bool, "i4", "i8", "f4", "f8")),
    *(
        (getattr(np._core.multiarray, name), f"{module}.{name}")
        for name in ("scalar", "_reconstruct")
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    ),
)


def _read(path: Path) -> tuple[Architecture, dict[str, Tensor], tuple[str, ...]]:
    """A checkpoint's architecture, its tensors by their pretrained names, and the unused ones."""
    form = "a checkpoint of fairseq-signals, with cfg and model in it"
    if path.suffix == ".safetensors":
        raise UserError(f"{path} holds tensors alone; ECG-FM takes {form}.")
    state = read_torch_file(
        path, safe_types=_NUMPY_DATA, remedy="save cfg as plain dictionaries, with model beside it"
    )
    if not isinstance(state, dict) or not {"cfg", "model"} <= state.keys():
        raise UserError(f"{path} is not {form}; the sizes of ECG-FM are read from its cfg.")
    tensors = state["model"]
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise UserError(f"{path} is not {form}: what it calls model are not tensors by name.")
    tensors = dict(tensors)
    unused = _PRETRAINING
    if any(key.startswith(_FINE_TUNED_ENCODER) for key in tensors):
        tensors = {key.removeprefix("encoder."): tensor for key, tensor in tensors.items()}
        unused += _FINE_TUNED_HEAD
    for old, new in (("original0", "weight_g"), ("original1", "weight_v")):
        old, new = (
            f"conv_pos.pos_conv.0.parametrizations.weight.{old}",
            f"conv_pos.pos_conv.0.{new}",
        )
        if old in tensors and new not in tensors:
            tensors[new] = tensors.pop(old)
    return _architecture(state["cfg"], path), tensors, unused


def _architecture(cfg: object, path: Path) -> Architecture:
    """The architecture that a cfg describes. Raises UserError where ECG-FM's code is not it."""
    cfg = cfg if isinstance(cfg, Mapping) else {}
    model, task = cfg.get("model"), cfg.get("task")
    if not isinstance(model, Mapping):
        raise UserError(f"The cfg in {path} has no model section, from which ECG-FM's sizes come.")
    names = [field.name for field in fields(Architecture)]
    missing = [name for name in names if name not in model]
    if missing:
        raise UserError(f"The cfg in {path} does not tell {', '.join(missing)} of its model.")
    rate = task.get("sample_rate") if isinstance(task, Mapping) else None
    others = [
        f"{name}={value!r} instead of {expected!r}"
        for name, value, expected in (
            *((name, model.get(name, expected), expected) for name, expected in _FIXED.items()),
            ("sample_rate", rate or SAMPLE_RATE_HZ, SAMPLE_RATE_HZ),
        )
        if value != expected
    ]
    if others:
        raise UserError(f"The cfg in {path} is not of an ECG-FM model: {', '.join(others)}.")
    sizes = {name: model[name] for name in names}
    sizes["conv_feature_layers"] = convolutions(sizes["conv_feature_layers"])
    odd = [
        f"{name}={model[name]!r}"
        for name, size in sizes.items()
        if not (size if isinstance(size, tuple) else type(size) is int and size > 0)
    ]
    if odd:
        raise UserError(f"The cfg in {path} has impossible sizes: {', '.join(odd)}.")
    architecture = Architecture(**sizes)
    if architecture.conv_feature_layers[-1][0] == architecture.encoder_embed_dim:
        raise UserError(
            f"The cfg in {path} is not of an ECG-FM model: its convolutions are as wide as its "
            "encoder, so there is no projection between them."
        )
    return architecture


def convolutions(text: object) -> tuple[tuple[int, int, int], ...]:
    """Read `[(256, 2, 2)] * 4`, as fairseq writes its layers, without running it.

    Lists of (channels, kernel, stride), repeated by `*` and joined by `+`; empty for all else.
    """
    try:
        layers = _layers(ast.parse(str(text), mode="eval").body)
    except (SyntaxError, ValueError, TypeError, RecursionError):
        return ()
    fit = all(
        isinstance(layer, tuple)
        and len(layer) == 3
        and all(type(size) is int and size > 0 for size in layer)
        for layer in layers
    )
    return tuple(layers) if fit else ()


def _layers(node: ast.expr) -> list[Any]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _layers(node.left) + _layers(node.right)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        times = ast.literal_eval(node.right)
        if type(times) is not int or times > 100:
            raise ValueError(times)
        return _layers(node.left) * times
    return list(ast.literal_eval(node))


def _build(definition: ExpertDefinition, weights: Weights, pooling: str) -> EcgFmExpert:
    if weights.path is None:
        assert weights.seed is not None
        model = build_seeded(lambda: EcgFm(Architecture()), weights.seed)
    else:
        architecture, tensors, unused = _read(weights.path)
        try:
            model = EcgFm(architecture)
        except ValueError as error:
            raise UserError(f"The cfg in {weights.path} fits no model: {error}.") from error
        load_strict(model, tensors, weights.path, unused, published_name)
    spec = definition.spec(
        weights,
        model,
        architecture=asdict(model.architecture),
        pooling=pooling,
        series=SEGMENTS,
        size=model.architecture.encoder_embed_dim,
    )
    return EcgFmExpert(spec, model)


ECG_FM = ExpertDefinition(
    name="ecg-fm",
    code_version=1,
    preprocessing=Preprocessing(
        windows=SEGMENTS,
        window_steps=SAMPLES // SEGMENTS,
        window_stride_steps=SAMPLES // SEGMENTS,
        normalization="zscore-record",
    ),
    pooling="mean-std",
    # Its series are halves of the time: four parts of each would mix two times.
    poolings=("mean", "mean-std", "per-series", "per-series-mean-std"),
    license="MIT",
    source="arXiv 2408.05178",
    published=HubFile("wanglab/ecg-fm", "mimic_iv_ecg_physionet_pretrained.pt"),
    embedding_size=1560,
    parameters=90_373_248,
    build=_build,
)
