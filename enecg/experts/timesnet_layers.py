"""Layers of TimesNet: convolutions on series folded by period, and the embedding of the input."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

POSITIONS = 5000
"""Length of the table of position embeddings, as in the published code."""


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
        """Compute the mean as one convolution, with the mean of the zero-padded kernels."""
        widest = len(self.kernels) - 1
        weight = torch.stack(
            [
                functional.pad(kernel.get_parameter("weight"), [widest - size] * 4)
                for size, kernel in enumerate(self.kernels)
            ]
        ).mean(0)
        bias = torch.stack([kernel.get_parameter("bias") for kernel in self.kernels]).mean(0)
        # In a small image, the outer rows and columns of the kernel cover only padding.
        rows, columns = (min(widest, size - 1) for size in image.shape[-2:])
        weight = weight[
            :, :, widest - rows : widest + rows + 1, widest - columns : widest + columns + 1
        ]
        if image.device.type == "cpu":
            # With AVX2, this layout is 2.5 to 19 times as fast as the default; with AVX-512, it is
            # as fast.
            weight = weight.contiguous(memory_format=torch.channels_last)
        return functional.conv2d(image, weight, bias, padding=(rows, columns))


class TimesBlock(nn.Module):
    """Convolutions on series folded by the strongest periods, weighted by strength, plus the input.

    Args:
        model_size: Features of the states.
        feed_forward_size: Channels between the two convolutions.
        kernels: Number of kernel sizes per convolution; see `Inception`.
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
        pe[0, :, 1::2] = torch.cos(position * rate[: model_size // 2])
        self.register_buffer("pe", pe)


class DataEmbedding(nn.Module):
    """Embedding of each sample of a series and of its position.

    Args:
        channels: Channels of the series.
        model_size: Features of the states.
    """

    def __init__(self, channels: int, model_size: int) -> None:
        super().__init__()
        self.value_embedding = _TokenEmbedding(channels, model_size)
        self.position_embedding = _PositionalEmbedding(model_size)

    def forward(
        self, series: Float[Tensor, "series channel time"]
    ) -> Float[Tensor, "series time size"]:
        """Compute the input of the first block."""
        value: Tensor = self.value_embedding.tokenConv(series).transpose(1, 2)
        return value + self.position_embedding.pe[:, : series.shape[2]]
