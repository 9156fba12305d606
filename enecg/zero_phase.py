"""Zero-phase IIR filters of tensors: `scipy.signal.sosfiltfilt` on any device, with gradients."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional

BLOCK_STEPS = 64
"""Samples per block. Within a block, the filter is a matrix product."""

Sections = tuple[tuple[float, ...], ...]
"""Second-order sections with six coefficients each, as `scipy.signal.sosfilt` expects them."""


@dataclass(frozen=True)
class _BlockFilter:
    """A recursive filter as linear maps of a block of samples and of the state before it.

    Attributes:
        output_of_input: Maps the samples of a block to its outputs.
        output_of_state: Maps the state before a block to its outputs.
        state_of_input: Maps the samples of a block to the state after it.
        state_of_state: Maps the state before a block to the state after it.
        steady: State in which a constant input of 1 gives a constant output.
    """

    output_of_input: Float64[Tensor, "step step"]
    output_of_state: Float64[Tensor, "state step"]
    state_of_input: Float64[Tensor, "step state"]
    state_of_state: Float64[Tensor, "state state"]
    steady: Float64[Tensor, " state"]


@lru_cache(maxsize=8)
def _block_filter(sections: Sections, device: torch.device) -> _BlockFilter:
    # Imported here because training, which does not filter, should not wait for scipy.signal.
    from scipy.signal import sosfilt, sosfilt_zi

    size = 2 * len(sections)
    units = np.eye(size).reshape(size, -1, 2).swapaxes(0, 1)
    inputs = sosfilt(sections, np.eye(BLOCK_STEPS), zi=np.zeros((len(sections), BLOCK_STEPS, 2)))
    states = sosfilt(sections, np.zeros((size, BLOCK_STEPS)), zi=units)
    maps = (
        inputs[0],
        states[0],
        inputs[1].swapaxes(0, 1).reshape(BLOCK_STEPS, size),
        states[1].swapaxes(0, 1).reshape(size, size),
        sosfilt_zi(sections).reshape(size),
    )
    # The cached tensors must not be inference tensors: autograd could not use them later.
    with torch.inference_mode(mode=False):
        return _BlockFilter(*(torch.from_numpy(part).to(device) for part in maps))


def _run(
    series: Float64[Tensor, "series time"], block: _BlockFilter
) -> Float64[Tensor, "series time"]:
    """Filter each series forward, from the steady state of its first sample."""
    steps = series.shape[-1]
    blocks = functional.pad(series, (0, -steps % BLOCK_STEPS)).unflatten(-1, (-1, BLOCK_STEPS))
    state = series[:, :1] * block.steady
    states = []
    for change in (blocks @ block.state_of_input).unbind(1):
        states.append(state)
        state = state @ block.state_of_state + change
    outputs: Tensor = blocks @ block.output_of_input
    outputs = outputs + torch.stack(states, 1) @ block.output_of_state
    return outputs.flatten(1)[:, :steps]


def filter_zero_phase(
    series: Float[Tensor, "*batch time"], sections: Sections
) -> Float64[Tensor, "*batch time"]:
    """Filter each series forward and backward, as `scipy.signal.sosfiltfilt` does by default.

    Both ends are extended by ``3 * (2 * len(sections) + 1)`` samples, with point symmetry about the
    first and last sample. The computation is in float64, because narrow filters of high order are
    inaccurate in float32. Autocast is disabled.

    Args:
        series: The series, longer than the extension.
        sections: The filter. Either b2 or a2 must be nonzero in all sections; for other filters,
            SciPy extends the ends by fewer samples.

    Returns:
        The filtered series.
    """
    block = _block_filter(sections, series.device)
    padding = 3 * (2 * len(sections) + 1)
    with torch.autocast(series.device.type, enabled=False):
        flat = series.double().flatten(0, -2)
        start = 2 * flat[:, :1] - flat[:, 1 : padding + 1].flip(-1)
        end = 2 * flat[:, -1:] - flat[:, -padding - 1 : -1].flip(-1)
        forward = _run(torch.cat([start, flat, end], dim=-1), block)
        both = _run(forward.flip(-1), block).flip(-1)
        return both[:, padding:-padding].reshape(series.shape)
