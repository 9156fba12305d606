"""TimesNet (Wu et al., ICLR 2023, arXiv 2210.02186): convolutions on series folded by period.

Parameter names are those of thuml/Time-Series-Library, `models/TimesNet.py`, for imputation and
anomaly detection (without the forecasting layer), so that its checkpoints load. A model with one
channel treats each lead as a series; a model with twelve treats a record as one series.

The published code selects periods from the mean spectrum of the batch. Here each record selects
its own, so that an embedding does not depend on the other records of the batch.
"""

import math
import re
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from enecg.ecg_format import LEADS
from enecg.errors import UserError
from enecg.experts.base import ExpertDefinition, FrozenExpert, build_seeded
from enecg.experts.checkpoints import load_strict, open_checkpoint
from enecg.experts.preprocessing import Preprocessing
from enecg.experts.settings import ExpertSetting
from enecg.experts.weights import Weights
from enecg.signal import resample, standardize

STEPS = 500
MODEL_SIZE = 32
FEED_FORWARD_SIZE = 32
LAYERS = 2
KERNELS = 6
PERIODS = 3
"""Periods of a model with random weights."""
POSITIONS = 5000
_KERNEL = re.compile(r"model\.(\d+)\.conv\.(\d+)\.kernels\.(\d+)\.weight$")


class Inception(nn.Module):
    """The mean of square convolutions of sizes 1, 3, 5, ... (`Inception_Block_V1`).

    Args:
        channels_in: Input channels.
        channels_out: Output channels.
        kernels: Number of convolutions.
    """

    def __init__(self, channels_in: int, channels_out: int, kernels: int) -> None:
        super().__init__()
        self.kernels = nn.ModuleList(
            nn.Conv2d(channels_in, channels_out, 2 * size + 1, padding=size)
            for size in range(kernels)
        )
        for kernel in self.kernels:
            assert isinstance(kernel, nn.Conv2d)
            nn.init.kaiming_normal_(kernel.weight, mode="fan_out", nonlinearity="relu")
            assert kernel.bias is not None
            nn.init.zeros_(kernel.bias)

    def forward(
        self, image: Float[Tensor, "batch in row column"]
    ) -> Float[Tensor, "batch out row column"]:
        """Compute the mean of the convolutions as one, with the mean of the centered kernels."""
        widest = len(self.kernels) - 1
        weight = torch.stack(
            [
                functional.pad(kernel.get_parameter("weight"), [widest - size] * 4)
                for size, kernel in enumerate(self.kernels)
            ]
        ).mean(0)
        bias = torch.stack([kernel.get_parameter("bias") for kernel in self.kernels]).mean(0)
        # In a small image, the outer rows and columns of the kernel only meet padding.
        rows, columns = (min(widest, size - 1) for size in image.shape[-2:])
        weight = weight[
            :, :, widest - rows : widest + rows + 1, widest - columns : widest + columns + 1
        ]
        if image.device.type == "cpu":
            # 2.5 to 19 times as fast as the default layout with AVX2; as fast with AVX-512.
            weight = weight.contiguous(memory_format=torch.channels_last)
        return functional.conv2d(image, weight, bias, padding=(rows, columns))


class TimesBlock(nn.Module):
    """Folds series by the strongest periods, convolves, unfolds, and sums weighted by strength.

    Args:
        model_size: Features of the states.
        feed_forward_size: Channels between the two convolutions.
        kernels: Kernel sizes per convolution; see `Inception`.
        periods: Number of periods.
    """

    def __init__(self, model_size: int, feed_forward_size: int, kernels: int, periods: int) -> None:
        super().__init__()
        self.periods = periods
        self.conv = nn.Sequential(
            Inception(model_size, feed_forward_size, kernels),
            nn.GELU(),
            Inception(feed_forward_size, model_size, kernels),
        )

    def forward(
        self, states: Float[Tensor, "record lead time size"]
    ) -> Float[Tensor, "record lead time size"]:
        """Apply the block, with periods selected from the mean spectrum of each record's leads."""
        steps = states.shape[2]
        # Half precision would select other periods for the same record.
        with torch.autocast(states.device.type, enabled=False):
            amplitude = torch.fft.rfft(states.float(), dim=2).abs().mean(-1)
            spectrum = amplitude.mean(1)
            spectrum[:, 0] = 0
            frequency = spectrum.topk(self.periods, dim=-1).indices
        strength = amplitude.gather(2, frequency[:, None].expand(-1, states.shape[1], -1))
        weight = strength.softmax(-1).to(states.dtype)
        period = steps // frequency
        result = states
        for rank in range(self.periods):
            folded = self._apply_period(states, period[:, rank])
            result = result + folded * weight[:, :, rank, None, None]
        return result

    def _apply_period(
        self, states: Float[Tensor, "record lead time size"], period: Int64[Tensor, " record"]
    ) -> Float[Tensor, "record lead time size"]:
        result = torch.empty_like(states)
        # Records with the same period are convolved together.
        for length in sorted(set(period.tolist())):
            selected = period == length
            shape = states[selected].shape
            folded = self._convolve(states[selected].flatten(0, 1), length)
            result[selected] = folded.reshape(shape).to(result.dtype)
        return result

    def _convolve(
        self, states: Float[Tensor, "series time size"], period: int
    ) -> Float[Tensor, "series time size"]:
        steps = states.shape[1]
        rows = math.ceil(steps / period)
        padded = functional.pad(states, (0, 0, 0, rows * period - steps))
        # In memory, channels come last.
        image = padded.reshape(len(states), rows, period, -1).permute(0, 3, 1, 2)
        out: Tensor = self.conv(image if image.device.type == "cpu" else image.contiguous())
        return out.permute(0, 2, 3, 1).flatten(1, 2)[:, :steps]


class _TokenEmbedding(nn.Module):
    def __init__(self, channels: int, model_size: int) -> None:
        super().__init__()
        self.tokenConv = nn.Conv1d(
            channels, model_size, 3, padding=1, padding_mode="circular", bias=False
        )
        nn.init.kaiming_normal_(self.tokenConv.weight, mode="fan_in", nonlinearity="leaky_relu")


class _PositionalEmbedding(nn.Module):
    pe: Tensor

    def __init__(self, model_size: int) -> None:
        super().__init__()
        position = torch.arange(POSITIONS).float()[:, None]
        rate = torch.exp(torch.arange(0, model_size, 2) * -(math.log(10000.0) / model_size))
        pe = torch.zeros(1, POSITIONS, model_size)
        pe[0, :, 0::2] = torch.sin(position * rate)
        pe[0, :, 1::2] = torch.cos(position * rate)
        self.register_buffer("pe", pe)


class _DataEmbedding(nn.Module):
    def __init__(self, channels: int, model_size: int) -> None:
        super().__init__()
        self.value_embedding = _TokenEmbedding(channels, model_size)
        self.position_embedding = _PositionalEmbedding(model_size)

    def forward(
        self, series: Float[Tensor, "series channel time"]
    ) -> Float[Tensor, "series time size"]:
        value: Tensor = self.value_embedding.tokenConv(series).transpose(1, 2)
        return value + self.position_embedding.pe[:, : series.shape[2]]


class TimesNet(nn.Module):
    """TimesNet's encoder on standardized series.

    Args:
        channels: Leads per series: 1, or 12.
        model_size: Features of the states.
        feed_forward_size: Channels between the convolutions of a block.
        layers: Number of blocks.
        kernels: Kernel sizes per convolution.
        periods: Periods per block.
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
        self.enc_embedding = _DataEmbedding(channels, model_size)
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
            The states of each series: one per lead, or one per record.
        """
        records, count, steps = leads.shape
        channels = self.architecture["channels"]
        states = self.enc_embedding(leads.reshape(-1, channels, steps))
        states = states.reshape(records, count // channels, *states.shape[1:])
        for block in self.model:
            states = self.layer_norm(block(states))
        result: Tensor = states
        return result


class TimesNetExpert(FrozenExpert):
    """The last layer's states of each series, one token per sample."""

    model: TimesNet

    def states(
        self, ecg: Float[Tensor, "batch 12 5000"]
    ) -> Float[Tensor, "batch series 500 feature"]:
        """Compute the states; see `FrozenExpert.states`."""
        series = standardize(resample(ecg, STEPS))
        states: Tensor = self.model(series)
        return states


def _infer_architecture(tensors: dict[str, Tensor], path: Path) -> dict[str, int]:
    """Infer sizes from a checkpoint's shapes; `load_strict` reports keys that are missing."""
    if any(key.startswith("predict_linear.") for key in tensors):
        raise UserError(
            f"{path} is a TimesNet for forecasting (it has predict_linear), which extends its "
            "input; give one for imputation, anomaly detection or classification."
        )
    sizes = {}
    for key, tensor in tensors.items():
        if key == "enc_embedding.value_embedding.tokenConv.weight" and tensor.ndim == 3:
            sizes["model_size"], sizes["channels"] = tensor.shape[:2]
        elif found := _KERNEL.match(key):
            layer, kernel = int(found[1]), int(found[3])
            sizes["layers"] = max(sizes.get("layers", 0), layer + 1)
            sizes["kernels"] = max(sizes.get("kernels", 0), kernel + 1)
            if found[2] == "0":
                sizes["feed_forward_size"] = len(tensor)
    if sizes.get("channels", 1) not in (1, len(LEADS)):
        raise UserError(
            f"{path} has {sizes['channels']} input channels; use a TimesNet with 1 channel (one "
            f"series per lead) or {len(LEADS)} (one series per record)."
        )
    return sizes


TOP_K = ExpertSetting("top_k", "periods", default=5, minimum=1, maximum=STEPS // 2)
"""Default of `run.py` in the Time-Series-Library."""


def _build(
    definition: ExpertDefinition, weights: Weights, pooling: str, *, top_k: int | None = None
) -> TimesNetExpert:
    if weights.path is None:
        assert weights.seed is not None
        model = build_seeded(lambda: TimesNet(periods=top_k or PERIODS), weights.seed)
    else:
        checkpoint = open_checkpoint(weights.path)
        sizes = _infer_architecture(checkpoint.tensors, weights.path)
        periods = TOP_K.resolve(definition.name, top_k, checkpoint.config, weights.path)
        model = TimesNet(**sizes, periods=periods)
        load_strict(
            model,
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


TIMESNET = ExpertDefinition(
    name="timesnet",
    code_version=2,
    preprocessing=Preprocessing.resampled(STEPS, normalization="zscore"),
    pooling="mean-std",
    license="MIT",
    source="arXiv 2210.02186",
    published=None,
    embedding_size=88,
    parameters=1_172_384,
    build=_build,
    settings=(TOP_K,),
)
