"""Checkpoints of ECG-FM as fairseq-signals saves them, pretrained or fine-tuned."""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from enecg.ecg_format import LEADS, SAMPLE_RATE_HZ
from enecg.errors import UserError
from enecg.experts.checkpoint_file import detect_format, read_torch_file
from enecg.experts.checkpoints import remove_wrappers


@dataclass(frozen=True)
class Architecture:
    """Sizes of the model, named as in a checkpoint's cfg; the defaults are the published ones.

    Attributes:
        encoder_layers: Number of transformer layers.
        encoder_embed_dim: Features of the states.
        encoder_ffn_embed_dim: Units of the feed-forward layers.
        encoder_attention_heads: Attention heads per layer.
        conv_feature_layers: (channels, kernel, stride) of each convolution.
        conv_pos: Kernel size of the convolutional position embedding.
        conv_pos_groups: Groups of the convolutional position embedding.
    """

    encoder_layers: int = 12
    encoder_embed_dim: int = 768
    encoder_ffn_embed_dim: int = 3072
    encoder_attention_heads: int = 12
    conv_feature_layers: tuple[tuple[int, int, int], ...] = ((256, 2, 2),) * 4
    conv_pos: int = 128
    conv_pos_groups: int = 16


_REQUIRED = {
    "in_d": len(LEADS),
    "extractor_mode": "default",
    "conv_bias": False,
    "layer_norm_first": False,
    "quantize_input": False,
    "normalize": False,
    "filter": False,
}
"""Values of the cfg that `EcgFm` implements, which are assumed for missing keys."""

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

_MAX_LAYERS = 1000
"""Maximum length of a repeated list of convolutional layers; ECG-FM has four layers."""


def published_name(key: str) -> str:
    """Return the checkpoint's name of a key of `EcgFm`'s state dict."""
    for pattern, name in _PUBLISHED_NAMES:
        key = re.sub(pattern, name, key)
    return key


def read_ecg_fm_checkpoint(
    path: Path,
) -> tuple[Architecture, dict[str, Tensor], tuple[str, ...]]:
    """Read a checkpoint of fairseq-signals.

    Args:
        path: A torch file with the keys `cfg` and `model`.

    Returns:
        The architecture from its cfg, the tensors by the keys of a pretrained checkpoint, and the
        prefixes of keys that the encoder does not use.

    Raises:
        UserError: The file is damaged or in another format, would execute code, or describes
            another model.
        OSError: The file does not exist or cannot be read.
    """
    form = "a fairseq-signals checkpoint with the keys cfg and model"
    if detect_format(path) == "safetensors":
        raise UserError(f"{path} contains only tensors and no sizes of the model; use {form}.")
    state = read_torch_file(
        path,
        remedy="convert its cfg to dictionaries with OmegaConf.to_container, and save it again",
    )
    if not isinstance(state, dict) or not {"cfg", "model"} <= state.keys():
        raise UserError(f"{path} is not {form}; use the file that fairseq-signals saved.")
    if not isinstance(state["cfg"], Mapping):
        found = "None" if state["cfg"] is None else f"a {type(state['cfg']).__name__}"
        old = " (it has the key args of older fairseq versions)" if state.get("args") else ""
        raise UserError(
            f"{path}: its cfg is {found} instead of a dictionary{old}, so the sizes of ECG-FM are "
            "unknown; save the settings as a dictionary under the key cfg."
        )
    tensors = state["model"]
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise UserError(
            f"{path}: its model is not a dictionary of tensors; use the file that fairseq-signals "
            "saved."
        )
    tensors = remove_wrappers(dict(tensors), path)
    unused = _PRETRAINING
    if any(key.startswith(_FINE_TUNED_ENCODER) for key in tensors):
        tensors = {key.removeprefix("encoder."): tensor for key, tensor in tensors.items()}
        unused += _FINE_TUNED_HEAD
    # Newer versions of torch save the tensors of a weight normalization under other names.
    layer = "conv_pos.pos_conv.0"
    for new, old in (("original0", "weight_g"), ("original1", "weight_v")):
        new_key, old_key = f"{layer}.parametrizations.weight.{new}", f"{layer}.{old}"
        if new_key in tensors and old_key not in tensors:
            tensors[old_key] = tensors.pop(new_key)
    return _parse_cfg(state["cfg"], path), tensors, unused


def _parse_cfg(cfg: Mapping[str, Any], path: Path) -> Architecture:
    """Parse the architecture; raise UserError if `EcgFm` does not implement it."""
    model, task = cfg.get("model"), cfg.get("task")
    if not isinstance(model, Mapping):
        raise UserError(
            f"{path}: the cfg has no model section, which defines ECG-FM's sizes; use the cfg that "
            "fairseq-signals saved."
        )
    names = [field.name for field in fields(Architecture)]
    missing = [name for name in names if name not in model]
    if missing:
        raise UserError(
            f"{path}: the model section of the cfg has no {', '.join(missing)}; use the cfg that "
            "fairseq-signals saved."
        )
    rate = task.get("sample_rate") if isinstance(task, Mapping) else None
    unsupported = [
        f"{name}={value!r} instead of {expected!r}"
        for name, value, expected in (
            *((name, model.get(name, expected), expected) for name, expected in _REQUIRED.items()),
            ("sample_rate", rate or SAMPLE_RATE_HZ, SAMPLE_RATE_HZ),
        )
        if value != expected
    ]
    if unsupported:
        raise UserError(
            f"{path}: the cfg does not describe an ECG-FM model: {', '.join(unsupported)}; "
            "use a checkpoint of ECG-FM."
        )
    sizes = {name: model[name] for name in names}
    sizes["conv_feature_layers"] = parse_convolutions(sizes["conv_feature_layers"])
    invalid = [
        f"{name}={model[name]!r}"
        for name, size in sizes.items()
        if not (size if isinstance(size, tuple) else type(size) is int and size > 0)
    ]
    if invalid:
        raise UserError(
            f"{path}: the cfg has invalid sizes: {', '.join(invalid)}; use the cfg that "
            "fairseq-signals saved."
        )
    architecture = Architecture(**sizes)
    if architecture.conv_feature_layers[-1][0] == architecture.encoder_embed_dim:
        raise UserError(
            f"{path}: the cfg does not describe an ECG-FM model: convolutions and encoder have the "
            "same width, so there is no projection between them; use a checkpoint of ECG-FM."
        )
    return architecture


def parse_convolutions(text: object) -> tuple[tuple[int, int, int], ...]:
    """Parse convolutional layers as fairseq writes them, `[(256, 2, 2)] * 4`, without `eval`.

    Args:
        text: Lists of (channels, kernel, stride), repeated by `*` and joined by `+`.

    Returns:
        The layers; empty if the text is anything else, or a repeated list is too long.
    """
    try:
        layers = _evaluate_layers(ast.parse(str(text), mode="eval").body)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return ()
    valid = all(
        isinstance(layer, tuple)
        and len(layer) == 3
        and all(type(size) is int and size > 0 for size in layer)
        for layer in layers
    )
    return tuple(layers) if valid else ()


def _evaluate_layers(node: ast.expr) -> list[Any]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _evaluate_layers(node.left) + _evaluate_layers(node.right)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        layers, times = _evaluate_layers(node.left), ast.literal_eval(node.right)
        # Nested repetitions could otherwise fill the memory.
        if type(times) is not int or times * len(layers) > _MAX_LAYERS:
            raise ValueError(times)
        return layers * times
    return list(ast.literal_eval(node))
