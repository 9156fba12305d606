"""TimesNet (Wu et al., ICLR 2023, arXiv 2210.02186): convolutions on series folded by period.

Parameter names are those of thuml/Time-Series-Library, `models/TimesNet.py`, for imputation,
anomaly detection and classification (without the forecasting layer), so that its checkpoints load.
A model with one channel treats each lead as a series; a model with twelve treats a record as one
series.

The published code selects periods from the mean spectrum of the batch. Here each record selects
its own, so that an embedding does not depend on the other records of the batch.
"""

import re
from dataclasses import replace
from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn

from enecg.ecg_format import LEADS
from enecg.errors import UserError
from enecg.experts.base import FrozenExpert, build_seeded
from enecg.experts.checkpoints import build_strict, open_checkpoint
from enecg.experts.definition import ExpertDefinition
from enecg.experts.definitions.timesnet import STEPS, TOP_K
from enecg.experts.reconstruction import Reconstruction
from enecg.experts.settings import ExpertSetting
from enecg.experts.timesnet_layers import DataEmbedding, TimesBlock
from enecg.experts.weights import Weights
from enecg.signal import resample, standardize

MODEL_SIZE = 32
FEED_FORWARD_SIZE = 32
LAYERS = 2
KERNELS = 6
PERIODS = 3
"""Number of periods of a model with random weights, unless `top_k` is set."""
_KERNEL = re.compile(r"model\.(\d+)\.conv\.(\d+)\.kernels\.(\d+)\.weight$")


class TimesNet(nn.Module):
    """TimesNet's encoder on standardized series.

    Args:
        channels: Leads per series: 1, or 12.
        model_size: Features of the states.
        feed_forward_size: Channels between the convolutions of a block.
        layers: Number of blocks.
        kernels: Number of kernel sizes per convolution.
        periods: Number of periods per block.
    """

    def __init__(
        self,
        channels: int = 1,
        model_size: int = MODEL_SIZE,
        feed_forward_size: int = FEED_FORWARD_SIZE,
        layers: int = LAYERS,
        kernels: int = KERNELS,
        periods: int = PERIODS,
    ) -> None:
        super().__init__()
        self.architecture = {
            "channels": channels,
            "model_size": model_size,
            "feed_forward_size": feed_forward_size,
            "layers": layers,
            "kernels": kernels,
            "periods": periods,
        }
        self.enc_embedding = DataEmbedding(channels, model_size)
        self.model = nn.ModuleList(
            TimesBlock(model_size, feed_forward_size, kernels, periods) for _ in range(layers)
        )
        self.layer_norm = nn.LayerNorm(model_size)

    def forward(
        self, leads: Float[Tensor, "record lead time"]
    ) -> Float[Tensor, "record series time size"]:
        """Compute the last layer's states.

        Args:
            leads: Standardized leads.

        Returns:
            The states of each series: one series per lead, or one per record.
        """
        records, count, steps = leads.shape
        channels = self.architecture["channels"]
        states = self.enc_embedding(leads.reshape(-1, channels, steps))
        states = states.reshape(records, count // channels, *states.shape[1:])
        for block in self.model:
            states = self.layer_norm(block(states))
        result: Tensor = states
        return result


class TimesNetImputation(TimesNet):
    """TimesNet with the source's last layer for imputation, which maps states to leads.

    Args:
        **sizes: Arguments of `TimesNet`.
    """

    def __init__(self, **sizes: int) -> None:
        super().__init__(**sizes)
        self.projection = nn.Linear(self.architecture["model_size"], self.architecture["channels"])

    def reconstruct(
        self, leads: Float[Tensor, "record lead time"]
    ) -> Float[Tensor, "record lead time"]:
        """Reconstruct leads whose masked samples are 0."""
        out: Tensor = self.projection(self(leads))
        return out.transpose(2, 3).reshape(leads.shape)


def _prepare(ecg: Float[Tensor, "batch 12 5000"]) -> Float[Tensor, "batch 12 500"]:
    return standardize(resample(ecg, STEPS))


class TimesNetExpert(FrozenExpert):
    """The last layer's states of each series, one token per sample."""

    model: TimesNet

    def states(
        self, ecg: Float[Tensor, "batch 12 5000"]
    ) -> Float[Tensor, "batch series 500 feature"]:
        """Compute the states; see `FrozenExpert.states`."""
        states: Tensor = self.model(_prepare(ecg))
        return states


def _infer_architecture(tensors: dict[str, Tensor], path: Path) -> dict[str, int]:
    """Infer sizes from a checkpoint's shapes; `build_strict` reports keys that are missing."""
    if any(key.startswith("predict_linear.") for key in tensors):
        raise UserError(
            f"{path} is a TimesNet for forecasting (it has predict_linear), which extends its "
            "input; use a checkpoint for imputation, anomaly detection or classification."
        )
    sizes = {}
    layers: set[str] = set()
    kernels: set[str] = set()
    for key, tensor in tensors.items():
        if key == "enc_embedding.value_embedding.tokenConv.weight" and tensor.ndim == 3:
            sizes["model_size"], sizes["channels"] = tensor.shape[:2]
        elif tensor.ndim and (found := _KERNEL.match(key)):
            layers.add(found[1])
            kernels.add(found[3])
            if found[2] == "0":
                sizes["feed_forward_size"] = len(tensor)
    if layers:
        # Numbers of indices, because an index in a damaged checkpoint can be large.
        sizes |= {"layers": len(layers), "kernels": len(kernels)}
    _check_channels(sizes.get("channels", 1), str(path))
    return sizes


def _check_channels(channels: int, where: str) -> None:
    if channels not in (1, len(LEADS)):
        raise UserError(
            f"{where}: {channels} input channels are not supported; use a TimesNet with 1 channel "
            f"(one series per lead) or {len(LEADS)} (one series per record)."
        )


def build(
    definition: ExpertDefinition, weights: Weights, pooling: str, *, top_k: int | None = None
) -> TimesNetExpert:
    """Build the expert; see `ExpertDefinition.build`."""
    if weights.path is None:
        assert weights.seed is not None
        model = build_seeded(lambda: TimesNet(periods=top_k or PERIODS), weights.seed)
    else:
        checkpoint = open_checkpoint(weights.path)
        sizes = _infer_architecture(checkpoint.tensors, weights.path)
        periods = TOP_K.resolve(definition.name, top_k, checkpoint.config, weights.path)
        model = build_strict(
            lambda: TimesNet(**sizes, periods=periods),
            checkpoint.tensors,
            weights.path,
            unused=("projection.", "enc_embedding.temporal_embedding."),
        )
    spec = definition.spec(
        weights,
        model,
        architecture=model.architecture,
        pooling=pooling,
        series=len(LEADS) // model.architecture["channels"],
        size=model.architecture["model_size"],
    )
    return TimesNetExpert(spec, model)


def _make_imputation(*, top_k: int, **sizes: int) -> TimesNetImputation:
    _check_channels(sizes["channels"], "--size")
    return TimesNetImputation(periods=top_k, **sizes)


RECONSTRUCTION = Reconstruction(
    sizes=(
        # One series per record: about seven times as fast as one per lead.
        ExpertSetting("channels", "channels", default=len(LEADS), minimum=1, maximum=len(LEADS)),
        ExpertSetting("model_size", "model_size", default=MODEL_SIZE, minimum=2, maximum=1024),
        ExpertSetting(
            *("feed_forward_size", "feed_forward_size"),
            default=FEED_FORWARD_SIZE,
            minimum=1,
            maximum=4096,
        ),
        ExpertSetting("layers", "layers", default=LAYERS, minimum=1, maximum=24),
        ExpertSetting("kernels", "kernels", default=KERNELS, minimum=1, maximum=12),
        replace(TOP_K, default=PERIODS),
    ),
    prepare=_prepare,
    make=_make_imputation,
    reconstruct=TimesNetImputation.reconstruct,
)
