"""MOMENT (Goswami et al., ICML 2024, arXiv 2402.03885), run by its authors' package momentfm."""

import json
import math
import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from enecg.ecg_format import LEADS
from enecg.errors import UserError
from enecg.experts.base import FrozenExpert, build_seeded
from enecg.experts.checkpoints import load_strict, read_checkpoint, read_config
from enecg.experts.definition import ExpertDefinition
from enecg.experts.definitions.moment import STEPS, T5_SIZES
from enecg.experts.weights import Weights
from enecg.signal import resample

_MAX_SIZE = 10**6
"""Maximum of the numbers in config.json that `_MAX_SIZES` does not list."""
_MAX_SIZES = {
    **{name: 4 * max(sizes[name] for sizes in T5_SIZES.values()) for name in T5_SIZES["large"]},
    **{"num_decoder_layers": 96, "d_kv": 512, "vocab_size": 10**5},
    **{"seq_len": 10**4, "patch_len": 10**4, "relative_attention_num_buckets": 10**4},
}
"""Maximum of these sizes in config.json. The model is allocated before the weights are read, so
larger sizes could exhaust the memory."""


def _default_config(size: str) -> dict[str, Any]:
    t5 = {
        **T5_SIZES[size],
        "d_kv": 64,
        "dropout_rate": 0.1,
        "feed_forward_proj": "gated-gelu",
        "layer_norm_epsilon": 1e-6,
        "is_encoder_decoder": True,
        "relative_attention_max_distance": 128,
        "relative_attention_num_buckets": 32,
        "tie_word_embeddings": False,
        "vocab_size": 32128,
    }
    return {
        "model_name": "MOMENT",
        "transformer_type": "encoder_only",
        "d_model": t5["d_model"],
        "seq_len": STEPS,
        "patch_len": 8,
        "patch_stride_len": 8,
        "revin_affine": False,
        "t5_config": t5,
    }


def _build_model(config: dict[str, Any]) -> nn.Module:
    try:
        from momentfm.models.moment import MOMENT
    except ImportError as error:
        raise UserError(
            "The MOMENT experts require the package momentfm; install it with "
            "pip install --no-deps momentfm."
        ) from error
    forced = {
        "task_name": "embedding",
        # Gradient checkpointing only saves memory in training, and warns without gradients.
        "enable_gradient_checkpointing": False,
        "transformer_backbone": "defined by t5_config",
    }
    with warnings.catch_warnings():
        # The warning concerns heads, which embeddings do not use.
        warnings.filterwarnings("ignore", message="Only reconstruction head is pre-trained")
        model: nn.Module = MOMENT(Namespace(**{**config, **forced}))
    # Imported here because it requires momentfm. It computes the same values as RevIN; only the
    # gradients differ.
    from enecg.experts.moment_normalization import DifferentiableRevIN

    model.normalizer = DifferentiableRevIN(num_features=1, affine=config["revin_affine"])
    return model


def _initialize(model: nn.Module) -> nn.Module:
    """Reinitialize the tensors whose last bits depend on the CPU because of `exp` and QR."""
    # Rounding float64 values to float32 removes differences between CPUs.
    embedding: Any = model.patch_embedding
    weight = torch.empty_like(embedding.value_embedding.weight, dtype=torch.float64)
    # The gain is momentfm's default.
    nn.init.orthogonal_(weight, gain=1.41)
    _, steps, size = embedding.position_embedding.pe.shape
    frequency = np.exp(np.arange(0, size, 2) * (-math.log(10_000.0) / size))
    angle = torch.from_numpy(np.arange(steps)[:, None] * frequency)
    with torch.no_grad():
        embedding.value_embedding.weight.copy_(weight)
        embedding.position_embedding.pe[0, :, 0::2] = angle.sin()
        embedding.position_embedding.pe[0, :, 1::2] = angle.cos()
    return model


class MomentExpert(FrozenExpert):
    """The encoder's states of each lead, one token per patch of 8 samples.

    The tokens of consecutive windows are concatenated.
    """

    def states(
        self, ecg: Float[Tensor, "batch 12 5000"]
    ) -> Float[Tensor, "batch 12 token feature"]:
        """Compute the states; see `FrozenExpert.states`."""
        windows = resample(ecg.unflatten(-1, (self.spec.preprocessing.windows, -1)), STEPS)
        # MOMENT processes channels independently, so windows can be passed as channels.
        states: Tensor = self.model(x_enc=windows.flatten(1, 2), reduction="none").embeddings
        return states.reshape(len(ecg), len(LEADS), -1, states.shape[-1])


def _read_config(path: Path, size: str) -> dict[str, Any]:
    """Read the config.json next to the weights; published values replace a missing file or key."""
    file = path.parent / "config.json"
    if not file.exists():
        return _default_config(size)
    given = read_config(file)
    config = {**_default_config(size), **given}
    if not isinstance(config["t5_config"], dict):
        raise UserError(
            f"{file}: t5_config is {json.dumps(config['t5_config'])[:40]} instead of an object "
            "with the encoder's sizes; download the file again."
        )
    for name, value in {**config, **config["t5_config"]}.items():
        limit = _MAX_SIZES.get(name, _MAX_SIZE)
        if isinstance(value, int | float) and not abs(value) <= limit:
            raise UserError(
                f"{file}: {name} = {str(value)[:20]} is not valid (maximum: {limit:,}); download "
                "the file again."
            )
    config["d_model"] = given.get("d_model") or config["t5_config"].get("d_model")
    width, expected = config["t5_config"].get("d_model"), T5_SIZES[size]["d_model"]
    if width != expected:
        raise UserError(
            f"{file} describes a MOMENT of width {width}, but MOMENT-1-{size} has {expected}; "
            "select the expert that matches the weights."
        )
    return config


def build(size: str, definition: ExpertDefinition, weights: Weights, pooling: str) -> MomentExpert:
    """Build the expert; see `ExpertDefinition.build`."""
    if weights.path is None:
        assert weights.seed is not None
        config = _default_config(size)
        model = build_seeded(lambda: _initialize(_build_model(config)), weights.seed)
    else:
        path = weights.path
        config = _read_config(path, size)
        try:
            model = _build_model(config)
        except UserError:
            raise
        except Exception as error:  # momentfm and transformers do not validate the settings
            reason = (str(error).splitlines() or [""])[0].rstrip(".")
            raise UserError(
                f"{path.parent / 'config.json'} does not describe a valid MOMENT "
                f"({type(error).__name__}: {reason}); download it again."
            ) from error
        load_strict(model, read_checkpoint(path), path, unused=("head.",))
    spec = definition.spec(
        weights,
        model,
        architecture=config,
        pooling=pooling,
        series=len(LEADS),
        size=config["t5_config"]["d_model"],
    )
    return MomentExpert(spec, model)
