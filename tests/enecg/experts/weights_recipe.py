"""Reproducible ECGs and weights, so that golden files hold only outputs."""

from collections.abc import Mapping
from pathlib import Path
from zlib import crc32

import numpy as np
import torch

SAMPLES = 5000
GOLDEN = Path(__file__).parent / "golden"


def tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A parameter drawn from its name: normal with SD 0.1, around 1 for normalization layers.

    TimesNet's token convolution has SD 3, so that the ECG and not the position embedding
    determines the periods.
    """
    scale = 3.0 if "tokenConv" in name else 0.1
    drawn = scale * np.random.RandomState(crc32(name.encode())).standard_normal(shape)
    around_one = len(shape) == 1 and name.endswith(("weight", ".affine_weight"))
    return torch.from_numpy((drawn + around_one).astype(np.float32))


def state_dict(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """All parameters of a model, from the names and shapes in its source."""
    return {name: tensor(name, shape) for name, shape in shapes.items()}


def ecg(beats_per_minute: float, seed: int) -> torch.Tensor:
    """One record in mV, (12, 5000): regular beats, baseline wander and noise."""
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
    """The two records of the golden files, (2, 12, 5000), at 61 and 118 beats per minute."""
    return torch.stack([ecg(61, seed=1), ecg(118, seed=2)])


def max_deviation(computed: torch.Tensor, golden: np.ndarray) -> float:
    """The largest absolute difference between a computed tensor and a golden array."""
    assert computed.shape == golden.shape
    return float((computed - torch.from_numpy(golden)).abs().max())
