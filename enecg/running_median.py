"""Running medians of tensors."""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional


def running_median(
    series: Float[Tensor, "*batch time"], width: int
) -> Float[Tensor, "*batch time"]:
    """Compute centered running medians, with zeros beyond both ends.

    The result is that of `scipy.signal.medfilt`, which is called on the CPU. On other devices, and
    if a gradient is required, the median is selected with tensor operations, which take several
    times as long on a CPU. Both give the same values.

    Args:
        series: The series.
        width: Number of samples in the window; odd.

    Returns:
        The median of the window around each sample.
    """
    if series.device.type == "cpu" and not (torch.is_grad_enabled() and series.requires_grad):
        # Imported here because training, which does not filter, should not wait for scipy.signal.
        from scipy.signal import medfilt

        flat = series.detach().flatten(0, -2).numpy()
        medians = np.stack([medfilt(row, width) for row in flat])
        return torch.from_numpy(medians).reshape(series.shape)
    half = width // 2
    padded = functional.pad(series.flatten(0, -2), (half, half))
    return padded.gather(1, _median_indices(padded.detach(), width)).reshape(series.shape)


def _median_indices(
    series: Float[Tensor, "series time"], width: int
) -> Int64[Tensor, "series window"]:
    """Return the index of the median of each window, by a wavelet matrix of the samples' ranks.

    The bits of the median's rank are determined from the highest to the lowest: the number of ranks
    in the window with a zero in this bit decides whether the median is among them. After each bit,
    ranks with a zero are moved to the front, so that the remaining ranks are consecutive.
    """
    count, steps = series.shape
    order = series.argsort(dim=-1)
    positions = torch.arange(steps, device=series.device).expand(count, -1)
    ranks = torch.empty_like(order).scatter_(1, order, positions)
    start = positions[:, : steps - width + 1]
    stop = start + width
    remaining = torch.full_like(start, width // 2)
    median = torch.zeros_like(start)
    for bit in reversed(range((steps - 1).bit_length())):
        is_one = ((ranks >> bit) & 1).bool()
        zeros = functional.pad((~is_one).cumsum(1), (1, 0))
        total = zeros[:, -1:]
        zeros_before, zeros_until = zeros.gather(1, start), zeros.gather(1, stop)
        inside = zeros_until - zeros_before
        above = remaining >= inside
        median = median + (above.long() << bit)
        remaining = torch.where(above, remaining - inside, remaining)
        start = torch.where(above, total + start - zeros_before, zeros_before)
        stop = torch.where(above, total + stop - zeros_until, zeros_until)
        target = torch.where(is_one, total + positions - zeros[:, :-1], zeros[:, :-1])
        ranks = torch.empty_like(ranks).scatter_(1, target, ranks)
    return order.gather(1, median)
