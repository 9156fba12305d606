"""ECGs and weights that any machine can make again, so that a golden file holds only outputs."""

from collections.abc import Mapping
from pathlib import Path
from zlib import crc32

import numpy as np
import torch

SAMPLES = 5000
GOLDEN = Path(__file__).parent / "golden"


def tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A parameter drawn from its name alone: normal, a tenth wide, and around 1 for norms.

    TimesNet's token convolution is wider, so that its rhythm is the ECG's and not the positions'.
    """
    wide = 3.0 if "tokenConv" in name else 0.1
    drawn = wide * np.random.RandomState(crc32(name.encode())).standard_normal(shape)
    around_one = len(shape) == 1 and name.endswith(("weight", ".affine_weight"))
    return torch.from_numpy((drawn + around_one).astype(np.float32))


def state_dict(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Every parameter of a model, by the names and shapes that it has in its source."""
    return {name: tensor(name, shape) for name, shape in shapes.items()}


def ecg(beats_per_minute: float, seed: int) -> torch.Tensor:
    """One record in mV, (12, 5000): beats at this rate, a wandering baseline, and noise."""
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
    """The two records of the golden files, (2, 12, 5000), at 61 and 118 beats a minute."""
    return torch.stack([ecg(61, seed=1), ecg(118, seed=2)])


def largest_deviation(here: torch.Tensor, there: np.ndarray) -> float:
    """The largest absolute difference between what we computed and what a golden file holds."""
    assert here.shape == there.shape
    return float((here - torch.from_numpy(there)).abs().max())
