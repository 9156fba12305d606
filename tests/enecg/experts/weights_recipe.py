"""Reproducible ECGs and weights, so that golden files need to contain only outputs."""

from collections.abc import Mapping
from pathlib import Path
from zlib import crc32

import numpy as np
import torch

SAMPLES = 5000
GOLDEN = Path(__file__).parent / "golden"


def tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return a random parameter, seeded by its name.

    The values are normal with an SD of 0.1 around 0, or around 1 for vectors whose name ends with
    ``weight``. The SD of TimesNet's token convolution is 3, so that the ECG and not the position
    embedding determines the periods.
    """
    scale = 3.0 if "tokenConv" in name else 0.1
    drawn = scale * np.random.RandomState(crc32(name.encode())).standard_normal(shape)
    around_one = len(shape) == 1 and name.endswith(("weight", ".affine_weight"))
    return torch.from_numpy((drawn + around_one).astype(np.float32))


def state_dict(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Return random parameters of a model with these names and shapes; see `tensor`."""
    return {name: tensor(name, shape) for name, shape in shapes.items()}


def scaled_state_dict(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Return random parameters of a deep model, scaled so that its states neither grow nor vanish.

    Matrices and kernels have an SD of 1 / sqrt(inputs per output). Other parameters are normal with
    an SD of 0.1 around 0, or around 1 for weights and variances of normalization layers.
    `num_batches_tracked` is 0.
    """
    tensors = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.zeros((), dtype=torch.int64)
            continue
        drawn = np.random.RandomState(crc32(name.encode())).standard_normal(tuple(shape))
        if len(shape) > 1:
            value = drawn / np.sqrt(np.prod(shape[1:]))
        else:
            value = 0.1 * drawn + name.endswith(("weight", "running_var"))
        tensors[name] = torch.from_numpy(value.astype(np.float32))
    return tensors


def ecg(beats_per_minute: float, seed: int) -> torch.Tensor:
    """Return a record in mV, (12, 5000), with regular beats, baseline wander and noise."""
    random = np.random.RandomState(seed)
    seconds = np.arange(SAMPLES) / 500
    phase = (seconds * beats_per_minute / 60 + 0.3) % 1
    size = random.uniform(0.3, 1.5, (12, 2)) * random.choice([-1, 1], (12, 2))
    spike = np.exp(-(((phase - 0.4) / 0.02) ** 2))
    wave = np.exp(-(((phase - 0.7) / 0.08) ** 2))
    drift = 0.2 * np.sin(2 * np.pi * 0.25 * seconds + random.uniform(0, 6, (12, 1)))
    noise = 0.03 * random.standard_normal((12, SAMPLES))
    record = size[:, :1] * spike + 0.3 * size[:, 1:] * wave + drift + noise
    return torch.from_numpy((record + random.uniform(-0.5, 0.5, (12, 1))).astype(np.float32))


def ecgs() -> torch.Tensor:
    """Return the two records of the golden files, (2, 12, 5000): 61 and 118 beats per minute."""
    return torch.stack([ecg(61, seed=1), ecg(118, seed=2)])


def max_deviation(computed: torch.Tensor, golden: np.ndarray) -> float:
    """Return the largest absolute difference between a computed tensor and a golden array."""
    assert computed.shape == golden.shape
    return float((computed - torch.from_numpy(golden)).abs().max())
